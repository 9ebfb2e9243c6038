/**
 * The exports of the package's `livecode` entry, which speaks the livecode dialect: 40 KB of code.
 */
export interface LivecodeModule {
  /** Initialises it. */
  default: (from?: { module_or_path: InitInput | Promise<InitInput> }) => Promise<unknown>;
}

/**
 * Gives the library the module that speaks the livecode dialect. Only a service worker has to, and before it uses the
 * dialect: `import * as livecode from 'tunnel-wasm/livecode'; await useLivecode(livecode)`. Everywhere else it is loaded
 * when a relay turns out to speak the dialect. Rejects with a `TunnelError` `livecode-unavailable` when it can't be
 * initialised.
 */
export function useLivecode(module: LivecodeModule | Promise<LivecodeModule>): Promise<void>;

/** The result of an instruction. */
export interface LivecodeAnswer {
  /** The texts that it sent, in order. */
  sent: string[];
  /** Its return value, as text. */
  returned: string;
  /** Its return value, or that of the promise that it returned, if that has a JSON form; only with `capabilities`. */
  value?: unknown;
  /** The same as a person reads it; only with `capabilities`. */
  printed?: string;
}

/** An instruction that was added. */
export interface LivecodeInstruction {
  /** The word by which it is called. */
  name: string;
  /** Of the newest source. */
  version: number;
  /** The number of versions that are kept. */
  versions: number;
  /** Characters of the newest source. */
  length: number;
  /** Calls since it was added. */
  calls: number;
  /** Of these, the ones that ended with an error. */
  errors: number;
  /** The last error: JSON with `name`, `message` and `stack`; empty if there was none. */
  lastError: string;
}

/** A value among the globals of instructions. */
export interface LivecodeGlobal {
  /** Its name in what it is a part of. */
  name: string;
  /** As `typeof` says, or `array`, `null` or `getter`; getters are not called. */
  type: string;
  /** The start of its text; of an array, its length. */
  preview: string;
}

/** A line of the log of instructions, an error of theirs, or a change of one. */
export interface LivecodeLogEntry {
  /** `log`, `info`, `debug`, `warn`, `error`, or `change`: somebody has saved, rolled back, removed or restored something. */
  level: string;
  /** The line, or the error, or the change, for people. */
  text: string;
  /** The place of an error, if it is in an instruction. */
  at?: { instruction: string; version: number; line: number; column: number } | null;
  /** The instruction that was changed; not there if everything was restored. */
  instruction?: string;
  /** Its version now; null: it is gone. */
  version?: number | null;
}

/** Limits of a relay for instructions, and what of them is used. */
export interface LivecodeQuota {
  /** Processor time of one call, in milliseconds. */
  callTime: number;
  /** Processor time of all calls together: a share of one processor. */
  share: number;
  /** Bytes that instructions keep. */
  heap: number;
  /** The most that they may keep. */
  maxHeap: number;
  /** Bytes of the sandbox. */
  memory: number;
  /** Calls since the relay started. */
  calls: number;
  /** Of these, the ones that ended with an error. */
  errors: number;
  /** Of these, the ones that were stopped at a limit. */
  stopped: number;
  /** Processor time of all calls, in milliseconds. */
  spent: number;
  /** Connections that instructions know. */
  links: number;
  /** Timers that wait. */
  timers: number;
  /** The labels of the checkpoints that are kept, the oldest first. */
  checkpoints: string[];
}

/** Options of connecting. */
export interface LivecodeOptions {
  /** Gives up connecting: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** The events of a livecoding client. */
export interface NodeJSLivecodingClientEventMap {
  /** A line that the server says: `data` (and `line`) begins with `server: `. */
  log: MessageEvent<string> & { readonly line: string };
  /** A text that belongs to no command. */
  message: MessageEvent<string>;
  /** The connection has ended. */
  close: CloseEvent;
}

/**
 * A client of a livecoding Node.js server: it gives the server instructions, written in JavaScript, and runs them.
 *
 * Whoever has the server's credential runs code on it. Promises reject with a `TunnelError`: `rejected` (no such
 * instruction), `bad-credential`, `relay-unreachable`, `closed`, `timeout`, `protocol-error`, `not-initialised`,
 * `livecode-unavailable` (the module that speaks the dialect can't be loaded). A relay with `capabilities` also tells of errors in
 * instructions: `source` (a source does not compile) and `instruction-threw`; `cause` has `name`, `message`, `stack` and `at` with
 * instruction, version, line and column. On other servers, what only such a relay has rejects with `unsupported`.
 */
export class NodeJSLivecodingClient extends EventTarget {
  protected constructor();
  /** Connects, for commands with this credential. */
  static configureServerAt(
    url: string | URL,
    credential: string,
    options?: LivecodeOptions,
  ): Promise<NodeJSLivecodingClient>;
  /** Connects without a credential, to run what others have added. */
  static connectTo(url: string | URL, options?: LivecodeOptions): Promise<NodeJSLivecodingClient>;
  /** The server's URL. */
  readonly url: string;
  /** The WebSocket's: 0 to 3. */
  readonly readyState: 0 | 1 | 2 | 3;
  /**
   * Adds an instruction, in place of one of the same name. `source` is a function, or the text of a function expression.
   *
   * @example
   * await livecode.addInstruction('greet', 'function greet(name) { return `hello ${name}` }')
   */
  addInstruction(name: string, source: string | ((...parameters: any[]) => unknown)): Promise<LivecodeAnswer>;
  /**
   * Runs an instruction; the parameters travel as JSON.
   *
   * @example
   * const { returned } = await livecode.invoke('greet', 'Ann')
   */
  invoke(name: string, ...parameters: unknown[]): Promise<LivecodeAnswer>;
  /** Evaluates source. Resolves with what it sent before it ended; a server ends when it throws. */
  eval(source: string): Promise<LivecodeAnswer>;
  /** The additions of the server to those of 2017; null: none, or no credential was given. */
  readonly capabilities: { readonly version: number } | null;
  /** Evaluates source; resolves with its value as a person reads it. */
  evaluate(source: string): Promise<string>;
  /** The instructions that were added; only with `capabilities`, as all that follow up to `logs`. */
  instructions(): Promise<LivecodeInstruction[]>;
  /** An instruction's source: the newest, or an older version of the last 16. */
  source(name: string, version?: number): Promise<{ name: string; version: number; source: string }>;
  /** Makes an older version the newest again; resolves with the number that it has now. */
  rollBack(name: string, version: number): Promise<number>;
  /** Forgets an instruction. */
  removeInstruction(name: string): Promise<void>;
  /** Keeps all that instructions keep under a label; the last 4 are kept. */
  checkpoint(label: string): Promise<void>;
  /** Makes everything what it was at that checkpoint. */
  restore(label: string): Promise<void>;
  /** One level of the globals of instructions, or of the value at a path such as `rooms.tea` or `['rooms', 'tea']`. */
  inspect(path?: string | string[]): Promise<LivecodeGlobal[]>;
  /** Limits of the relay for instructions, and what of them is used. */
  quota(): Promise<LivecodeQuota>;
  /** Lines of the log as they come. */
  logs(): AsyncGenerator<LivecodeLogEntry, void, undefined>;
  /**
   * Proves to the relay that this page holds a server's key, so that its instructions know whom they list: `this.prove(serverId)` is true in them
   * for as long as this connection is open. Takes no credential. Resolves with the server's ID. Rejects with a `TunnelError` `unsupported`
   * where the relay has no such command, `bad-credential` if it does not take the proof, and `bad-server-id` for a server whose ID is a number.
   *
   * @example
   * const server = await ForwardingServerWebSocket.newThrough('wss://relay.example')
   * await livecode.prove(server)
   * await livecode.invoke('host game', 'Sparks', server.serverId, 4)
   */
  prove(server: ForwardingServerWebSocket): Promise<string>;
  /** Installs an npm package on the server, then evaluates `then`. Resolves when the installation begins. */
  require(name: string, then?: string): Promise<LivecodeAnswer>;
  /** The file names of the modules that the server has loaded. */
  modules(): Promise<string[]>;
  /** Closes the connection. The instructions stay. */
  closeConfigurator(): Promise<void>;
  /** A line that the server says. */
  onlog: ((event: NodeJSLivecodingClientEventMap['log']) => unknown) | null;
  /** A text that belongs to no command. */
  onmessage: ((event: MessageEvent<string>) => unknown) | null;
  /** The connection has ended. */
  onclose: ((event: CloseEvent) => unknown) | null;
  addEventListener<K extends keyof NodeJSLivecodingClientEventMap>(
    type: K,
    listener: (event: NodeJSLivecodingClientEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** A `connected` event: a client has connected to this server. */
export interface ForwardedConnectionEvent extends Event {
  /** The client's channel. */
  readonly channel: number;
  /** The port that it asks for. */
  readonly port: number;
  /** The client's address, as the server sees it. */
  readonly address: string;
}

/** A `data` event: data from the other side of a channel. */
export interface ForwardedDataEvent extends MessageEvent<string> {
  /** The client's channel, at a server; the server ID, at a client: text if it is a key's. */
  readonly from: number | string;
}

/**
 * A client that makes a livecoding server forward between its peers: the six instructions of the tunnel.
 *
 * A connection can be one server, and one client of one server.
 */
export class NodeJSTunnelingClient extends NodeJSLivecodingClient {
  /** Connects, adds the tunnel's instructions and initialises them. Servers and clients that are there stay. */
  static configureServerAt(
    url: string | URL,
    credential: string,
    options?: LivecodeOptions,
  ): Promise<NodeJSTunnelingClient>;
  /** Connects to a server that has the tunnel's instructions already. */
  static connectTo(url: string | URL, options?: LivecodeOptions): Promise<NodeJSTunnelingClient>;
  /** Makes a server ID, and the credential to be that server. */
  createServerCredential(): Promise<{ serverId: number; credential: string }>;
  /** Makes this connection the server. Rejects with `bad-credential`. */
  installServer(serverId: number | string, credential: string): Promise<void>;
  /** Makes this connection a client of the server. Rejects with `server-not-found`. */
  connectToServer(serverId: number | string, port: number): Promise<void>;
  /** As the server. Rejects with `peer-gone` when the client is gone or takes no more. */
  forwardToClient(channel: number | string, data: string): Promise<void>;
  /** As a client. Rejects with `server-not-found` when the server is gone or takes no more. */
  forwardToServer(serverId: number | string, data: string): Promise<void>;
  /** A client has connected to this server. */
  onconnected: ((event: ForwardedConnectionEvent) => unknown) | null;
  /** Data from the other side of a channel. */
  ondata: ((event: ForwardedDataEvent) => unknown) | null;
  addEventListener<K extends keyof NodeJSLivecodingClientEventMap>(
    type: K,
    listener: (event: NodeJSLivecodingClientEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: 'connected',
    listener: (event: ForwardedConnectionEvent) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: 'data',
    listener: (event: ForwardedDataEvent) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * One channel that a livecoding server forwards: plain text, neither encrypted nor resumed. `PeerToPeerWebSocket` is
 * both. A `ForwardingServerWebSocket` is one too, by its name and states; it sends through its sockets only.
 */
export abstract class ForwardingWebSocket extends EventTarget {
  /** `readyState` before `open`. */
  static readonly CONNECTING: 0;
  /** `readyState` from `open` on. */
  static readonly OPEN: 1;
  /** `readyState` from `close()` on. */
  static readonly CLOSING: 2;
  /** `readyState` at the end. */
  static readonly CLOSED: 3;
  /** As the class's. */
  readonly CONNECTING: 0;
  /** As the class's. */
  readonly OPEN: 1;
  /** As the class's. */
  readonly CLOSING: 2;
  /** As the class's. */
  readonly CLOSED: 3;
  /** The relay's URL. */
  readonly url: string;
  /** The server's port. */
  readonly port: number;
  /** The server's ID. */
  readonly serverId: string;
  /** One of the constants. */
  readonly readyState: 0 | 1 | 2 | 3;
  /** Bytes of commands that the WebSocket has not sent yet. */
  readonly bufferedAmount: number;
  /**
   * Sends one text. Throws `InvalidStateError` while connecting and a `TypeError` for binary data; does nothing once
   * closing.
   */
  send(data: string): void;
  /** Closes after what has been sent. */
  close(): void;
  /** The socket is open. */
  onopen: ((event: Event) => unknown) | null;
  /** A text from the other side. */
  onmessage: ((event: MessageEvent<string>) => unknown) | null;
  /** Before `close`, if the socket never opened; `error` is a `TunnelError` or the signal's reason. */
  onerror: ((event: Event & { readonly error: unknown }) => unknown) | null;
  /** `code` is 1000, or 1006 with a reason that begins with a `TunnelError`'s code. */
  onclose: ((event: CloseEvent) => unknown) | null;
}

/** A client's end of a forwarded channel. */
export class ForwardingClientWebSocket extends ForwardingWebSocket {
  private constructor();
  /** Connects to a port of a server of a livecoding relay; returns at once, in CONNECTING. */
  static toPort(
    port: number,
    serverId: number | string,
    relayUrl: string | URL,
    options?: LivecodeOptions,
  ): ForwardingClientWebSocket;
}
