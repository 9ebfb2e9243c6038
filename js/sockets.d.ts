/**
 * The code of a `TunnelError`: docs/errors.md says what each means and what to do. `closed` stands for close codes of
 * applications, which have no name.
 */
export type TunnelErrorCode =
  | 'abnormal'
  | 'aborted'
  | 'bad-credential'
  | 'bad-server-id'
  | 'build-mismatch'
  | 'closed'
  | 'draining'
  | 'going-away'
  | 'handshake-failed'
  | 'id-taken-over'
  | 'identity-in-use'
  | 'instruction-threw'
  | 'internal'
  | 'livecode-relay'
  | 'livecode-unavailable'
  | 'no-identity'
  | 'no-status'
  | 'no-such-channel'
  | 'normal'
  | 'not-initialised'
  | 'overflow'
  | 'peer-gone'
  | 'peer-reloaded'
  | 'policy'
  | 'port-closed'
  | 'port-taken'
  | 'protocol-error'
  | 'refused'
  | 'rejected'
  | 'relay-unreachable'
  | 'server-not-found'
  | 'source'
  | 'timeout'
  | 'too-big'
  | 'try-again-later'
  | 'unsupported';

/** The error of everything that fails: a stable `code`, and a message that says what was tried and what to do. */
export class TunnelError extends Error {
  /** For applications that fail in the same way. */
  constructor(message: string, options?: { code?: TunnelErrorCode; cause?: unknown });
  /**
   * Stable, and one of a few: for programs.
   *
   * @example
   * socket.closed.catch(error => {
   *   if (error.code === 'server-not-found') showThatNobodyIsThere()
   * })
   */
  readonly code: TunnelErrorCode;
  /**
   * The close code, where a socket has ended: the real one, as 3702 for a closed port, also where a `close` event's `code`
   * has to be 1006.
   */
  readonly closeCode?: number;
  /** The close reason, where a socket has ended. */
  readonly reason?: string;
}

/** The options of `PeerToPeerWebSocket.toPort`. */
export interface SocketOptions {
  /** Subprotocols, in order of preference: 64 of 1,024 bytes at most. */
  protocols?: string | Iterable<string>;
  /**
   * A name: the key kept under it in IndexedDB is used, and made when there is none. One page at a time can use it:
   * `identity-in-use` otherwise. Default: a fresh key.
   */
  identity?: string;
  /**
   * The time that the socket survives while the relay can't be reached, in milliseconds; 0 turns resumption off.
   *
   * @default 300000
   */
  resumeTimeout?: number;
  /**
   * The time that it survives while the relay answers and the server is not there, in milliseconds.
   *
   * @default 15000
   */
  absentTimeout?: number;
  /**
   * True has the socket begin a new session by itself when the server's page was reloaded, left or closed, instead of closing:
   * it fires `reconnecting`, then `reopened`. `unacknowledged()` has what may be lost. The server must have an `identity`, and
   * the new session proves the same key. It redials for `absentTimeout` while the server is not there, and for
   * `resumeTimeout` in all, which must not be 0. Each message is kept whole until the server has all of it. It has no effect
   * in the livecode dialect.
   *
   * @default false
   */
  redial?: boolean;
  /**
   * Ends the attempt to connect; an open socket stays open.
   *
   * @example
   * const socket = PeerToPeerWebSocket.toPort(80, serverId, relay, { signal: AbortSignal.timeout(5000) })
   */
  signal?: AbortSignal;
  /**
   * Access token, for relays that want one. Tokens expire: a function is called at each dial, and may return a promise. One that
   * throws, rejects or does not settle within 10 seconds counts as a relay that can't be reached: an open socket tries again.
   *
   * @default ''
   * @example
   * token: async () => (await fetch('/relay-token')).text()
   */
  token?: string | Promise<string> | (() => string | Promise<string>);
  /**
   * True lets the relay speak the livecode dialect, where servers are numbers and nothing proves who answers under one.
   * Without it, a relay that answers in the dialect fails the socket with `livecode-relay`, and a number in a text
   * or URL is no server ID.
   *
   * @default false
   */
  livecode?: boolean;
  /**
   * True if a server of the livecode dialect that does not encrypt will do.
   *
   * @default false
   */
  allowPlain?: boolean;
  /**
   * Longest message that the socket takes, in bytes, as Node.js's `ws` has it. A longer one ends the connection with
   * 1009; one for which the page has no room now, with 1013.
   *
   * @default 104857600
   */
  maxMessageSize?: number;
}

/** The value of `opened`. Taking `readable` turns `message` events off. */
export interface SocketConnection {
  /** The socket's `readable`. */
  readonly readable: ReadableStream<string | Uint8Array>;
  /** The socket's `writable`. */
  readonly writable: WritableStream<string | ArrayBufferLike | Blob | ArrayBufferView>;
  /** The subprotocol that the server chose; empty if it chose none. */
  readonly protocol: string;
  /** Always empty. */
  readonly extensions: string;
}

/** The value of `closed`. */
export interface SocketCloseInfo {
  /** As a `close` event's `code`. */
  readonly closeCode: number;
  /** As a `close` event's `reason`. */
  readonly reason: string;
}

/** The counters of `getStats`. */
export interface SocketStats {
  /** Bytes of messages that `send` took. */
  readonly bytesSent: number;
  /** Bytes of messages that arrived. */
  readonly bytesReceived: number;
  /** Messages that `send` took. */
  readonly messagesSent: number;
  /** Messages that arrived. */
  readonly messagesReceived: number;
  /** Bytes sent again after the way to the peer was lost. */
  readonly bytesRetransmitted: number;
  /** Bytes sent that the peer has not acknowledged. */
  readonly bytesUnacknowledged: number;
  /** The number of times that the way to the peer was found again. */
  readonly reconnects: number;
  /** Round trip from peer to peer in milliseconds; null until measured. */
  readonly roundTripTime: number | null;
  /** `waiting`: the peer has not acknowledged all, it is busy or frozen. `interrupted`: there is no way to it now. */
  readonly state: 'alive' | 'waiting' | 'interrupted' | 'ended';
  /** The carrier of the connection. */
  readonly path: 'relay';
  /** The `id` of the link that it runs over now; null while there is none. */
  readonly link: number | null;
}


/** The events of a `PeerToPeerWebSocket`. */
export interface PeerToPeerWebSocketEventMap extends WebSocketEventMap {
  /** The way to the peer is lost; nothing else is, so far. */
  reconnecting: Event;
  /** The way to the peer is found again; nothing was lost, doubled or reordered. */
  reconnected: Event;
  /** The server has lost the session, and there is a new one: with the option `redial` only. */
  reopened: Event;
}

/**
 * The platform's `WebSocket`, from one page to another: encrypted end to end, and resumed when the network fails.
 *
 * All of the standard's members behave as the standard says. `bufferedAmount` falls when bytes go to the relay's link.
 */
export class PeerToPeerWebSocket extends EventTarget {
  /**
   * `url` is a tunnel URL: the relay's URL, then `/SERVER_ID/PORT`; a path and query behind it reach the server. The relay's
   * URL may have a path and a query of its own, as `server.url` has them.
   *
   * Throws a `SyntaxError` for a URL that is no tunnel's or could name two servers: one with two server IDs between its
   * slashes. With the option `livecode` a number counts as a server ID if there is no other one.
   *
   * @example
   * const socket = new PeerToPeerWebSocket(`${server.url}/80/room?name=me`, ['chat'])
   */
  constructor(url: string | URL, protocols?: string | string[], options?: Omit<SocketOptions, 'protocols'>);
  /**
   * Connects to a port of a server; returns at once, in CONNECTING. The relay's URL may also begin with `http`.
   *
   * A server ID that is a number, and no text, asks for the livecode dialect, like the option `livecode`.
   *
   * Throws a `TypeError` for a bad port, a `TunnelError` for a mistyped server ID, a `SyntaxError` for a bad URL.
   *
   * @example
   * const socket = PeerToPeerWebSocket.toPort(80, serverId, 'wss://relay.example', { protocols: ['chat'] })
   */
  static toPort(
    port: number,
    serverId: string | number,
    relayUrl: string | URL,
    options?: SocketOptions,
  ): PeerToPeerWebSocket;
  /** The server's end of an open channel. */
  static throughChannel(channel: number, server: ForwardingServerWebSocket): PeerToPeerWebSocket;

  /** `readyState` before `open`. */
  static readonly CONNECTING: 0;
  /** `readyState` from `open` on, also while the socket reconnects. */
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

  /** The tunnel URL. */
  readonly url: string;
  /** One of the constants. */
  readonly readyState: 0 | 1 | 2 | 3;
  /** Bytes that `send` has taken and the relay's link has not; it falls between tasks only. */
  readonly bufferedAmount: number;
  /** Always empty. */
  readonly extensions: string;
  /** The subprotocol that the server chose; empty if it chose none. */
  readonly protocol: string;
  /**
   * The type of binary messages that arrive: `blob`, as the platform's, or `arraybuffer`.
   *
   * @default 'blob'
   * @example
   * socket.binaryType = 'arraybuffer'
   * socket.onmessage = ({ data }) => console.log(data instanceof ArrayBuffer ? data.byteLength : data)
   */
  binaryType: BinaryType;
  /** Sends one message. Throws `InvalidStateError` while connecting; does nothing once closing. */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void;
  /**
   * Closes after what has been sent. Throws `InvalidAccessError` for a code other than 1000 and 3000 to 4999, and a
   * `SyntaxError` for a reason of more than 123 bytes of UTF-8.
   *
   * @example
   * socket.send('the last message')
   * socket.close(4000, 'done')
   * await socket.closed // the other side has had all
   */
  close(code?: number, reason?: string): void;
  /**
   * Ends at once, without waiting for the other side: `close` events have 1006 and are not clean on both sides. The other
   * side's `closed` rejects with the reason, under the code `aborted`.
   *
   * @example
   * socket.abort('the game is over')
   */
  abort(reason?: string): void;
  /** `abort()`, under the name that the npm package `ws` has for it. */
  terminate(): void;
  /**
   * Takes out what was sent in sessions that the server has lost and is **not known** to have arrived, oldest first: some of it
   * may have, so that a message that is sent again may come twice. Nothing of it is sent again by itself. What had not been
   * sent when the session was lost is not among it: it waits for the next session, and follows what `reopened` listeners
   * send. After the end of a socket with the option `redial` it is all that may not have arrived; of other sockets, nothing.
   * The socket ends with `overflow` if more than 1 MiB of it has not been taken when another session is lost.
   *
   * @example
   * const socket = PeerToPeerWebSocket.toPort(80, serverId, relay, { redial: true })
   * socket.onreopened = () => {
   *   socket.send(JSON.stringify({ join: name }))
   *   for (const message of socket.unacknowledged()) socket.send(message)
   * }
   */
  unacknowledged(): (string | Uint8Array)[];

  /** The socket is open. */
  onopen: ((this: WebSocket, event: Event) => any) | null;
  /** A message: text, or what `binaryType` says. */
  onmessage: ((this: WebSocket, event: MessageEvent) => any) | null;
  /** The socket could not be opened; `close`, which follows, says why. */
  onerror: ((this: WebSocket, event: Event) => any) | null;
  /** The socket has ended: 1006 if nobody closed it. */
  onclose: ((this: WebSocket, event: CloseEvent) => any) | null;
  /** The way to the peer is lost; nothing else is, so far. */
  onreconnecting: ((this: WebSocket, event: Event) => any) | null;
  /** The way to the peer is found again; nothing was lost, doubled or reordered. */
  onreconnected: ((this: WebSocket, event: Event) => any) | null;
  /** The server has lost the session, and there is a new one: with the option `redial` only. */
  onreopened: ((this: WebSocket, event: Event) => any) | null;

  /**
   * Resolves when the socket is open; rejects with a `TunnelError`, or the signal's reason. Messages do not wait for it: listen
   * to `message` before another `await`, or take `readable` or an iterator, which wait for you.
   *
   * @example
   * const socket = PeerToPeerWebSocket.toPort(80, serverId, relay)
   * socket.onmessage = ({ data }) => show(data)
   * await socket.opened
   */
  readonly opened: Promise<SocketConnection>;
  /**
   * Resolves after a clean end; rejects with a `TunnelError`, which has `closeCode` and `reason`, after any other.
   *
   * @example
   * try {
   *   const { closeCode, reason } = await socket.closed
   *   console.log('ended', closeCode, reason)
   * } catch (error) {
   *   if (error instanceof TunnelError) console.log(error.code, error.closeCode, error.reason)
   * }
   */
  readonly closed: Promise<SocketCloseInfo>;
  /** The messages as a stream: the peer is slowed down to how they are read. Turns `message` events off. */
  readonly readable: ReadableStream<string | Uint8Array>;
  /** Sends what is written, as fast as the peer takes it. */
  readonly writable: WritableStream<string | ArrayBufferLike | Blob | ArrayBufferView>;
  /**
   * The messages one by one, as `binaryType` says. Turns `message` events off.
   *
   * @example
   * for await (const message of socket) console.log(message)
   */
  [Symbol.asyncIterator](): AsyncGenerator<any, void, undefined>;

  /** The server's port, 0 to 65535. */
  readonly port: number;
  /** The server's ID: at a livecoding relay it is a number. */
  readonly serverId: string;
  /** Path and query that the client asked for: `/` if it named none. */
  readonly path: string;
  /** The server's name for the connection; null at the client. */
  readonly channel: number | null;
  /** The peer's address as the relay sees it, if it says so. */
  readonly remoteAddress: string | null;
  /** The peer's key, which it has proven to hold; null until it has. A client's is fresh for each socket. */
  readonly remoteId: string | null;
  /**
   * True if the peer has proven to hold the key that is its ID and, for a server, that this is the ID that was asked for.
   * False until `open`, and for servers of the livecode dialect: anybody whom the relay likes can answer for one.
   */
  readonly verified: boolean;
  /**
   * True if the socket is encrypted end to end; always, but with a plain peer of the livecode dialect. It does not say with
   * whom: that is `verified`.
   */
  readonly encrypted: boolean;
  /**
   * Counters; the last ones, once the socket has ended.
   *
   * @example
   * const { roundTripTime, bytesUnacknowledged, state } = socket.getStats()
   * console.log(`${roundTripTime} ms, ${bytesUnacknowledged} bytes on their way, ${state}`)
   */
  getStats(): SocketStats;

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

/**
 * Ports: one, a range, or several of these.
 *
 * @example
 * server.listen([80, { first: 6000, last: 6009 }], socket => socket.send(`port ${socket.port}`))
 */
export type Ports = number | { first: number; last: number } | readonly Ports[];

/** A client that wants in. */
export interface ConnectionOffer {
  /** The server's name for the connection. */
  readonly channel: number;
  /** The port that it asks for. */
  readonly port: number;
  /** Its address as the relay sees it. */
  readonly remoteAddress: string;
  /** The key that its handshake was made with; null if it does not encrypt. The socket opens only if it holds that key. */
  readonly remoteId: string | null;
  /**
   * True if it has proven already that it holds the key: false, since the handshake may be a recording that somebody plays
   * again, which never becomes an open socket. The socket's own `verified` is true when it opens.
   */
  readonly verified: boolean;
  /** Subprotocols, in the client's order of preference. */
  readonly protocols: readonly string[];
  /** Path and query that it asks for: `/` if it names none. */
  readonly path: string;
  /** True if it does not encrypt. */
  readonly plain: boolean;
}

/**
 * Subprotocols that a server speaks, or a function that chooses one of those offered. Default: the first one offered.
 *
 * @example
 * protocols: offered => offered.find(name => name.startsWith('chat.'))
 */
export type ProtocolChoice =
  | string
  | Iterable<string>
  | ((offered: readonly string[], offer: ConnectionOffer) => string | undefined | Promise<string | undefined>);

/** The options of `newThrough`. */
export interface ServerOptions {
  /**
   * A name: the key kept under it in IndexedDB is used, and made when there is none. One page at a time can use it:
   * `identity-in-use` otherwise. Default: a fresh key. A page that is reloaded keeps its server ID so.
   */
  identity?: string;
  /**
   * The time for which `parked` is kept after the server's end, in milliseconds: as long as clients wait for it.
   *
   * @default 15000
   */
  absentTimeout?: number;
  /**
   * Access token, for relays that want one. Tokens expire: a function is called at each dial, and may return a promise. One that
   * throws, rejects or does not settle within 10 seconds counts as a relay that can't be reached: an open socket tries again.
   *
   * @default ''
   * @example
   * token: async () => (await fetch('/relay-token')).text()
   */
  token?: string | Promise<string> | (() => string | Promise<string>);
  /** Gives up registering: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
  /** For all listeners that say nothing about subprotocols. */
  protocols?: ProtocolChoice;
  /**
   * True lets the relay speak the livecode dialect, where the server gets a number for an ID and clients can't verify it.
   * Without it, a relay that answers in the dialect ends the server with `livecode-relay`. A server that has an ID
   * never gets another one: it ends instead.
   *
   * @default false
   */
  livecode?: boolean;
  /**
   * True lets clients of the livecode dialect in that do not encrypt. Their messages are texts.
   *
   * @default false
   */
  allowPlain?: boolean;
  /**
   * Most clients at once. Those that are away count, and those that are being let in. A further one is turned away,
   * tries again some times, and then fails with `try-again-later`.
   *
   * @default 1024
   */
  maxClients?: number;
  /**
   * Longest message that clients may send, in bytes, for all listeners that say nothing about it.
   *
   * @default 104857600
   */
  maxMessageSize?: number;
}

/** The options of `listen`, besides ports and handler. */
export interface ListenOptions {
  /** For these ports, instead of the server's. */
  protocols?: ProtocolChoice;
  /**
   * Decides who may come in, before the connection opens. Default: everybody.
   *
   * @example
   * accept: ({ remoteId }) => remoteId !== null && friends.has(remoteId)
   */
  accept?: (offer: ConnectionOffer) => boolean | Promise<boolean>;
  /** Longest message that clients of these ports may send, in bytes. Default: the server's. */
  maxMessageSize?: number;
}

/**
 * A claim on ports.
 *
 * @example
 * const listener = server.listen(80, socket => greet(socket))
 * listener.close() // nobody else gets in, and who is in stays
 */
export interface Listener {
  /** The ports claimed. */
  readonly ports: readonly { first: number; last: number }[];
  /** Gives the ports back; open sockets stay. */
  close(): void;
}

/** A `connection` event. */
export interface ConnectionEvent extends Event {
  /** The new client's socket, which is open. */
  readonly socket: PeerToPeerWebSocket;
  /** The port that it has connected to. */
  readonly port: number;
}

/** The events of a `ForwardingServerWebSocket`. */
export interface ForwardingServerWebSocketEventMap {
  /** It is registered. */
  open: Event;
  /** A client has connected. */
  connection: ConnectionEvent;
  /** It is not registered any more, and has no clients. */
  close: CloseEvent;
  /** It has ended although nobody closed it; `close` follows. */
  error: Event;
  /** The relay can't be reached; it is being dialled again. */
  reconnecting: Event;
  /** It is registered again. */
  reconnected: Event;
}

/** A server in a page: whoever has its ID can connect to its ports. */
export class ForwardingServerWebSocket extends ForwardingWebSocket {
  private constructor();
  /**
   * Registers a server. Rejects with a `TunnelError`, or the signal's reason.
   *
   * @example
   * const server = await ForwardingServerWebSocket.newThrough('wss://relay.example', { identity: 'my server' })
   */
  static newThrough(relayUrl: string | URL, options?: ServerOptions): Promise<ForwardingServerWebSocket>;

  /** The address for clients: 56 characters that name the server's key; a number with the option `livecode`. It never changes. */
  readonly serverId: string;
  /** The tunnel URL to share: append `/PORT`. It begins with the relay's URL, path and query included. */
  readonly url: string;
  /** The relay's URL. */
  readonly relayUrl: string;
  /** The identity, if one was asked for. `protected`: the key can be used by this origin's pages, and read by nobody. */
  readonly identity: { readonly name: string; readonly protected: boolean } | null;
  /**
   * A value of the application's that outlives a reload of the page, as JSON: the next server of this tab under the same identity
   * and relay has it, if it is hosted within `absentTimeout` after this one's end. It is written when it is set, and when the
   * page is left. Any script of the origin can read it. Setting it throws a `TunnelError` (`no-identity`) without an identity
   * and in workers, which have no `sessionStorage`; a `TypeError` for what is no JSON, and a `QuotaExceededError` for some megabytes.
   *
   * @example
   * const server = await ForwardingServerWebSocket.newThrough(relay, { identity: 'game' })
   * const game = server.parked ?? newGame()
   * server.parked = game // what it is when the page is left
   */
  parked: any;
  /** OPEN from when `newThrough` resolves, also while the relay can't be reached. */
  readonly readyState: 0 | 1 | 2 | 3;
  /**
   * The open sockets.
   *
   * @example
   * for (const client of server.clients) client.send('to all')
   */
  readonly clients: ReadonlySet<PeerToPeerWebSocket>;

  /**
   * Serves ports. Throws a `TunnelError` (`port-taken`) if one of them is served already.
   *
   * The handler gets each open socket. Without one, sockets go to `connection` listeners, else to `accept`.
   *
   * A socket's messages wait until somebody listens to them, but no longer than until the handler's promise has settled.
   * A handler that throws or rejects has its error reported and its client closed with 1011.
   *
   * @example
   * server.listen(80, async socket => {
   *   const room = await openRoom(socket.path)
   *   socket.onmessage = ({ data }) => room.say(data) // hears also what has come meanwhile
   * })
   */
  listen(ports: Ports, handler?: (socket: PeerToPeerWebSocket) => unknown, options?: ListenOptions): Listener;
  /** The same without a handler. */
  listen(ports: Ports, options?: ListenOptions): Listener;
  /**
   * The next socket that neither a handler nor a `connection` listener takes. Its messages wait until somebody listens, when
   * it has ended for 5 seconds more.
   *
   * @example
   * server.listen(80)
   * const socket = await server.accept()
   */
  accept(): Promise<PeerToPeerWebSocket>;
  /**
   * The sockets that `accept` would give, until the server is closed.
   *
   * @example
   * for await (const socket of server) greet(socket)
   */
  [Symbol.asyncIterator](): AsyncGenerator<PeerToPeerWebSocket, void, undefined>;
  /** State and counters; the last ones, once the server has ended. */
  getStats(): ServerStats;
  /** Closes the clients with 1001 and unregisters. */
  close(): Promise<void>;

  /** It is registered, for the first time. */
  onopen: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  /** A client has connected. With this, or a listener, and no `listen` at all, all ports are served. */
  onconnection: ((this: ForwardingServerWebSocket, event: ConnectionEvent) => any) | null;
  /** It is not registered any more, and has no clients. */
  onclose: ((this: ForwardingServerWebSocket, event: CloseEvent) => any) | null;
  /** It has ended although nobody closed it; `close` follows. */
  onerror: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  /** The relay can't be reached; it is being dialled again. */
  onreconnecting: ((this: ForwardingServerWebSocket, event: Event) => any) | null;
  /** It is registered again. */
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
