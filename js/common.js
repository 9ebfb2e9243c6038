// Shared by the classes: errors, the functions of Rust, arguments as WebIDL and the WebSockets standard convert and
// check them, and members as WebIDL describes them.

import {
  define,
  Event,
  EVENTS_ARE_NATIVE,
  isDead,
  MessageEvent,
  NativeWebSocket,
  numberOf,
  queueMicrotask,
  setTimeout,
  TunnelError,
} from './page.js';

export { define, Event, TunnelError };

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

// ---- Functions and objects that Rust hands over in `start()`

/** Undefined before `init()`: ask `connector()` where a page may be that early. */
export let tunnel;

export function start(given) {
  tunnel = given;
}

/** The address of the relay inside the page, which only the warm-up has: Rust is given none. */
export const WARM_UP = new URL('ws://warm-up.invalid/');
export const addressOf = relay => (relay === WARM_UP ? undefined : relay);

/** Runs a task after all that wait for theirs. */
export const post = task => (isDead() ? queueMicrotask(task) : tunnel.post(task));

export function connector() {
  if (tunnel && !isDead()) return tunnel;
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

/** A number of bytes or of clients: 1 or more, or Infinity. */
export function toLimit(value, name) {
  const number = Number(value);
  if (number >= 1) return Math.floor(number);
  throw new TypeError(`${name} is ${String(value)}: expected a number, 1 or more`);
}

/** Longest message that a socket takes unless the application says otherwise, in bytes. */
export const MAX_MESSAGE_SIZE = 100 << 20;

export function toSignal(value) {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw new TypeError('signal is not an AbortSignal');
}

/** An access token: a text, or a function or a promise that is asked at each dial. */
export function toToken(value) {
  if (typeof value === 'function') return value;
  if (typeof value?.then !== 'function') return `${value ?? ''}`;
  const promise = Promise.resolve(value);
  // The dialler hears of a rejection.
  promise.catch(() => {});
  return promise;
}

/** RFC 9110's `token`. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** `(DOMString or sequence<DOMString>)`. */
export function toStrings(value = []) {
  const method = isObject(value) ? value[Symbol.iterator] : null;
  if (method == null) return [`${value}`];
  // Not by `Array.from`: Prototype.js and MooTools have put theirs in its place, which know no iterators.
  const strings = [];
  for (const item of { [Symbol.iterator]: () => Reflect.apply(method, value, []) }) strings.push(`${item}`);
  return strings;
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

/** From this length on it is found out whether there is memory for a message, in bytes. */
const LARGE = 1 << 20;

export const sizeOf = message => (typeof message === 'string' ? utf8Length(message) : (message.size ?? message.length));

/** A text takes up to three bytes a character while it is encoded. A Blob has a size. */
export function checkRoom(core, message) {
  const size = typeof message === 'string' ? 3 * message.length : (message.size ?? message.length);
  if (size < LARGE || core.hasRoom(size)) return;
  throw new RangeError('The message does not fit into the memory that is left: send it in parts, and wait while much is buffered.');
}

export function sendNow(core, message) {
  checkRoom(core, message);
  if (typeof message === 'string') core.sendText(message);
  else core.sendBytes(message);
}

export function checkProtocols(protocols) {
  const bad = protocols.find((protocol, index) => !TOKEN.test(protocol) || protocols.indexOf(protocol) !== index);
  if (bad === undefined) return protocols;
  throw new DOMException(`The subprotocol '${bad}' is invalid or given twice.`, 'SyntaxError');
}

/** The URL of a relay: 'relay.example' and '' would name files beside the page, which nobody means. */
export function toRelayUrl(value) {
  const text = `${value}`;
  if (/^([a-z][a-z0-9+.-]*:|\/)/i.test(text)) return toSocketUrl(text);
  const message = `The relay's URL '${text}' has no scheme: expected one like 'wss://relay.example', or '/' for the page's own server.`;
  throw new DOMException(message, 'SyntaxError');
}

/** A URL as WebSockets take it, relative to the page. */
export function toSocketUrl(value) {
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
  // Mixed content: the browser knows best what it forbids, and throws then. It is asked once for each host.
  if (url.protocol === 'ws:' && globalThis.location?.protocol === 'https:' && !allowed.has(url.host)) {
    new NativeWebSocket(url).close();
    allowed.add(url.host);
  }
  return url;
}

/** Hosts that an `https:` page may dial by `ws:`. */
const allowed = new Set();

export const tunnelUrl = (relay, serverId, port) => `${tunnel.serverUrl(relay.href, serverId)}/${port}`;

/** Takes `RELAY/SERVER_ID/PORT[/PATH][?QUERY]` apart; `livecode` is whether the server may be a number. */
export function splitTunnelUrl({ href }, livecode) {
  const [problem, relay, serverId, port, path] = tunnel.splitTunnelUrl(href, livecode);
  if (problem) throw new DOMException(`The URL '${href}' is no tunnel's: ${problem}.`, 'SyntaxError');
  return { relay: new URL(relay), serverId, port: Number(port), path, livecode };
}

/** Members are enumerable, as WebIDL has them and classes don't. */
export function describe(Class, name, constants = {}) {
  // Minifiers change what classes are called.
  define(Class, 'name', { value: name, configurable: true });
  for (const holder of [Class, Class.prototype]) {
    for (const key of Object.getOwnPropertyNames(holder)) {
      if (['constructor', 'length', 'name', 'prototype'].includes(key)) continue;
      define(holder, key, { enumerable: true });
    }
    for (const [key, value] of Object.entries(constants)) define(holder, key, { value, enumerable: true });
  }
  define(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });
}

/**
 * The `message` event. Making a `MessageEvent` with a dictionary, whose origin is parsed, takes twice the time. A page sees the
 * difference only if it takes the getters off `MessageEvent.prototype`.
 */
class Arrival extends MessageEvent {
  #data;
  #origin;
  #read;

  constructor(data, origin, read) {
    super('message');
    this.#data = data;
    this.#origin = origin;
    this.#read = read;
  }

  get data() {
    this.#read?.();
    return this.#data;
  }

  get origin() {
    return this.#origin;
  }
}
describe(Arrival, 'MessageEvent');
delete Arrival.prototype.constructor;

/** Makes a `message` event; `read`, if there is one, hears of each look at its data. Where events are script, as in Deno, their constructor may set members that ours only has getters for. */
export const arrival = (data, origin, read) =>
  EVENTS_ARE_NATIVE ? new Arrival(data, origin, read) : new MessageEvent('message', { data, origin });

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
    define(prototype, name, Object.getOwnPropertyDescriptor(attribute, name));
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

// ---- The objects of `getLinks()` and `getStats()`; Rust gives the numbers

export const getLinks = () => connector().links();

export const linkStats = (socket, counters) => {
  const [isReady, isLivecode, channels, channelsPaused, messagesSent, messagesReceived, ...rest] = counters;
  const [bytesSent, bytesReceived, roundTripTime] = rest;
  return {
    id: numberOf(socket),
    url: socket.url,
    state: isReady ? 'open' : 'dialling',
    dialect: isReady ? (isLivecode ? 'livecode' : 'tunnel.v1') : null,
    channels,
    channelsPaused,
    messagesSent,
    messagesReceived,
    bytesSent,
    bytesReceived,
    bufferedAmount: socket.bufferedAmount,
    roundTripTime: Number.isNaN(roundTripTime) ? null : roundTripTime,
  };
};

export const serverStats = (link, counters) => {
  const [isRegistered, clients = 0, clientsWaiting = 0, clientsAdmitted = 0, clientsRefused = 0, reconnects = 0] = counters;
  const state = isRegistered ? 'hosting' : 'interrupted';
  return { state, clients, clientsWaiting, clientsAdmitted, clientsRefused, reconnects, link: link ?? null };
};
