/**
 * The files of a room. A file is offered to everybody on the line, and sent to whoever requests it: small
 * ones are requested at once, large ones when the person asks for them. The host keeps what it has received
 * and offers it to its other guests, also to those who come later, so a file has arrived in the room once the
 * host has it.
 *
 * A file whose line is lost waits for the next one, and goes on where it was: also when this tab was reloaded, or the sender's.
 *
 * Everything that a peer says is checked here: sizes, names, and that nothing comes that was not asked for.
 */
import { cleanLine, randomId } from './format.js';
import { Line } from './line.js';
import { digestOf } from './hasher.js';
import { Delivery, Receipt } from './transfer.js';

/** Files up to this size are received without asking, until the budget is used up (bytes). */
const WITHOUT_ASKING = 256 * 1024 * 1024;
const BUDGET = 1024 * 1024 * 1024;
const MAX_ENTRIES = 500;
const MAX_FILE_NAME = 200;

/**
 * All files of a room, in `entries` by their IDs. An entry's states: shared (ours), offered, waiting,
 * receiving, paused (its sender is away), done, failed. Event `change` with the entry as its detail.
 */
export class Shelf extends EventTarget {
  entries = new Map();
  #lines = new Set();
  #budget = BUDGET;

  /** Resolves when what was kept is here. */
  ready;

  /** `passOn`: offer what was received to the others, as a host does. `store` keeps the files. */
  constructor(passOn, store) {
    super();
    this.passOn = passOn;
    this.store = store;
    this.ready = this.#restore();
  }

  async #restore() {
    for (const kept of await this.store.all('files')) {
      const { id, name, size, from, mine, blob, sha256, verified } = kept;
      const entry = { id, name, size, from, mine, blob, sha256, verified, deliveries: new Map(), line: null };
      if (blob) {
        entry.state = mine ? 'shared' : 'done';
        entry.digest = sha256 ? Promise.resolve(sha256) : digestOf(blob);
      } else {
        entry.state = 'paused';
        entry.wanted = true;
        entry.receipt = this.#receiptOf(entry);
        await entry.receipt.refill(await this.store.all('parts', id));
      }
      this.entries.set(id, entry);
    }
  }

  /** Tells of all that is there. */
  show() {
    for (const entry of this.entries.values()) this.#changed(entry);
  }

  #keep({ id, name, size, from, mine, blob, sha256, verified }) {
    return this.store.put('files', [id], { id, name, size, from, mine, blob, sha256, verified });
  }

  #receiptOf(entry) {
    return new Receipt(entry, this.store, () => this.#changed(entry), result => this.#received(entry, result));
  }

  /** Offers `file` to everybody, now and later. */
  add(file) {
    const entry = {
      id: randomId(),
      name: file.name,
      size: file.size,
      blob: file,
      mine: true,
      state: 'shared',
      deliveries: new Map(),
      digest: digestOf(file),
    };
    entry.digest.then(sha256 => {
      entry.sha256 = sha256;
      this.#keep(entry);
      this.#changed(entry);
    });
    this.#keep(entry);
    this.entries.set(entry.id, entry);
    this.#changed(entry);
    for (const line of this.#lines) this.#offer(entry, line);
    return entry;
  }

  /** Starts to share over a socket, which is open. */
  attach(socket, person) {
    // A page that was reloaded has a new line, maybe before the end of its first is known here.
    for (const before of [...this.#lines]) if (before.person.id === person.id) before.end();
    const line = new Line(socket, person, this);
    this.#lines.add(line);
    for (const entry of this.entries.values()) this.#offer(entry, line);
  }

  detach(line) {
    this.#lines.delete(line);
    for (const entry of this.entries.values()) {
      const delivery = entry.deliveries.get(line);
      // They may ask for the rest over another line.
      if (delivery && delivery.state !== 'done') entry.deliveries.delete(line);
      if (entry.line === line && ['offered', 'waiting', 'receiving'].includes(entry.state)) {
        entry.line = null;
        entry.state = 'paused';
      }
      this.#changed(entry);
    }
  }

  /** Asks for a file that was offered, or again for one that failed. */
  request(entry) {
    entry.state = 'waiting';
    entry.wanted = true;
    entry.line.tell({ type: 'request', id: entry.id, at: entry.receipt?.meter.bytes ?? 0 });
    this.#changed(entry);
  }

  /** Stops what is on its way: of our own file all deliveries, of another's the receipt. */
  cancel(entry) {
    for (const delivery of entry.deliveries.values()) {
      if (delivery.state === 'queued' || delivery.state === 'sending') delivery.become('cancelled');
    }
    if (['waiting', 'receiving', 'paused'].includes(entry.state)) {
      entry.line?.tell({ type: 'cancel', id: entry.id });
      if (entry.receipt) entry.receipt.fail('Cancelled');
      else Object.assign(entry, { state: 'failed', problem: 'Cancelled' });
    }
    this.#changed(entry);
  }

  // Messages from the other side of a line.

  offered(line, { id, name, size, from }) {
    if (!Number.isSafeInteger(size) || size < 0) return;
    const known = this.entries.get(id);
    if (known?.blob) return line.tell({ type: 'checked', id, sha256: known.sha256 });
    if (known && known.state !== 'failed' && known.state !== 'paused') return;
    if (!known && this.entries.size >= MAX_ENTRIES) return;
    const entry = known ?? { id, deliveries: new Map() };
    // Another file under its ID would not be the rest of this one.
    const goesOn = known?.state === 'paused' && known.size === size;
    if (!goesOn) entry.receipt = null;
    Object.assign(entry, {
      name: cleanLine(name, MAX_FILE_NAME) || 'file',
      size,
      line,
      state: 'offered',
      problem: '',
      // Only the host knows who a file comes from, and believes nobody else.
      from: this.passOn ? line.person.name : cleanLine(from, 64) || line.person.name,
    });
    this.entries.set(id, entry);
    this.#changed(entry);
    if (goesOn && entry.wanted) return this.request(entry);
    if (size <= WITHOUT_ASKING && size <= this.#budget) {
      this.#budget -= size;
      this.request(entry);
    }
  }

  requested(line, id, at) {
    const entry = this.entries.get(id);
    const delivery = entry?.deliveries.get(line);
    if (!delivery || delivery.state === 'queued' || delivery.state === 'sending') return;
    delivery.from = Number.isSafeInteger(at) && at >= 0 && at <= entry.size ? at : 0;
    delivery.become('queued');
    line.send(delivery);
  }

  /** The receipt that takes the bytes which follow; null when this file was not asked for on this line. */
  begun(line, id, at) {
    const entry = this.entries.get(id);
    if (entry?.line !== line || entry.state !== 'waiting') return null;
    entry.state = 'receiving';
    if (!entry.receipt) {
      entry.receipt = this.#receiptOf(entry);
      this.#keep(entry);
    }
    if ((at ?? 0) !== entry.receipt.meter.bytes) {
      line.tell({ type: 'cancel', id });
      entry.receipt.fail('The sender did not go on where it stopped');
      return null;
    }
    entry.receipt.goOn(line);
    this.#changed(entry);
    return entry.receipt;
  }

  aborted(line, id) {
    const entry = this.entries.get(id);
    if (entry?.line !== line) return;
    if (entry.state === 'receiving') entry.receipt.fail('The sender stopped');
    else if (entry.state === 'waiting') this.#received(entry, { problem: 'The sender stopped' });
  }

  cancelled(line, id) {
    const delivery = this.entries.get(id)?.deliveries.get(line);
    if (delivery && delivery.state !== 'done') delivery.become('cancelled');
  }

  async checked(line, id, sha256) {
    const entry = this.entries.get(id);
    const delivery = entry?.deliveries.get(line);
    if (!delivery) return;
    const own = await entry.digest;
    delivery.verified = own && typeof sha256 === 'string' ? own === sha256 : null;
    delivery.become('done');
  }

  #received(entry, { blob, sha256, verified, problem }) {
    if (problem || verified === false) {
      Object.assign(entry, { state: 'failed', problem: problem ?? 'The SHA-256 does not match', verified, receipt: null, wanted: false });
      for (const name of ['files', 'parts']) this.store.delete(name, entry.id);
    } else {
      Object.assign(entry, { state: 'done', blob, sha256, verified, digest: Promise.resolve(sha256) });
      this.#keep(entry).then(() => this.store.delete('parts', entry.id));
      for (const line of this.#lines) this.#offer(entry, line);
    }
    this.#changed(entry);
  }

  #offer(entry, line) {
    if (!entry.blob || entry.line === line || !(entry.mine || this.passOn)) return;
    // A guest sends to its host only; the host of a new line is the one of the line before.
    if (!this.passOn) entry.deliveries.clear();
    entry.deliveries.set(line, new Delivery(entry, line, () => this.#changed(entry)));
    line.tell({ type: 'offer', id: entry.id, name: entry.name, size: entry.size, from: entry.from });
    this.#changed(entry);
  }

  #changed(entry) {
    this.dispatchEvent(new CustomEvent('change', { detail: entry }));
  }
}
