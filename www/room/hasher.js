/** The page's side of `hash-worker.js`. Where no worker can run, every digest is null: "not checked". */

let worker = null;
let nextId = 1;
/** By request: what to do with the worker's answers. */
const requests = new Map();

/** A promise of the SHA-256 of `blob` in hexadecimal; null when it can't be computed. */
export function digestOf(blob) {
  return new Promise(resolve => request({ blob }, [], { done: resolve }));
}

/** A digest that grows as chunks arrive. */
export class RunningDigest {
  #id;
  #result;

  /** `onprogress(bytes)` tells after each `update` how many more bytes are digested. */
  constructor(onprogress) {
    this.#result = new Promise(done => (this.#id = request(null, [], { done, progress: onprogress })));
  }

  /** Takes ArrayBuffers, which are transferred: they are empty afterwards. */
  update(chunks) {
    post({ id: this.#id, chunks }, chunks);
  }

  /** A promise of the digest in hexadecimal; null when it can't be computed. */
  finish() {
    post({ id: this.#id, finish: true });
    return this.#result;
  }

  drop() {
    post({ id: this.#id, drop: true });
    requests.delete(this.#id);
  }
}

function request(message, transfer, handlers) {
  const id = nextId++;
  requests.set(id, { ...handlers, outstanding: 0, last: false });
  if (message) post({ id, ...message }, transfer);
  return id;
}

function post(message, transfer = []) {
  const known = requests.get(message.id);
  for (const chunk of message.chunks ?? []) known.outstanding += chunk.byteLength;
  if (message.blob || message.finish) known.last = true;
  worker ??= start();
  if (worker === 'failed') giveUp(message.id);
  else worker.postMessage(message, transfer);
}

function start() {
  try {
    const started = new Worker(new URL('./hash-worker.js', import.meta.url), { type: 'module' });
    started.onmessage = ({ data }) => answer(data);
    started.onerror = () => {
      worker = 'failed';
      for (const id of [...requests.keys()]) giveUp(id);
    };
    return started;
  } catch {
    return 'failed';
  }
}

function answer({ id, sha256, bytes }) {
  const known = requests.get(id);
  if (!known) return;
  if (bytes !== undefined) {
    known.outstanding -= bytes;
    return known.progress(bytes);
  }
  requests.delete(id);
  known.done(sha256);
}

/** Without a worker: confirms what came in, so that transfers go on, and leaves it unchecked. */
function giveUp(id) {
  const known = requests.get(id);
  if (known?.outstanding > 0) answer({ id, bytes: known.outstanding });
  if (known?.last) answer({ id, sha256: null });
}
