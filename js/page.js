// Parts of the platform that Rust cannot use through web-sys: rounds of tasks, a WebSocket of the native class, a lock that
// keeps the page awake, and traps of the module.
//
// It and kept.js are all that an application in Rust loads: the server of wasm-bindgen's test runner sometimes stalls a page that loads
// more than five modules.

/** The error of everything that fails. */
export class TunnelError extends Error {
  constructor(message, { code, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** Pages add properties to `Object.prototype`: what a descriptor inherits counts, too. */
export const define = (object, name, descriptor) => Object.defineProperty(object, name, { __proto__: null, ...descriptor });

define(TunnelError, 'name', { value: 'TunnelError', configurable: true });
define(TunnelError.prototype, 'name', { value: 'TunnelError', writable: true, configurable: true });

export const tunnelError = (code, message) => new TunnelError(message, { code });

/** The platform's class, even when the page puts another in its place: `window.WebSocket = PeerToPeerWebSocket`. */
export const NativeWebSocket = globalThis.WebSocket;

/** The class of message events. Servers at the edge that render pages have none, or, in Next.js, one that makes no events; nobody connects there. */
const { MessageEvent: platforms = () => {} } = globalThis;
export const MessageEvent = Object.getPrototypeOf(platforms).prototype ? platforms : class extends globalThis.Event {};

/** The platform's class, where a library has put another in its place, as MooTools does. */
export const Event = Object.getPrototypeOf(MessageEvent);

// The platform's, as they are when this module is loaded: tests put clocks in their place that stand still, or jump.
let { setTimeout, clearTimeout: stopTimeout, queueMicrotask } = globalThis;
const { performance: clock, requestIdleCallback } = globalThis;
let readClock = clock.now;

/** True if such a clock was there before this module: those of Sinon, Jest and vitest say so. */
const isFake = given => !!given?.clock;
if (isFake(queueMicrotask)) queueMicrotask = task => void Promise.resolve().then(task);
if (isFake(setTimeout)) {
  // Events and signals go by the platform's.
  readClock = () => new Event('now').timeStamp;
  setTimeout = (call, milliseconds = 0) => {
    const signal = AbortSignal.timeout(milliseconds);
    signal.addEventListener('abort', () => signal.isCleared || call());
    return signal;
  };
  stopTimeout = signal => Object.assign(signal ?? {}, { isCleared: true });
}
export { queueMicrotask, setTimeout };

// The module imports these two. Engines compile an adapter for native and bound functions while `init` waits; for plain
// functions they have one ready.
export const clearTimeout = timer => stopTimeout(timer);
export const now = () => readClock.call(clock);

/** In Node.js and its like, events are script themselves. */
export const EVENTS_ARE_NATIVE = !globalThis.process?.versions?.node;

/** Time for which a link that nothing needs is kept, in milliseconds. A process of Node.js waits for its end. */
export const linkGrace = () => (EVENTS_ARE_NATIVE ? 5000 : 100);

/** Functions of `src/tasks.rs`. */
let beginRound, runTask, finishRound, runDeferred;
let tasks;

/**
 * In Node.js and its like: what begins a task of the event loop, and keeps the process alive until then only. The module's own
 * is asked for first: tests put another in the global's place.
 */
const nodes = () => process.getBuiltinModule?.('node:timers').setImmediate ?? globalThis.setImmediate;
const given = EVENTS_ARE_NATIVE ? undefined : nodes();
const setImmediate = isFake(given) ? postByChannel : given;

function postByChannel(task) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    task();
  };
  port2.postMessage(null);
}

/** Takes the functions that rounds call. */
export function prepareTasks(...given) {
  [beginRound, runTask, finishRound, runDeferred] = given;
  if (setImmediate) return;
  tasks = new MessageChannel();
  const { port1 } = tasks;
  port1.onmessage = beginRound;
  runTasksAfter(port1, 256);
}

/** Asks for a round of tasks in a task of the event loop. */
export function postTasks() {
  if (setImmediate) setImmediate(runRound);
  else tasks.port2.postMessage(null);
}

/** A round of one task: the next waits until the microtasks of this one have run. */
function runRound() {
  beginRound();
  if (runTask()) finishRound();
}

/**
 * Has a round of tasks run behind each `message` event of the target.
 *
 * A native event calls each of its listeners with microtasks run in between, which nothing that script calls does. So one
 * event can run many tasks as if each had its own: a hundredth of the cost of as many posts. For example, of 128 listeners
 * the first three run three tasks, the fourth finds none, ends the round and stops the event. A round also ends when it has
 * lasted long (`src/tasks.rs`), or when the listeners are used up. `addEventListener` is O(n) in the listeners already
 * added, hence no more of them.
 */
export function runTasksAfter(target, count = 128) {
  // There several events may come in one task, with no microtasks between them: each task is posted.
  if (!EVENTS_ARE_NATIVE) count = 0;
  // True if microtasks run between the listeners; undefined until two have been called. They don't where one listener of the
  // event stands for all, as zone.js has it: then each round has one task.
  let runsMicrotasks;
  let haveRun;
  // True when the round of this event has ended: some implementations call the other listeners all the same.
  let isOver;
  const find = async () => {
    // Not `queueMicrotask`: zone.js runs what is queued by its own, and nothing that awaits.
    haveRun = false;
    await undefined;
    haveRun = true;
  };
  const run = (event, index) => {
    if (index === 0) {
      isOver = false;
      if (runsMicrotasks === undefined) find();
    } else if (index === 1) {
      runsMicrotasks ??= haveRun;
    }
    if (isOver) return;
    if (index > 0 && !runsMicrotasks) {
      isOver = true;
      finishRound();
    } else {
      isOver = !runTask();
    }
    if (isOver) event.stopImmediatePropagation?.();
  };
  for (let i = 0; i < count; i++) target.addEventListener('message', event => run(event, i));
  target.addEventListener('message', () => isOver || finishRound());
}

/** By WebSocket: who takes its messages. */
const receivers = new WeakMap();

/**
 * Has `receive` called with the data of each message (a text, an ArrayBuffer, or undefined for what is neither), and with whether
 * nobody else has seen it. A round of tasks runs behind it. It is a listener, too: some implementations call a handler, as
 * `onmessage`, behind all listeners.
 */
export function receiveFrom(socket, receive) {
  receivers.set(socket, receive);
  const isOurs = copiesWhatItSends(socket);
  socket.addEventListener('message', ({ data }) => receivers.get(socket)?.(toOwn(data), isOurs));
  runTasksAfter(socket);
}

export const stopReceiving = socket => receivers.delete(socket);

/** Some implementations give a view, or an ArrayBuffer of another realm. */
function toOwn(data) {
  if (typeof data === 'string' || data instanceof ArrayBuffer) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice().buffer;
  return typeof data.byteLength === 'number' ? new Uint8Array(data).slice().buffer : undefined;
}

const resolved = Promise.resolve();

/** Runs what has been deferred when the script that runs now has ended. */
export const postDeferred = () => void resolved.then(runDeferred);

/** Calls `task` once the page is idle. Returns false, and does nothing, where the platform does not say when that is. */
export function whenIdle(task) {
  requestIdleCallback?.(() => task());
  return !!requestIdleCallback;
}

/** Opens a WebSocket of the platform's class. */
export function dial(url, protocols) {
  const Native = NativeWebSocket ?? globalThis.WebSocket;
  const made = observer?.dial?.(url, protocols, Native);
  if (!Native && !made) throw new Error('there is no WebSocket here: set globalThis.WebSocket, to that of the package `ws`, for example');
  const socket = made ?? new Native(url, protocols);
  numbers.set(socket, ++dialled);
  const end = () => {
    stopReceiving(socket);
    socket.onopen = socket.onclose = null;
    socket.close();
  };
  watch(socket, end, 'link');
  socket.addEventListener('close', () => unwatch(socket));
  return socket;
}

/** The text of a function that is the platform's. That of a `Proxy` or of a bound function has no name in it. */
const NATIVE = /^function (WebSocket|send|toString)\(\) \{\s*\[native code\]\s*\}$/;

/**
 * Returns whether `send` of this WebSocket is the platform's own, which copies what it is given before it returns. A page, or an
 * implementation in JavaScript, may have put code around it that keeps the bytes: that must not see memory that changes.
 */
export function copiesWhatItSends(socket) {
  const { toString } = Function.prototype;
  const functions = [NativeWebSocket, socket.send, toString];
  return functions.every(given => NATIVE.test(Reflect.apply(toString, given, [])));
}

// ---- Questions of a dial

/** The time that an application's `token` may take, in milliseconds. */
const TOKEN_TIMEOUT = 10_000;

/** The access token that a function or a promise of the application gives. */
export async function askToken(source) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it has not settled within ${TOKEN_TIMEOUT / 1000} seconds`)), TOKEN_TIMEOUT);
  });
  try {
    const token = await Promise.race([typeof source === 'function' ? source() : source, late]);
    return `${token ?? ''}`;
  } catch (error) {
    throw new Error(beginning(`${error?.message ?? error}`));
  } finally {
    clearTimeout(timer);
  }
}

/** The time that a relay may take to say why a WebSocket did not open, in milliseconds. */
const ANSWER_TIMEOUT = 3000;

/** The length up to which an error shows a text from elsewhere, in characters. */
const SHOWN = 200;

/**
 * Finds out why a WebSocket did not open, which browsers keep to themselves, with three requests at most. What is answered is
 * shown in an error and used for nothing else. Returns a sentence, or an empty text; never rejects.
 */
export async function askWhy(url) {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
  const ask = (scheme, init) =>
    fetch(url.replace(/^wss?/, scheme), { credentials: 'omit', cache: 'no-store', signal, ...init });
  const answers = scheme => ask(scheme, { mode: 'no-cors' }).then(() => true, () => false);
  const [scheme, other] = url.startsWith('wss:') ? ['https', 'http'] : ['http', 'https'];
  let forbidden = false;
  const note = ({ effectiveDirective }) => (forbidden ||= effectiveDirective === 'connect-src');
  globalThis.addEventListener?.('securitypolicyviolation', note);
  try {
    // With POST a browser says the page's origin even to the page's own server.
    const headers = { Accept: 'application/vnd.tunnel-relay' };
    const answer = await ask(scheme, { method: 'POST', headers, redirect: 'error' }).catch(() => {});
    if (answer) return await told(answer);
    if (await answers(scheme)) {
      return 'a server answers there, but it is no relay, or a proxy before it does not pass WebSockets on';
    }
    // The event comes in a task of its own.
    await new Promise(resolve => setTimeout(resolve));
    if (forbidden) return "the page's Content Security Policy forbids it: add the relay's URL to connect-src";
    if (await answers(other)) return `a server answers there by ${other}: use a URL that begins with ${url.startsWith('wss:') ? 'ws:' : 'wss:'}`;
    if (scheme === 'http') return '';
    return `nothing answers there, or the browser does not trust its certificate: open ${beginning(url.replace(/^wss/, 'https').split('?', 1)[0])} in a tab to see which`;
  } catch {
    return '';
  } finally {
    globalThis.removeEventListener?.('securitypolicyviolation', note);
  }
}

/** The answer of a server that lets pages of other origins read it. */
async function told(answer) {
  const isText = /^text\/plain\b/i.test(answer.headers.get('content-type') ?? '');
  let text = '';
  if (isText && answer.body) {
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    try {
      for (let part; text.length < SHOWN && !(part = await reader.read()).done; ) {
        text += decoder.decode(part.value.subarray(0, 4 * SHOWN), { stream: true });
      }
    } catch {
      // It took too long: what has come is shown.
    }
    reader.cancel().catch(() => {});
  } else {
    answer.body?.cancel().catch(() => {});
  }
  text = beginning(text);
  return `it answers with HTTP status ${answer.status}${text && `: ${text}`}`;
}

/** The beginning of a text as one line, cut between words. */
function beginning(text) {
  const line = text.slice(0, 4 * SHOWN).replace(/[\p{C}\s]+/gu, ' ').trim();
  if (line.length <= SHOWN) return line;
  const space = line.lastIndexOf(' ', SHOWN);
  return `${line.slice(0, space > SHOWN / 2 ? space : SHOWN)}…`;
}

let release;

/** Holds a Web Lock while that is wanted: browsers freeze hidden pages that are silent for minutes, but none with a lock. */
export function holdLock(wanted) {
  release?.();
  release = undefined;
  if (!wanted) return;
  watch(holdLock, () => holdLock(false));
  const held = new Promise(resolve => {
    release = resolve;
  });
  // Insecure contexts have no locks.
  globalThis.navigator?.locks?.request('tunnel-wasm', { mode: 'shared' }, () => held).catch(() => {});
}

/** The promise's value, unless the signal is aborted first. */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort);
    const done = () => signal.removeEventListener('abort', abort);
    promise.then(resolve, reject).then(done);
  });
}

// ---- Traps
//
// A trap of the WebAssembly module: it is out of memory, or the library has a fault. Nothing of that module can be used any
// more. So all that the page has of it ends with an event, and `init()` makes a new one.
//
// `xtask/src/build/trap.rs` has the glue call `guard`, through which all calls of the module go then.

const nothing = () => {};
const COUNTERS = ['bytesSent', 'bytesReceived', 'messagesSent', 'messagesReceived', 'bytesRetransmitted', 'bytesUnacknowledged', 'reconnects'];

/** The handle of a socket or server that has ended with its module: its commands do nothing. */
export const GONE = {
  bufferedAmount: 0,
  hasRoom: () => true,
  stats: () => ({ ...Object.fromEntries(COUNTERS.map(name => [name, 0])), free: nothing }),
  unacknowledged: () => [],
};
const SOCKET_COMMANDS = ['dial', 'sendText', 'sendBytes', 'close', 'abort', 'hold', 'park', 'unpark', 'take'];
const SERVER_COMMANDS = ['beginAccepting', 'hostStats', 'refusesSurplus', 'remove', 'unlisten'];
for (const name of [...SOCKET_COMMANDS, ...SERVER_COMMANDS]) GONE[name] = nothing;

let dead = false;
let panic = '';
/** The fault of the module that has trapped. */
let failure;

/** All that has not ended, each with a function that ends it, and its kind. */
const endings = new Map();

/** Returns whether the module has trapped, and none has taken its place. */
export const isDead = () => dead;

/** Keeps what a panic says, for the errors that follow from it. */
export const notePanic = text => {
  panic = text;
};

/**
 * Has `end` called with a message if the module traps before `unwatch` is called, or has trapped already. Whoever looks on hears
 * of a target that has a `kind`.
 */
export function watch(target, end, kind) {
  if (dead) return endLater(end);
  endings.set(target, { end, kind });
  announce(kind, target);
}
export const unwatch = target => endings.delete(target);

/** The build stamp, which `cargo xtask build` writes here and into the WebAssembly; an application in Rust has none. */
const STAMP = typeof BUILD === 'string' ? ` of build ${BUILD}` : '';

function endLater(end) {
  const message = `the library's WebAssembly module${STAMP} has failed (${failure}): call init() to go on`;
  queueMicrotask(() => end(message));
}

function handleTrap(error) {
  console.error(error);
  if (dead) return;
  dead = true;
  failure = panic || error.message;
  panic = '';
  const ends = [...endings.values()];
  endings.clear();
  for (const { end } of ends) endLater(end);
}

/** The exports of a module; they do nothing any more once it has trapped. */
export function guard(exports) {
  const guarded = {};
  for (const [name, value] of Object.entries(exports)) {
    const call = (...given) => {
      if (dead) return 0;
      try {
        return value(...given);
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error;
        handleTrap(error);
        return 0;
      }
    };
    guarded[name] = typeof value === 'function' ? call : value;
  }
  dead = false;
  return guarded;
}

// ---- For whoever looks on: `tunnel-wasm/inspect`, and an application's own tools

/** It is undefined on pages that nobody looks at: messages cost them a comparison. */
let observer;

/** The WebSockets that were dialled are numbered, which tells them from each other. */
let dialled = 0;
const numbers = new WeakMap();
export const numberOf = socket => numbers.get(socket) ?? null;

/** The page's connection to itself, when it is idle, is nobody's business. */
const isWarmUp = target => `${target.relayUrl ?? target.url}`.startsWith('ws://warm-up.invalid/');

export function observe(given) {
  observer = given ?? undefined;
  for (const [target, { kind }] of [...endings]) announce(kind, target);
}

function announce(kind, target) {
  if (observer && kind && !isWarmUp(target)) tell('began', kind, target, numberOf(target));
}

/** A fault of whoever looks on is none of the application's. */
function tell(name, ...given) {
  try {
    observer[name]?.(...given);
  } catch (error) {
    console.error(error);
  }
}

/** Tells of a message, and returns it. */
export function seen(socket, direction, data) {
  if (observer && !isWarmUp(socket)) tell('message', socket, direction, data);
  return data;
}
