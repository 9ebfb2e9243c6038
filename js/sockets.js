// The classes that a page sees. They are JavaScript because a Rust struct cannot extend EventTarget. They have the
// interface (WebIDL's conversions, checks and descriptors) and no protocol: that is behind what Rust hands them.

export class TunnelError extends Error {
  constructor(message, { code, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
Object.defineProperty(TunnelError.prototype, 'name', { value: 'TunnelError', writable: true, configurable: true });

export const tunnelError = (message, code, cause) => new TunnelError(message, { code, cause });
export const domException = (message, name) => new DOMException(message, name);

let taskPort;

/**
 * A native event calls each of its listeners with microtasks run in between, which nothing that script calls does. So
 * one task of the event loop can run many of ours as if each had its own: a hundredth of the cost of as many posts.
 */
const TASKS_IN_ONE = 32;

export function startTasks(tasks) {
  const { port1, port2 } = new MessageChannel();
  for (let i = 0; i < TASKS_IN_ONE; i++) port1.addEventListener('message', () => tasks.runOne());
  port1.addEventListener('message', () => tasks.finish());
  port1.start();
  taskPort = port2;
}

export const postTasks = () => taskPort.postMessage(null);
