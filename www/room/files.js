/**
 * The files of a room. A file is offered to everybody on the line, and sent to whoever requests it: small
 * ones are requested at once, large ones when the person asks for them. The host keeps what it has received
 * and offers it to its other guests, also to those who come later, so a file has arrived in the room once the
 * host has it.
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
 * receiving, done, failed. Event `change` with the entry as its detail.
 */
export class Shelf extends EventTarget {
  entries = new Map();
  #lines = new Set();
  #budget = BUDGET;

  /** `passOn`: offer what was received to the others, as a host does. */
  constructor(passOn) {
    super();
    this.passOn = passOn;
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
      this.#changed(entry);
    });
    this.entries.set(entry.id, entry);
    this.#changed(entry);
    for (const line of this.#lines) this.#offer(entry, line);
    return entry;
  }

  /** Starts to share over a socket, which is open. */
  attach(socket, person) {
    const line = new Line(socket, person, this);
    this.#lines.add(line);
    for (const entry of this.entries.values()) this.#offer(entry, line);
  }

  detach(line) {
    this.#lines.delete(line);
    for (const entry of this.entries.values()) {
      const delivery = entry.deliveries.get(line);
      if (delivery?.state === 'offered') entry.deliveries.delete(line);
      else if (delivery && delivery.state !== 'done') delivery.fail('The connection was lost');
      if (entry.line === line && (entry.state === 'offered' || entry.state === 'waiting')) {
        entry.state = 'failed';
        entry.problem = 'No longer offered';
      }
      this.#changed(entry);
    }
  }

  /** Asks for a file that was offered, or again for one that failed. */
  request(entry) {
    entry.state = 'waiting';
    entry.line.tell({ type: 'request', id: entry.id });
    this.#changed(entry);
  }

  /** Stops what is on its way: of our own file all deliveries, of another's the receipt. */
  cancel(entry) {
    for (const delivery of entry.deliveries.values()) {
      if (delivery.state === 'queued' || delivery.state === 'sending') delivery.become('cancelled');
    }
    if (entry.state === 'waiting' || entry.state === 'receiving') {
      entry.line.tell({ type: 'cancel', id: entry.id });
      if (entry.receipt) entry.receipt.fail('Cancelled');
      else Object.assign(entry, { state: 'failed', problem: 'Cancelled' });
    }
    this.#changed(entry);
  }

  // What the other side of a line says.

  offered(line, { id, name, size, from }) {
    if (!Number.isSafeInteger(size) || size < 0) return;
    const known = this.entries.get(id);
    if (known?.blob) return line.tell({ type: 'checked', id, sha256: known.sha256 });
    if (known && known.state !== 'failed') return;
    if (!known && this.entries.size >= MAX_ENTRIES) return;
    const entry = known ?? { id, deliveries: new Map() };
    Object.assign(entry, {
      name: cleanLine(name, MAX_FILE_NAME) || 'file',
      size,
      line,
      state: 'offered',
      receipt: null,
      problem: '',
      // Only the host knows who a file comes from, and believes nobody else.
      from: this.passOn ? line.person.name : cleanLine(from, 64) || line.person.name,
    });
    this.entries.set(id, entry);
    this.#changed(entry);
    if (size <= WITHOUT_ASKING && size <= this.#budget) {
      this.#budget -= size;
      this.request(entry);
    }
  }

  requested(line, id) {
    const delivery = this.entries.get(id)?.deliveries.get(line);
    if (!delivery || delivery.state === 'queued' || delivery.state === 'sending') return;
    delivery.become('queued');
    line.send(delivery);
  }

  /** The receipt that takes the bytes which follow; null when this file was not asked for on this line. */
  begun(line, id) {
    const entry = this.entries.get(id);
    if (entry?.line !== line || entry.state !== 'waiting') return null;
    entry.state = 'receiving';
    entry.receipt = new Receipt(
      entry,
      line,
      () => this.#changed(entry),
      result => this.#received(entry, result),
    );
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
      Object.assign(entry, { state: 'failed', problem: problem ?? 'The SHA-256 does not match', verified });
    } else {
      Object.assign(entry, { state: 'done', blob, sha256, verified, digest: Promise.resolve(sha256) });
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
