// What the library's Rust needs of the platform and web-sys does not give it: rounds of tasks, a WebSocket of the native
// class, and a lock that keeps the page awake.

/** The error of everything that fails. */
export class TunnelError extends Error {
  constructor(message, { code, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
Object.defineProperty(TunnelError, 'name', { value: 'TunnelError', configurable: true });
Object.defineProperty(TunnelError.prototype, 'name', { value: 'TunnelError', writable: true, configurable: true });

/** The platform's class, even when the page puts another in its place: `window.WebSocket = PeerToPeerWebSocket`. */
export const NativeWebSocket = globalThis.WebSocket;

/** In Node.js and its like, events are script themselves. */
export const EVENTS_ARE_NATIVE = !globalThis.process?.versions?.node;

/** How long a link that nothing needs is kept, in milliseconds. A process would have to wait for its end. */
export const linkGrace = () => (EVENTS_ARE_NATIVE ? 5000 : 100);

/** Functions of `src/tasks.rs`. */
let beginRound, runTask, finishRound, runDeferred;
let tasks;

/** Takes the functions that rounds call. */
export function prepareTasks(...given) {
  [beginRound, runTask, finishRound, runDeferred] = given;
  tasks = new MessageChannel();
  const { port1 } = tasks;
  port1.onmessage = () => {
    port1.unref?.();
    beginRound();
  };
  runTasksAfter(port1, 256);
  port1.unref?.();
}

/**
 * Asks for a round of tasks in a task of the event loop. In Node.js a port that listens keeps the process alive, unless it
 * says that it need not.
 */
export function postTasks() {
  tasks.port1.ref?.();
  tasks.port2.postMessage(null);
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
  if (!EVENTS_ARE_NATIVE) count = 1;
  // Whether the round of this event has ended: some implementations call the other listeners all the same.
  let isOver;
  const run = (event, index) => {
    if (index === 0) {
      isOver = false;
      if (runsMicrotasks === undefined) queueMicrotask(() => (runsMicrotasks ??= true));
    } else if (index === 1) {
      runsMicrotasks ??= false;
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

/**
 * Whether microtasks run between the listeners of a native event; undefined until two have been called. They don't where one
 * listener stands for all, as zone.js has it: then each round has one task.
 */
let runsMicrotasks;

/** Runs what has been deferred when the script that runs now has ended. */
export const postDeferred = () => queueMicrotask(runDeferred);

/** Not every kind of scope and browser says when it is idle. */
export function whenIdle(task) {
  if (globalThis.requestIdleCallback) requestIdleCallback(() => task());
  else setTimeout(task, 200);
}

/** Opens a WebSocket of the platform's class. */
export const dial = (url, protocols) => new NativeWebSocket(url, protocols);

let release;

/** Holds a Web Lock while that is wanted: browsers freeze hidden pages that are silent for minutes, but none with a lock. */
export function holdLock(wanted) {
  release?.();
  release = undefined;
  if (!wanted) return;
  const held = new Promise(resolve => {
    release = resolve;
  });
  // Insecure contexts have no locks.
  globalThis.navigator?.locks?.request('tunnel-wasm', { mode: 'shared' }, () => held).catch(() => {});
}
