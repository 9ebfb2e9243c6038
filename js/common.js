// What the classes share: errors, what Rust hands over, arguments as WebIDL and the WebSockets standard convert and
// check them, and members as WebIDL describes them.

export class TunnelError extends Error {
  constructor(message, { code, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
Object.defineProperty(TunnelError, 'name', { value: 'TunnelError', configurable: true });
Object.defineProperty(TunnelError.prototype, 'name', { value: 'TunnelError', writable: true, configurable: true });

/** Reports an application's error as uncaught. Node.js has no `reportError`: there an uncaught error is one that is thrown. */
export const report =
  globalThis.reportError ??
  (error =>
    queueMicrotask(() => {
      throw error;
    }));

/** Calls back later, without keeping a process of Node.js alive until then. */
export function later(milliseconds, callback) {
  const timer = setTimeout(callback, milliseconds);
  timer.unref?.();
  return timer;
}

const warned = new Set();

/** Says something to the developer on the console, once a page. */
export function warnOnce(message) {
  if (warned.has(message)) return;
  warned.add(message);
  console.warn(`tunnel-wasm: ${message}`);
}

/** Node.js has had one since version 23. */
export const CloseEvent =
  globalThis.CloseEvent ??
  class CloseEvent extends Event {
    constructor(type, init) {
      super(type);
      Object.assign(this, init);
    }
  };

// ---- What Rust hands over in `start()`

/** Undefined before `init()`: ask `connector()` where a page may be that early. */
export let tunnel;

/** In Node.js and its like, events are script themselves. */
export const EVENTS_ARE_NATIVE = !globalThis.process?.versions?.node;

let tasks;

/** In Node.js a port that listens keeps the process alive, unless it says that it need not. */
export function postTasks() {
  tasks.port1.ref?.();
  tasks.port2.postMessage(null);
}

/**
 * A native event calls each of its listeners with microtasks run in between, which nothing that script calls does. So
 * one task of the event loop can run many of ours as if each had its own: a hundredth of the cost of as many posts. Rust
 * ends a round earlier when it has lasted long. It takes a listener as long to be added as there are others.
 */
export function runTasksAfter(target, count = 128) {
  if (!EVENTS_ARE_NATIVE) count = 1;
  const runTask = event => tunnel.runTask() || event.stopImmediatePropagation();
  for (let i = 0; i < count; i++) target.addEventListener('message', event => runTask(event));
  target.addEventListener('message', () => tunnel.finishTasks());
}

export const postDeferred = () => queueMicrotask(() => tunnel.runDeferred());

export function start(connector) {
  tunnel = connector.constructor;
  tasks = new MessageChannel();
  const { port1 } = tasks;
  port1.onmessage = () => {
    port1.unref?.();
    tunnel.beginTasks();
  };
  runTasksAfter(port1, 256);
  port1.unref?.();

  // Not every kind of scope and browser says when it is idle.
  const whenIdle = globalThis.requestIdleCallback ?? (task => setTimeout(task, 200));
  whenIdle(() => tunnel.idle());

  const probe = () => globalThis.document?.visibilityState === 'hidden' || tunnel.probe();
  globalThis.addEventListener?.('online', probe);
  globalThis.addEventListener?.('pageshow', probe);
  globalThis.document?.addEventListener('visibilitychange', probe);
  globalThis.document?.addEventListener('resume', probe);
  // Also when the page goes into the back-forward cache: it cannot answer from there, so its peers must know at once.
  globalThis.addEventListener?.('pagehide', () => tunnel.leave());
}

/** The relay of rehearsals. */
export const STAGE = 'wss://rehearsal.invalid/';

/** Both ends of a rehearsal. */
const ends = [];

/** What stands for a WebSocket in a rehearsal. */
class End {
  readyState = 1;
  bufferedAmount = 0;

  constructor() {
    ends.push(this);
    this.#hear('onopen', { type: 'open' });
  }

  #hear(handler, event) {
    tunnel.post(() => this[handler]?.(event));
  }

  addEventListener() {}

  send(data) {
    const [isAnswer, ...frame] = tunnel.relay(data);
    const receiver = ends.find(end => (end === this) == isAnswer);
    receiver?.#hear('onmessage', { data: Uint8Array.from(frame).buffer });
  }

  close() {}

  static closeAll() {
    for (const end of ends.splice(0)) end.#hear('onclose', { type: 'close', code: 1000, reason: '' });
  }
}
export const endRehearsal = End.closeAll;

const SUBPROTOCOL = 'tunnel.v1';
/** Chosen by a relay that has taken the frames in the handshake. */
const EARLY = `${SUBPROTOCOL}.early`;

/** Dials for a link of a driver: both are numbers of Rust's. `early` are frames that the handshake carries. */
export function dial(driver, link, url, early) {
  let socket;
  const frames = btoa(String.fromCharCode(...early)).replace(/[+/=]/g, character => '-_'['+/'.indexOf(character)] ?? '');
  try {
    socket = url === STAGE ? new End() : new WebSocket(url, [SUBPROTOCOL, EARLY, `early.${frames}`]);
  } catch ({ message }) {
    queueMicrotask(() => tunnel.handleClosed(driver, link, 1006, message));
    return { close() {} };
  }
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) => {
    if (typeof data === 'string') return tunnel.handleText(driver, link, data);
    tunnel.handleBytes(driver, link, new Uint8Array(data));
    spare = data;
  };
  runTasksAfter(socket);
  socket.onopen = () => tunnel.handleOpened(driver, link, socket.protocol === EARLY);
  socket.onclose = ({ code, reason }) => tunnel.handleClosed(driver, link, code, reason);
  return socket;
}

/** The memory of the last frame, which nobody reads any more. */
let spare;

/**
 * The bytes of a message, out of wasm's memory. Fresh memory costs more to touch than all else that is done to a large
 * message, so one that is as long as its frame gets the frame's.
 */
export function toBuffer(bytes) {
  if (spare?.byteLength !== bytes.length) return bytes.slice().buffer;
  const buffer = spare;
  spare = undefined;
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

export function hangUp(socket) {
  socket.onmessage = socket.onopen = socket.onclose = null;
  socket.close();
}

export const wake = (driver, milliseconds) => setTimeout(() => tunnel.handleTimer(driver), milliseconds);

let awake;

/** Browsers freeze hidden pages that are silent for minutes, but none that holds a Web Lock. */
export function stayAwake(wanted) {
  if (wanted === !!awake) return;
  awake?.resolve();
  awake = wanted ? deferred() : undefined;
  const hold = () => awake?.promise;
  // Insecure contexts have no locks. A page's first request takes milliseconds: the WebSocket is dialled before that.
  const request = () => globalThis.navigator?.locks?.request('tunnel-wasm', { mode: 'shared' }, hold).catch(() => {});
  if (wanted) tunnel.post(request);
}

export function connector() {
  if (tunnel) return tunnel;
  throw new TunnelError('tunnel-wasm is not initialised: `await init()`, its default export, before using the classes', {
    code: 'not-initialised',
  });
}

// ---- The standards

/** Marks the constructor calls of this module. */
export const INTERNAL = Symbol();

export const isObject = value => (typeof value === 'object' && value !== null) || typeof value === 'function';

export function requireArguments(given, wanted, name, method) {
  if (given.length >= wanted) return;
  const where = method ? `execute '${method}' on` : 'construct';
  throw new TypeError(`Failed to ${where} '${name}': ${wanted} argument${wanted > 1 ? 's' : ''} required, but only ${given.length} present`);
}

/** `[Clamp] unsigned short`: rounded to the nearest, a tie to the even one. */
export function clampToUnsignedShort(value) {
  const number = Math.min(Math.max(+value, 0), 65535) || 0;
  const floor = Math.floor(number);
  const up = number - floor > 0.5 || (number - floor === 0.5 && floor % 2 === 1);
  return up ? floor + 1 : floor;
}

export const utf8Length = text => new TextEncoder().encode(text).length;

export function toPort(value) {
  const port = typeof value === 'string' && value.trim() ? Number(value) : value;
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  throw new TypeError(`${String(value)} is not a port: expected an integer from 0 to 65535`);
}

export function toMilliseconds(value, name) {
  const number = Number(value);
  if (number >= 0) return number;
  throw new TypeError(`${name} is ${value}: expected milliseconds, 0 or more`);
}

export function toSignal(value) {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw new TypeError('signal is not an AbortSignal');
}

/** RFC 9110's `token`. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** `(DOMString or sequence<DOMString>)`. */
export function toStrings(value = []) {
  const method = isObject(value) ? value[Symbol.iterator] : null;
  return method == null ? [`${value}`] : Array.from({ [Symbol.iterator]: method.bind(value) }, item => `${item}`);
}

/** Reads what an object has inside: undefined for those that only look like one of the class. */
const inside = (Class, name) => {
  const { get } = Object.getOwnPropertyDescriptor(Class.prototype, name);
  return object => {
    try {
      return get.call(object);
    } catch {
      return undefined;
    }
  };
};
const bufferSize = inside(ArrayBuffer, 'byteLength');
const blobSize = inside(Blob, 'size');

/** `(BufferSource or Blob or USVString)`: a string, a Blob, or a view of the bytes. */
export function toMessage(data) {
  if (!isObject(data)) return `${data}`;
  const isView = ArrayBuffer.isView(data);
  const buffer = isView ? data.buffer : data;
  const size = bufferSize(buffer);
  const isShared = isView || Object.prototype.toString.call(data) === '[object SharedArrayBuffer]';
  if (size === undefined ? isShared : buffer.resizable) {
    throw new TypeError('Memory that is shared or resizable cannot be sent.');
  }
  // A detached buffer has no bytes, and takes no views.
  if (size === 0) return new Uint8Array();
  if (size) return isView ? new Uint8Array(buffer, data.byteOffset, data.byteLength) : new Uint8Array(buffer);
  return blobSize(data) === undefined ? `${data}` : data;
}

export function checkProtocols(protocols) {
  const bad = protocols.find((protocol, index) => !TOKEN.test(protocol) || protocols.indexOf(protocol) !== index);
  if (bad === undefined) return protocols;
  throw new DOMException(`The subprotocol '${bad}' is invalid or given twice.`, 'SyntaxError');
}

export function toRelayUrl(value) {
  const text = `${value}`;
  let url;
  try {
    url = new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    throw new DOMException(`The URL '${text}' is invalid.`, 'SyntaxError');
  }
  if (url.protocol === 'http:') url.protocol = 'ws:';
  if (url.protocol === 'https:') url.protocol = 'wss:';
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    const message = `The URL's scheme must be 'ws', 'wss', 'http' or 'https'; '${url.protocol.slice(0, -1)}' is not.`;
    throw new DOMException(message, 'SyntaxError');
  }
  if (url.href.includes('#')) {
    throw new DOMException(`The URL contains a fragment identifier ('${url.hash}').`, 'SyntaxError');
  }
  // Mixed content: the browser knows best what it forbids, and throws then.
  if (url.protocol === 'ws:' && globalThis.location?.protocol === 'https:') new WebSocket(url).close();
  return url;
}

const SERVER_ID = /^([a-z2-7]{56}|\d{1,9})$/i;

export const tunnelUrl = (relay, ...segments) => `${relay.href.replace(/\/*(\?.*)?$/, '')}/${segments.join('/')}`;

/** Where to go, in lines, for Rust. */
export const toPlace = ({ href, host }, token, serverId, path, protocols) =>
  [href, host, serverId, path, protocols, token].join('\n');

/** Takes `RELAY/SERVER_ID/PORT[/PATH][?QUERY]` apart. */
export function splitTunnelUrl(url) {
  const segments = url.pathname.split('/');
  const at = segments.findIndex(
    (segment, index) => SERVER_ID.test(segment) && /^\d+$/.test(segments[index + 1]) && segments[index + 1] <= 65535,
  );
  const invalid = why => new DOMException(`The URL '${url.href}' is no tunnel's: ${why}.`, 'SyntaxError');
  if (at < 0) throw invalid("expected the relay's URL, then /SERVER_ID/PORT");
  const serverId = segments[at];
  const problem = tunnel.serverIdProblem(serverId);
  if (problem) throw invalid(problem);
  const rest = segments.slice(at + 2);
  const path = rest.length || url.search ? `/${rest.join('/')}${url.search}` : '';
  const relay = new URL(`${segments.slice(0, at).join('/')}/`, url);
  return { relay, serverId, port: Number(segments[at + 1]), path };
}

/** Members are enumerable, as WebIDL has them and classes don't. */
export function describe(Class, name, constants = {}) {
  // Minifiers change what classes are called.
  Object.defineProperty(Class, 'name', { value: name, configurable: true });
  for (const holder of [Class, Class.prototype]) {
    for (const key of Object.getOwnPropertyNames(holder)) {
      if (['constructor', 'length', 'name', 'prototype'].includes(key)) continue;
      Object.defineProperty(holder, key, { enumerable: true });
    }
    for (const key in constants) Object.defineProperty(holder, key, { value: constants[key], enumerable: true });
  }
  Object.defineProperty(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });
}

/**
 * Event handler attributes. The first non-null value takes a place among the listeners, later ones take over that
 * place, null gives it up. An object that is not callable is kept and does nothing. `listened` hears of each first value.
 */
export function defineEventHandlers(prototype, handlersOf, types, listened = () => {}) {
  const { addEventListener, removeEventListener } = prototype;
  for (const type of types) {
    const name = `on${type}`;
    const attribute = {
      get [name]() {
        return handlersOf(this)[type]?.value ?? null;
      },
      set [name](value) {
        const handlers = handlersOf(this);
        const handler = handlers[type];
        if (!isObject(value)) {
          if (handler) removeEventListener.call(this, type, handler.listener);
          delete handlers[type];
        } else if (handler) {
          handler.value = value;
        } else {
          const added = { value };
          added.listener = function (event) {
            if (typeof added.value !== 'function') return;
            if (Reflect.apply(added.value, this, [event]) === false) event.preventDefault();
          };
          handlers[type] = added;
          addEventListener.call(this, type, added.listener);
          listened(this, type);
        }
      },
    };
    Object.defineProperties(prototype, Object.getOwnPropertyDescriptors(attribute));
  }
}

export const READY_STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };

/** A promise and its ends; nobody has to handle its rejection. */
export function deferred() {
  const ends = {};
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }));
  ends.promise.catch(() => {});
  return ends;
}
