/** Why something failed: a stable `code`, and a message that says what was tried and what to do. */
export class TunnelError extends Error {
  constructor(message: string, options?: { code?: string; cause?: unknown });
  /**
   * `server-not-found`, `port-closed`, `refused`, `bad-credential`, `bad-server-id`, `id-taken-over`,
   * `relay-unreachable`, `protocol-error`, `overflow`, `timeout`, `aborted`, `draining`, `peer-reloaded`, `port-taken`,
   * `identity-in-use`, `no-identity`, `not-initialised`, …
   */
  readonly code: string;
  /** The close code, where a socket has ended. */
  readonly closeCode?: number;
  /** The close reason, where a socket has ended. */
  readonly reason?: string;
}

/** What `PeerToPeerWebSocket.toPort` takes. */
export interface SocketOptions {
  /** Subprotocols, in order of preference. */
  protocols?: string | Iterable<string>;
  /**
   * A name: the key kept under it in IndexedDB is used, and made when there is none. One page at a time can use it:
   * `identity-in-use` otherwise. Default: a fresh key.
   */
  identity?: string;
  /** How long the socket survives while the relay can't be reached, in milliseconds: 300000; 0 turns resumption off. */
  resumeTimeout?: number;
  /** How long it survives while the relay answers and the server is not there, in milliseconds: 15000. */
  absentTimeout?: number;
  /** Ends the attempt to connect; an open socket stays open. */
  signal?: AbortSignal;
  /** Access token, for relays that want one. */
  token?: string;
  /** Whether a server of the livecode dialect that does not encrypt will do: false. */
  allowPlain?: boolean;
}

/** What `opened` resolves with. Taking `readable` turns `message` events off. */
export interface SocketConnection {
  readonly readable: ReadableStream<string | Uint8Array>;
  readonly writable: WritableStream<string | BufferSource | Blob>;
  readonly protocol: string;
  readonly extensions: string;
}

/** What `closed` resolves with. */
export interface SocketCloseInfo {
  readonly closeCode: number;
  readonly reason: string;
}

/** What `getStats` counts. */
export interface SocketStats {
  /** Bytes of messages that `send` took. */
  readonly bytesSent: number;
  /** Bytes of messages that arrived. */
  readonly bytesReceived: number;
  readonly messagesSent: number;
  readonly messagesReceived: number;
  /** Bytes sent again after the way to the peer was lost. */
  readonly bytesRetransmitted: number;
  /** Bytes sent that the peer has not acknowledged. */
  readonly bytesUnacknowledged: number;
  /** How often the way to the peer was found again. */
  readonly reconnects: number;
  /** Round trip from peer to peer in milliseconds; null until measured. */
  readonly roundTripTime: number | null;
  /** `waiting`: the peer has not acknowledged all, it is busy or frozen. `interrupted`: there is no way to it now. */
  readonly state: 'alive' | 'waiting' | 'interrupted';
  /** What the connection runs over. */
  readonly path: 'relay';
}

export interface PeerToPeerWebSocketEventMap extends WebSocketEventMap {
  /** The way to the peer is lost; nothing else is, so far. */
  reconnecting: Event;
  /** The way to the peer is found again; nothing was lost, doubled or reordered. */
  reconnected: Event;
}

/**
 * The platform's `WebSocket`, from one page to another: encrypted end to end, and resumed when the network fails.
 *
 * All of the standard's members behave as the standard says. `bufferedAmount` falls when bytes go to the relay's link.
 */
export class PeerToPeerWebSocket extends EventTarget {
  /** `url` is a tunnel URL: the relay's URL, then `/SERVER_ID/PORT`; a path and query behind it reach the server. */
  constructor(url: string | URL, protocols?: string | string[]);
  /**
   * Connects to a port of a server; returns at once, in CONNECTING. The relay's URL may also begin with `http`.
   *
   * Throws a `TypeError` for a bad port, a `TunnelError` for a mistyped server ID, a `SyntaxError` for a bad URL.
   */
  static toPort(
    port: number,
    serverId: string | number,
    relayUrl: string | URL,
    options?: SocketOptions,
  ): PeerToPeerWebSocket;
  /** The server's end of an open channel. */
  static throughChannel(channel: number, server: ForwardingServerWebSocket): PeerToPeerWebSocket;

  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** The tunnel URL. */
  readonly url: string;
  readonly readyState: 0 | 1 | 2 | 3;
  readonly bufferedAmount: number;
  readonly extensions: string;
  readonly protocol: string;
  binaryType: BinaryType;
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void;
  close(code?: number, reason?: string): void;

  onopen: ((this: WebSocket, event: Event) => any) | null;
  onmessage: ((this: WebSocket, event: MessageEvent) => any) | null;
  onerror: ((this: WebSocket, event: Event) => any) | null;
  onclose: ((this: WebSocket, event: CloseEvent) => any) | null;
  onreconnecting: ((this: WebSocket, event: Event) => any) | null;
  onreconnected: ((this: WebSocket, event: Event) => any) | null;

  /** Resolves when the socket is open; rejects with a `TunnelError`, or the signal's reason. */
  readonly opened: Promise<SocketConnection>;
  /** Resolves after a clean end; rejects with a `TunnelError`, which has `closeCode` and `reason`, after any other. */
  readonly closed: Promise<SocketCloseInfo>;
  /** The messages as a stream: the peer is slowed down to how they are read. Turns `message` events off. */
  readonly readable: ReadableStream<string | Uint8Array>;
  /** Sends what is written, as fast as the peer takes it. */
  readonly writable: WritableStream<string | BufferSource | Blob>;
  /** The messages one by one, as `binaryType` says. Turns `message` events off. */
  [Symbol.asyncIterator](): AsyncGenerator<any, void, undefined>;

  /** The server's port, 0 to 65535. */
  readonly port: number;
  readonly serverId: string;
  /** Path and query that the client asked for: `/` if it named none. */
  readonly path: string;
  /** The server's name for the connection; null at the client. */
  readonly channel: number | null;
  /** The peer's address as the relay sees it, if it says so. */
  readonly remoteAddress: string | null;
  /** The peer's key, which it has proven to hold. A client's is fresh for each socket. */
  readonly remoteId: string | null;
  /** Whether the socket is encrypted end to end; always, but with a plain peer of the livecode dialect. */
  readonly encrypted: boolean;
  /** Counters; null once the socket has ended. */
  getStats(): SocketStats | null;

  addEventListener<K extends keyof PeerToPeerWebSocketEventMap>(
    type: K,
    listener: (this: WebSocket, event: PeerToPeerWebSocketEventMap[K]) => any,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Ports: one, a range, or several of these. */
export type Ports = number | { first: number; last: number } | readonly Ports[];

/** A client that wants in. */
export interface ConnectionOffer {
  readonly channel: number;
  readonly port: number;
  readonly remoteAddress: string;
  readonly remoteId: string | null;
  /** Subprotocols, in the client's order of preference. */
  readonly protocols: readonly string[];
  readonly path: string;
  /** Whether it does not encrypt. */
  readonly plain: boolean;
}

/** Subprotocols that a server speaks, or a function that chooses one of those offered. Default: the first one offered. */
export type ProtocolChoice =
  | string
  | Iterable<string>
  | ((offered: readonly string[], offer: ConnectionOffer) => string | undefined | Promise<string | undefined>);

export interface ServerOptions {
  /**
   * A name: the key kept under it in IndexedDB is used, and made when there is none. One page at a time can use it:
   * `identity-in-use` otherwise. Default: a fresh key. A page that is reloaded keeps its server ID so.
   */
  identity?: string;
  /** Access token, for relays that want one. */
  token?: string;
  /** Gives up registering: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /** For all listeners that say nothing about subprotocols. */
  protocols?: ProtocolChoice;
  /** Whether clients of the livecode dialect that do not encrypt are let in: false. Their messages are texts. */
  allowPlain?: boolean;
}

export interface ListenOptions {
  protocols?: ProtocolChoice;
  /** Decides who may come in, before the connection opens. */
  accept?: (offer: ConnectionOffer) => boolean | Promise<boolean>;
}

/** A claim on ports. */
export interface Listener {
  readonly ports: readonly { first: number; last: number }[];
  /** Gives the ports back; open sockets stay. */
  close(): void;
}

/** A `connection` event. */
export interface ConnectionEvent extends Event {
  readonly socket: PeerToPeerWebSocket;
  readonly port: number;
}

export interface ForwardingServerWebSocketEventMap {
  open: Event;
  connection: ConnectionEvent;
  close: CloseEvent;
  error: Event;
  /** The relay can't be reached; it is being dialled again. */
  reconnecting: Event;
  reconnected: Event;
}

/** A server in a page: whoever has its ID can connect to its ports. */
export class ForwardingServerWebSocket extends ForwardingWebSocket {
  private constructor();
  /** Registers a server. Rejects with a `TunnelError`, or the signal's reason. */
  static newThrough(relayUrl: string | URL, options?: ServerOptions): Promise<ForwardingServerWebSocket>;

  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** What clients connect to: 56 characters that name the server's key. */
  readonly serverId: string;
  /** The tunnel URL to share: append `/PORT`. */
  readonly url: string;
  readonly relayUrl: string;
  /** The identity, if one was asked for. `protected`: the key can be used by this origin's pages, and read by nobody. */
  readonly identity: { readonly name: string; readonly protected: boolean } | null;
  readonly readyState: 0 | 1 | 2 | 3;
  /** The open sockets. */
  readonly clients: ReadonlySet<PeerToPeerWebSocket>;

  /**
   * Serves ports. Throws a `TunnelError` (`port-taken`) if one of them is served already.
   *
   * The handler gets each open socket. Without one, sockets go to `connection` listeners, else to `accept`.
   */
  listen(ports: Ports, handler?: (socket: PeerToPeerWebSocket) => unknown, options?: ListenOptions): Listener;
  listen(ports: Ports, options?: ListenOptions): Listener;
  /** The next socket that neither a handler nor a `connection` listener takes. */
  accept(): Promise<PeerToPeerWebSocket>;
  [Symbol.asyncIterator](): AsyncGenerator<PeerToPeerWebSocket, void, undefined>;
  /** Closes the clients with 1001 and unregisters. */
  close(): Promise<void>;

  onopen: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  onconnection: ((this: ForwardingServerWebSocket, event: ConnectionEvent) => any) | null;
  onclose: ((this: ForwardingServerWebSocket, event: CloseEvent) => any) | null;
  onerror: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  onreconnecting: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  onreconnected: ((this: ForwardingServerWebSocket, event: Event) => any) | null;

  addEventListener<K extends keyof ForwardingServerWebSocketEventMap>(
    type: K,
    listener: (this: ForwardingServerWebSocket, event: ForwardingServerWebSocketEventMap[K]) => any,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
