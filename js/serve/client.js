// The side that asks: `fetchThrough`, with sockets that are kept for a while and used again.

// The main module of the package, beside which the bundle of this one lies.
import { PeerToPeerWebSocket, TunnelError } from './tunnel_wasm.js';

import { BAD_FRAME, CANCELLED, FrameError, HTTP, MAX_PIECE, parseResponse, readBody, writeBody, writeHead } from './frames.js';
import { ServedResponse } from './messages.js';

/** Most sockets to one port of a server, as browsers open to one host. */
const MAX_SOCKETS = 6;
/** The time for which an idle socket is kept, in milliseconds. */
const KEEP_IDLE = 10_000;
const MAX_REDIRECTS = 20;
const REDIRECTS = [301, 302, 303, 307, 308];
/** Methods that may be sent again when nobody knows whether they arrived. */
const REPEATABLE = ['GET', 'HEAD', 'OPTIONS'];

/** A server ID and a port, then path and query. */
const TARGET = /\/([a-z2-7]{56}\/\d{1,5})(?=[/?]|$)/gi;

export async function fetchThrough(url, init = {}) {
  const { tunnel, redirect = 'follow', signal } = init;
  signal?.throwIfAborted();
  let { base, target } = split(`${url}`);
  let { method, headers, body } = await toRequest(init);
  for (let redirects = 0; ; redirects++) {
    const pool = poolFor(base, tunnel);
    const response = await pool.ask({ method, url: target, headers, body, signal });
    const location = response.headers.get('location');
    if (redirect === 'manual' || location === null || !REDIRECTS.includes(response.status)) return response;
    response.body?.cancel();
    if (redirect === 'error') throw new TypeError(`the server redirects to ${location}`);
    if (redirects === MAX_REDIRECTS) throw new TypeError(`the server redirects more than ${MAX_REDIRECTS} times`);
    target = follow(target, location);
    if (becomesGet(response.status, method)) {
      [method, body] = ['GET', null];
      for (const name of ['content-type', 'content-length', 'content-encoding', 'content-language']) headers.delete(name);
    } else if (body instanceof ReadableStream) {
      throw new TypeError(`the server redirects to ${location}, and the body, a stream, can't be sent twice`);
    }
  }
}

/** True if a redirection makes a GET of the request, as `fetch` has it. */
const becomesGet = (status, method) =>
  status === 303 ? method !== 'GET' && method !== 'HEAD' : status < 303 && method === 'POST';

/** Takes a URL apart: `base` ends with the port, `target` is path and query. */
function split(text) {
  const url = new URL(text);
  url.protocol = url.protocol.replace('http', 'ws');
  url.hash = '';
  const found = [...url.href.matchAll(TARGET)];
  if (found.length !== 1) {
    const message = `'${text}' does not have the form RELAY/SERVER_ID/PORT/path, as \`\${server.url}/80/path\` has`;
    throw new DOMException(message, 'SyntaxError');
  }
  const end = found[0].index + found[0][0].length;
  const target = url.href.slice(end);
  return { base: url.href.slice(0, end), target: target.startsWith('/') ? target : `/${target}` };
}

/** A server redirects to a path of its own; there is no way to another one. */
function follow(target, location) {
  const origin = 'https://server.invalid';
  const to = new URL(location, origin + target);
  if (to.origin !== origin) throw new TypeError(`the server redirects to ${location}, which is not its own`);
  return to.pathname + to.search;
}

/** Method, headers and body as a `Request` has them, but with all headers. */
async function toRequest({ method = 'GET', headers, body = null }) {
  const isStream = body instanceof ReadableStream;
  // It checks the method and the body's type; for a stream, browsers want more.
  const request = new Request('https://server.invalid', { method, body: isStream ? 'a stream' : body });
  const all = new Headers(headers);
  const type = request.headers.get('content-type');
  if (type !== null && !isStream && !all.has('content-type')) all.set('content-type', type);
  const bytes = body === null || isStream ? body : new Uint8Array(await request.arrayBuffer());
  return { method: request.method, headers: all, body: bytes };
}

/** Pools by the options of their sockets, then by URL. */
const pools = new WeakMap();
const WITHOUT_OPTIONS = {};

function poolFor(base, options = WITHOUT_OPTIONS) {
  if (!pools.has(options)) pools.set(options, new Map());
  const byUrl = pools.get(options);
  if (!byUrl.has(base)) byUrl.set(base, new Pool(base, options, () => byUrl.delete(base)));
  return byUrl.get(base);
}

/** The sockets to one port of one server. */
class Pool {
  #base;
  #options;
  #emptied;
  #idle = [];
  #count = 0;
  #waiting = [];

  constructor(base, options, emptied) {
    this.#base = base;
    this.#options = options;
    this.#emptied = emptied;
  }

  async ask(request) {
    for (;;) {
      const socket = await this.#take(request.signal);
      try {
        return await socket.ask(request);
      } catch (error) {
        // A socket that was kept may have ended just now: nothing says whether the request arrived.
        const again = socket.wasUsed && socket.hasEnded && socket.isUnanswered && !(error instanceof FrameError) && !request.signal?.aborted;
        if (!again || request.body instanceof ReadableStream || !REPEATABLE.includes(request.method)) throw error;
      }
    }
  }

  async #take(signal) {
    while (this.#count >= MAX_SOCKETS && !this.#idle.length) await this.#wait(signal);
    const kept = this.#idle.pop();
    if (kept) {
      clearTimeout(kept.timer);
      kept.wasUsed = true;
      return kept;
    }
    this.#count++;
    return new Connection(this.#base, this.#options, {
      free: connection => this.#keep(connection),
      ended: connection => this.#remove(connection),
    });
  }

  async #wait(signal) {
    signal?.throwIfAborted();
    const turn = deferred();
    const abort = () => turn.reject(signal.reason);
    signal?.addEventListener('abort', abort);
    this.#waiting.push(turn);
    try {
      await turn.promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#waiting = this.#waiting.filter(other => other !== turn);
    }
  }

  #keep(connection) {
    this.#idle.push(connection);
    connection.timer = setTimeout(() => connection.close(), KEEP_IDLE);
    this.#waiting.shift()?.resolve();
  }

  #remove(connection) {
    clearTimeout(connection.timer);
    this.#idle = this.#idle.filter(other => other !== connection);
    this.#count--;
    if (this.#waiting.length) this.#waiting.shift().resolve();
    else if (this.#count === 0) this.#emptied();
  }
}

function deferred() {
  const turn = {};
  turn.promise = new Promise((resolve, reject) => Object.assign(turn, { resolve, reject }));
  return turn;
}

/** One socket, and the exchange that is on it. */
class Connection {
  /** True if an exchange was on it before. */
  wasUsed = false;
  /** True if nothing of the response to the last request has come. */
  isUnanswered = true;
  #socket;
  #opened;
  #free;
  #gone = new AbortController();

  constructor(base, options, { free, ended }) {
    this.#free = free;
    try {
      this.#socket = new PeerToPeerWebSocket(base, [HTTP], { ...options, maxMessageSize: MAX_PIECE });
    } catch (error) {
      ended(this);
      throw error;
    }
    this.#socket.addEventListener('close', () => {
      this.#gone.abort(new TunnelError('the server ended the socket', { code: 'closed' }));
      ended(this);
    });
    this.#opened = this.#socket.opened.then(({ readable, writable }) => [readable.getReader(), writable.getWriter()]);
    this.#opened.catch(() => {});
  }

  get hasEnded() {
    return this.#socket.readyState > 1;
  }

  close() {
    this.#socket.close();
  }

  /** Sends a request; resolves when the response's head is there. */
  async ask({ method, url, headers, body, signal }) {
    const head = writeHead({ method, url, headers, body: body !== null });
    const aborted = deferred();
    aborted.promise.catch(() => {});
    const abort = () => {
      this.#socket.close(CANCELLED, 'the asker has cancelled the request');
      aborted.reject(signal.reason);
    };
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    this.isUnanswered = true;
    // Once it is done in both directions, the socket is free for another.
    let parts = 2;
    const done = () => {
      if (--parts) return;
      signal?.removeEventListener('abort', abort);
      if (this.#socket.readyState === 1) this.#free(this);
    };
    const unlessAborted = promise => Promise.race([promise, aborted.promise]);
    try {
      const [reader, writer] = await unlessAborted(this.#opened);
      const next = async () => {
        const { value, done } = await unlessAborted(reader.read());
        if (done) throw new TunnelError('the server ended the socket within a response', { code: 'closed' });
        return value;
      };
      this.#send(writer, head, body).then(done, error => this.#failed(error));
      const answer = parseResponse(await next());
      this.isUnanswered = false;
      return this.#receive(answer, next, done, method);
    } catch (error) {
      signal?.removeEventListener('abort', abort);
      this.#failed(error);
      throw error;
    }
  }

  async #send(writer, head, body) {
    await writer.write(head);
    if (body === null) return;
    await writeBody(writer, body instanceof ReadableStream ? body : new Blob([body]).stream(), this.#gone.signal);
  }

  #receive({ status, headers, body }, next, done, method) {
    if (!body || method === 'HEAD') {
      done();
      if (body) throw new FrameError('the response to a HEAD has a body');
      return new ServedResponse(null, { status, headers });
    }
    const stream = readBody(next, {
      done,
      failed: error => this.#failed(error),
      cancelled: () => this.#socket.close(CANCELLED, 'the asker reads no more of the response'),
    });
    return new ServedResponse(stream, { status, headers });
  }

  #failed(error) {
    if (this.#socket.readyState > 1) return;
    if (error instanceof FrameError) this.#socket.close(BAD_FRAME, error.message);
    else this.#socket.close(CANCELLED, 'the request broke off');
  }
}
