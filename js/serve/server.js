// The side that answers: sockets of `tunnel.http.v1` become requests for a handler.

import {
  BAD_FRAME,
  FAILED,
  FrameError,
  HTTP,
  MAX_PIECE,
  parseRequest,
  readBody,
  STALLED,
  writeBody,
  writeHead,
} from './frames.js';
import { ServedRequest } from './messages.js';

/** Most exchanges at a time, by default. One address gets no more than half of them. */
const MAX_EXCHANGES = 32;
/** The time that a handler may take to answer, and an asker to send the next piece of a body, in milliseconds. */
const ANSWER_WITHIN = 30_000;
/** The part of a body that no handler has read which is thrown away, in bytes, before the socket is closed instead. */
const MAX_UNREAD = 1_048_576;

/** Methods that a `Request` can't have. */
const IMPOSSIBLE = ['CONNECT', 'TRACE', 'TRACK'];

/** Says what failed where an application hears of errors: Node.js has no `reportError`. */
const report = error => (globalThis.reportError ? reportError(error) : console.error(error));

export function serve(server, ports, handler, options = {}) {
  if (typeof handler !== 'function') throw new TypeError('the handler is not a function');
  const { onsocket, protocols, accept } = options;
  const limits = new Limits(options);
  const speaksHttp = offered => offered.includes(HTTP);
  const take = socket => (socket.protocol === HTTP ? answerAll(socket, handler, limits) : onsocket(socket));
  return server.listen(ports, take, {
    maxMessageSize: onsocket ? undefined : MAX_PIECE,
    accept: offer => (speaksHttp(offer.protocols) || !!onsocket) && (accept ? accept(offer) : true),
    protocols: (offered, offer) => {
      if (speaksHttp(offered)) return HTTP;
      if (typeof protocols === 'function') return protocols(offered, offer);
      const wanted = protocols === undefined ? offered : [protocols].flat();
      return offered.find(name => wanted.includes(name));
    },
  });
}

/** Counts exchanges: one address gets no more than half of what there is. */
class Limits {
  #most;
  #byAddress = new Map();
  #count = 0;

  constructor({ maxExchanges = MAX_EXCHANGES, answerWithin = ANSWER_WITHIN }) {
    this.#most = toCount(maxExchanges, 'maxExchanges');
    this.answerWithin = toCount(answerWithin, 'answerWithin');
  }

  /** Takes a place; false if there is none. */
  enter(address) {
    const its = this.#byAddress.get(address) ?? 0;
    if (this.#count >= this.#most || its >= Math.max(1, this.#most / 2)) return false;
    this.#count++;
    this.#byAddress.set(address, its + 1);
    return true;
  }

  leave(address) {
    this.#count--;
    const its = this.#byAddress.get(address) - 1;
    if (its) this.#byAddress.set(address, its);
    else this.#byAddress.delete(address);
  }
}

function toCount(value, name) {
  if (Number.isInteger(value) && value > 0 && value < 2 ** 31) return value;
  throw new TypeError(`${name} is no number from 1 to 2147483647`);
}

/** Answers what comes over a socket, one exchange after the other. */
async function answerAll(socket, handler, limits) {
  const reader = socket.readable.getReader();
  const gone = new AbortController();
  socket.addEventListener('close', () => gone.abort(new DOMException('the asker has gone', 'AbortError')));
  const next = async () => {
    const { value, done } = await reader.read();
    if (done) throw new DOMException('the asker has gone', 'AbortError');
    return value;
  };
  const nextInTime = () => inTime(next(), limits.answerWithin, 'the asker sent no more of its body in time');
  const connection = { socket, writer: socket.writable.getWriter(), next: nextInTime, gone: gone.signal };
  try {
    while (socket.readyState === 1) {
      const { value: text, done } = await reader.read();
      if (done) return;
      const head = parseRequest(text);
      if (limits.enter(socket.remoteAddress)) {
        try {
          await exchange(head, connection, handler, limits);
        } finally {
          limits.leave(socket.remoteAddress);
        }
      } else {
        await answer(connection, refusal(503, 'The server answers too many requests now.\n', ['retry-after', '1']), head.method);
        if (head.body) await throwAway(nextInTime, socket);
      }
    }
  } catch (error) {
    if (socket.readyState > 1) return;
    if (error instanceof FrameError) {
      socket.close(BAD_FRAME, error.message);
    } else if (error.name === 'TimeoutError') {
      socket.close(STALLED, error.message);
    } else {
      // The body of a response failed behind its head.
      socket.close(FAILED, 'the response broke off');
      report(error);
    }
  }
}

/** One request and its response. */
async function exchange(head, connection, handler, limits) {
  const { socket, next, gone } = connection;
  let isUnread = head.body;
  let broken;
  const patience = new Patience(limits.answerWithin);
  // While the handler waits for the asker, its own time stands still.
  const piece = () => patience.pausedFor(next());
  const body = head.body
    ? readBody(piece, { done: () => (isUnread = false), failed: error => (broken = error) })
    : null;
  const response = await respond(head, body, { socket, gone, handler, patience });
  // The handler has no body to read any more, and may have failed because of that.
  if (broken) throw broken;
  await answer(connection, response, head.method);
  if (!isUnread) return;
  // The next request is behind the rest, which somebody else may still be reading.
  if (body.locked) socket.close(1000, 'the body of a request was not read to its end');
  else await throwAway(next, socket);
}

/** Asks the handler. What it throws, or returns instead of a response, becomes a response. */
async function respond({ method, url, headers }, body, { socket, gone, handler, patience }) {
  if (IMPOSSIBLE.includes(method.toUpperCase())) return refusal(405, `The method ${method} is not served.\n`);
  const { port, remoteId, remoteAddress, verified, encrypted } = socket;
  const signal = AbortSignal.any([gone, patience.signal]);
  const request = new ServedRequest(`https://${socket.serverId}${url}`, { method, headers, body, signal });
  const handled = async () => handler(request, { port, remoteId, remoteAddress, verified, encrypted });
  try {
    const response = await Promise.race([handled(), patience.ended]);
    if (patience.signal.aborted) return refusal(504, 'The server did not answer in time.\n');
    if (!isResponse(response)) throw new TypeError('the handler of serve() returned no Response');
    if (response.bodyUsed) throw new TypeError('the handler of serve() returned a Response whose body was read before');
    // `Response.error()` has the status 0.
    return response.status === 0 ? refusal(502, 'The server has no response.\n') : response;
  } catch (error) {
    if (!signal.aborted) report(error);
    return refusal(500, 'The server failed.\n');
  } finally {
    patience.stop();
  }
}

/** The time that a handler has to answer. */
class Patience {
  #milliseconds;
  #controller = new AbortController();
  #timer;
  #end;
  #isStopped = false;
  /** Resolves when the time is over; `signal` is aborted then. */
  ended = new Promise(resolve => (this.#end = resolve));

  constructor(milliseconds) {
    this.#milliseconds = milliseconds;
    this.#start();
  }

  get signal() {
    return this.#controller.signal;
  }

  /** It begins anew when the promise has settled. */
  pausedFor(promise) {
    clearTimeout(this.#timer);
    return promise.finally(() => this.#start());
  }

  stop() {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #start() {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#controller.abort(new DOMException('the handler took too long to answer', 'TimeoutError'));
      this.#end();
    }, this.#milliseconds);
  }
}

/** It may come from another frame. */
const isResponse = value => Object.prototype.toString.call(value) === '[object Response]';

const refusal = (status, text, ...headers) =>
  new Response(text, { status, headers: [['content-type', 'text/plain; charset=utf-8'], ...headers] });

async function answer({ writer, gone }, response, method) {
  const { status, headers } = response;
  const body = method === 'HEAD' ? null : response.body;
  let head;
  let sent = body;
  try {
    head = writeHead({ status, headers, body: !!body });
  } catch (error) {
    report(error);
    head = writeHead({ status: 500, headers: [], body: false });
    sent = null;
  }
  await writer.write(head);
  if (sent) await writeBody(writer, sent, gone);
  else response.body?.cancel().catch(() => {});
}

/** Reads what is left of a body, up to a limit: more than that costs the socket. */
async function throwAway(next, socket) {
  for (let length = 0; ; ) {
    const piece = await next();
    if (piece === '') return;
    if (typeof piece === 'string') throw new FrameError('a text came where a body was expected');
    length += piece.length;
    if (length > MAX_UNREAD) return socket.close(1000, 'the body of a request was not read to its end');
  }
}

function inTime(promise, milliseconds, problem) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new DOMException(problem, 'TimeoutError')), milliseconds);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}
