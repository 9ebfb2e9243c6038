/** One file on its way: to somebody (`Delivery`), or to us (`Receipt`). */
import { RunningDigest } from './hasher.js';

/** The number of bytes that are stored, hashed and confirmed at once. */
const BATCH = 1024 * 1024;

/** Bytes over time, for people: an average over the last seconds while it runs, over all of it at the end. */
class Meter {
  #started = performance.now();
  #ended = null;
  #from;
  #marks;
  bytes;

  /** `from` is where it goes on. */
  constructor(from = 0) {
    this.bytes = this.#from = from;
    this.#marks = [[this.#started, from]];
  }

  advance(bytes) {
    const now = performance.now();
    this.bytes = bytes;
    if (now - this.#marks.at(-1)[0] > 200) this.#marks = [...this.#marks, [now, bytes]].slice(-15);
  }

  end() {
    this.#ended ??= performance.now();
  }

  /** Bytes a second. */
  get speed() {
    const [since, before] = this.#ended ? [this.#started, this.#from] : this.#marks[0];
    return (this.bytes - before) / Math.max(0.001, ((this.#ended ?? performance.now()) - since) / 1000);
  }
}

/** One file on its way to one person. States: offered, queued, sending, done, failed, cancelled. */
export class Delivery {
  state = 'offered';
  /** The bytes that the other side had already when it asked. */
  from = 0;
  got = 0;
  meter = null;
  verified = null;

  constructor(entry, line, changed) {
    Object.assign(this, { entry, line, changed });
  }

  get id() {
    return this.entry.id;
  }

  get cancelled() {
    return this.state === 'cancelled';
  }

  become(state, problem = '') {
    this.state = state;
    this.problem = problem;
    if (state === 'queued') Object.assign(this, { got: this.from, meter: null, verified: null });
    else this.meter?.end();
    this.changed();
  }

  progress(bytes) {
    if (this.state === 'queued') {
      this.state = 'sending';
      this.meter = new Meter(this.from);
    }
    this.meter?.advance(bytes);
    this.changed();
  }

  fail(problem) {
    if (!this.cancelled) this.become('failed', problem);
  }
}

/** One file on its way to us, over one line after another. Its parts are kept, so that it goes on when this tab was reloaded. */
export class Receipt {
  #batch = [];
  #batched = 0;
  #blobs = [];
  #hashed = 0;
  #over = false;
  meter = new Meter();

  /** The line that it comes over; null while there is none. */
  line = null;
  /** The bytes that had come over earlier lines. */
  resumedAt = 0;

  constructor(entry, store, changed, done) {
    Object.assign(this, { entry, store, changed, done });
    this.digest = new RunningDigest(bytes => {
      this.#hashed += bytes;
      this.line?.tell({ type: 'got', id: entry.id, bytes: this.#hashed });
    });
  }

  /** Takes the parts that were kept, as far as they follow each other. */
  async refill(parts) {
    for (const { from, blob } of parts) {
      if (from !== this.meter.bytes || from + blob.size > this.entry.size) break;
      const bytes = await blob.arrayBuffer();
      this.#blobs.push(blob);
      this.meter.advance(from + blob.size);
      this.digest.update([bytes]);
    }
    this.meter = new Meter(this.meter.bytes);
  }

  /** The rest comes over this line. */
  goOn(line) {
    this.line = line;
    this.resumedAt = this.meter.bytes;
    this.meter = new Meter(this.meter.bytes);
  }

  /** The line is lost: what has come stays. */
  pause() {
    if (this.#over) return;
    this.line = null;
    if (this.#batched) this.#store();
  }

  take(buffer) {
    if (this.#over) return;
    this.#batch.push(buffer);
    this.#batched += buffer.byteLength;
    this.meter.advance(this.meter.bytes + buffer.byteLength);
    if (this.meter.bytes > this.entry.size) {
      this.line?.tell({ type: 'cancel', id: this.entry.id });
      return this.fail('More came than was announced');
    }
    // The last batch goes at once: the sender waits until all of it is confirmed.
    if (this.#batched >= BATCH || this.meter.bytes === this.entry.size) this.#store();
    this.changed();
  }

  async end(announced) {
    if (this.#over) return;
    this.#over = true;
    this.meter.end();
    if (this.meter.bytes < this.entry.size) {
      this.digest.drop();
      return this.done({ problem: 'Less came than was announced' });
    }
    const sha256 = await this.digest.finish();
    const verified = sha256 && announced ? sha256 === announced : null;
    this.line?.tell({ type: 'checked', id: this.entry.id, sha256 });
    // Of no type, so that opening it never shows a stranger's page with this page's rights.
    this.done({ blob: new Blob(this.#blobs, { type: 'application/octet-stream' }), sha256, verified });
  }

  fail(problem) {
    if (this.#over) return;
    this.#over = true;
    this.meter.end();
    this.digest.drop();
    this.#batch = this.#blobs = [];
    this.done({ problem });
  }

  #store() {
    const blob = new Blob(this.#batch);
    const from = this.#blobs.reduce((sum, { size }) => sum + size, 0);
    this.store.put('parts', [this.entry.id, this.#blobs.length], { from, blob });
    this.#blobs.push(blob);
    this.digest.update(this.#batch);
    this.#batch = [];
    this.#batched = 0;
  }
}
