/**
 * The files port between two tabs: offers, requests and one file at a time each way over one socket.
 *
 * JSON texts: offer {id, name, size, from} · request {id, at} · begin {id, at} · end {id, sha256} · abort {id} · got
 * {id, bytes} · checked {id, sha256} · cancel {id}. Binary messages are the bytes of the file begun last, so
 * that no byte of it needs a header. `at` is the number of bytes that the receiver has already, of an earlier line.
 */

/** Bytes of one message: few enough messages to be fast, and small enough for a smooth progress bar. */
const CHUNK = 256 * 1024;
/** Bytes read from the disk at once. */
const BLOCK = 4 * 1024 * 1024;
/** Bytes that may wait in the socket: enough to keep it busy. */
const HIGH_WATER = 4 * 1024 * 1024;
/** Bytes that the receiver may be behind with storing and hashing. */
const WINDOW = 16 * 1024 * 1024;
/**
 * The time after which `bufferedAmount` is looked at again, in milliseconds. No event tells that it fell, and browsers slow
 * timers of hidden tabs down to one a second, so `got` messages wake the sender as well.
 */
const LOOK_AGAIN = 20;

export class Line {
  #socket;
  #shelf;
  #queue = [];
  #sending = null;
  #receipt = null;
  #wake = null;
  #isOver = false;

  /** `person` is who is at the other end; `shelf` takes the offers, requests and files. */
  constructor(socket, person, shelf) {
    this.#socket = socket;
    this.person = person;
    this.#shelf = shelf;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('message', ({ data }) => this.#handle(data));
    socket.addEventListener('close', () => this.end());
  }

  /** Nothing more comes over it: its socket has closed, or the same person has another line. */
  end() {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#receipt?.pause();
    this.#receipt = null;
    this.#wake?.();
    this.#shelf.detach(this);
  }

  get open() {
    return !this.#isOver && this.#socket.readyState === 1;
  }

  tell(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
  }

  /** Sends the delivery's file after those that are already waiting here. */
  send(delivery) {
    this.#queue.push(delivery);
    if (!this.#sending) this.#sendAll();
  }

  #handle(data) {
    if (this.#isOver) return undefined;
    if (typeof data !== 'string') return this.#receipt?.take(data);
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    const { type, id } = Object(message);
    if (typeof id !== 'string') return;
    switch (type) {
      case 'offer':
        return this.#shelf.offered(this, message);
      case 'request':
        return this.#shelf.requested(this, id, message.at);
      case 'begin':
        this.#receipt = this.#shelf.begun(this, id, message.at);
        return;
      case 'end':
        this.#receipt?.end(message.sha256);
        this.#receipt = null;
        return;
      case 'abort':
        this.#shelf.aborted(this, id);
        this.#receipt = null;
        return;
      case 'got':
        if (this.#sending?.id === id && message.bytes > this.#sending.got) this.#sending.got = message.bytes;
        return this.#wake?.();
      case 'checked':
        return this.#shelf.checked(this, id, message.sha256);
      case 'cancel':
        this.#shelf.cancelled(this, id);
        return this.#wake?.();
    }
  }

  async #sendAll() {
    while ((this.#sending = this.#queue.shift())) {
      const delivery = this.#sending;
      if (delivery.cancelled) {
        this.tell({ type: 'abort', id: delivery.id });
        continue;
      }
      this.tell({ type: 'begin', id: delivery.id, at: delivery.from });
      try {
        await this.#sendBytes(delivery);
        const sha256 = await delivery.entry.digest;
        if (delivery.cancelled) this.tell({ type: 'abort', id: delivery.id });
        else this.tell({ type: 'end', id: delivery.id, sha256 });
      } catch (error) {
        delivery.fail(error.message);
        this.tell({ type: 'abort', id: delivery.id });
      }
    }
  }

  async #sendBytes(delivery) {
    const { blob } = delivery.entry;
    const stopped = () => delivery.cancelled || !this.open;
    let sent = delivery.from;
    for (let at = delivery.from; at < blob.size && !stopped(); at += BLOCK) {
      const block = new Uint8Array(
        await blob
          .slice(at, at + BLOCK)
          .arrayBuffer()
          .catch(() => {
            throw new Error('The file could not be read');
          }),
      );
      for (let from = 0; from < block.length && !stopped(); from += CHUNK) {
        const chunk = block.subarray(from, from + CHUNK);
        this.#socket.send(chunk);
        sent += chunk.length;
        do {
          delivery.progress(Math.max(delivery.got, sent - this.#socket.bufferedAmount));
          if (this.#socket.bufferedAmount < HIGH_WATER && sent - delivery.got < WINDOW) break;
          await this.#look();
        } while (!stopped());
      }
    }
    // Bytes that are still in the socket are on their way, but not there yet.
    while (delivery.got < sent && !stopped()) {
      delivery.progress(Math.max(delivery.got, sent - this.#socket.bufferedAmount));
      await this.#look();
    }
    if (!this.open) throw new Error('The connection was lost');
  }

  /** A promise that something may have changed since. */
  #look() {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, LOOK_AGAIN);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
