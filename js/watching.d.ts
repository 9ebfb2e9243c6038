
/** One WebSocket of the page to a relay. Byte counts have the frames of the protocol in them, not those of WebSockets. */
export interface LinkStats {
  /** Its number in this page: 1 is the first that was dialled. */
  readonly id: number;
  /** The relay's URL. */
  readonly url: string;
  /** `dialling` until the relay has answered. */
  readonly state: 'dialling' | 'open';
  /** The dialect that the relay speaks; null until it has answered. */
  readonly dialect: 'tunnel.v1' | 'livecode' | null;
  /** Connections that it carries, also those that begin or end. */
  readonly channels: number;
  /** Those of which the relay takes nothing now. */
  readonly channelsPaused: number;
  /** Messages given to the WebSocket. One carries many of the application's, or a part of one. */
  readonly messagesSent: number;
  /** Messages that the WebSocket gave. */
  readonly messagesReceived: number;
  /** Bytes given to the WebSocket. */
  readonly bytesSent: number;
  /** Bytes that the WebSocket gave. */
  readonly bytesReceived: number;
  /** Bytes that the WebSocket holds. */
  readonly bufferedAmount: number;
  /** The relay's answer to the last ping, in milliseconds; null until there was one. A link pings after silence. */
  readonly roundTripTime: number | null;
}

/** The counters of a server. */
export interface ServerStats {
  /** `interrupted`: the relay can't be reached now, and is dialled again. */
  readonly state: 'hosting' | 'interrupted' | 'ended';
  /** Clients that are in; those that are away count. */
  readonly clients: number;
  /** Clients that are being let in. */
  readonly clientsWaiting: number;
  /** Clients that ever were in. */
  readonly clientsAdmitted: number;
  /** Clients that `accept`, the ports or the subprotocols refused. */
  readonly clientsRefused: number;
  /** Times that its link was lost. */
  readonly reconnects: number;
  /** The ports that `listen` claimed; empty without a claim, though a server may have all ports then. */
  readonly ports: readonly { readonly first: number; readonly last: number }[];
  /** The link that it is registered on, or about to be. */
  readonly link: LinkStats | null;
}

/**
 * The WebSockets of this page to relays: one for each server, and one for all sockets of a relay.
 *
 * @example
 * for (const { url, state, channels } of getLinks()) console.log(url, state, channels)
 */
export function getLinks(): LinkStats[];

/** The argument of `observe`: `tunnel-wasm/inspect` is one. Errors that its members throw are shown on the console, but for those of `dial`. */
export interface Observer {
  /**
   * A link, a socket or a server begins, which may come to nothing. `id` is the link's number, else null. Those that are there
   * when `observe` is called come at once. Add listeners, and don't send: the socket may be about to be made.
   */
  began?(kind: 'link' | 'socket' | 'server', target: WebSocket | ForwardingServerWebSocket, id: number | null): void;
  /** A socket takes a message to send, or gives one that arrived: before its listeners get it. */
  message?(socket: PeerToPeerWebSocket, direction: 'sent' | 'received', data: string | ArrayBuffer | ArrayBufferView | Blob): void;
  /** Makes the WebSocket of a link, of the platform's class, for tests that cut it or delay it; undefined has the library make it. */
  dial?(url: string, protocols: string[], Native: typeof WebSocket): WebSocket | undefined;
}

/**
 * Has the observer told of links, sockets and servers of this page; one at a time, null ends it. Nothing is told of connections of
 * the livecoding classes.
 *
 * @example
 * observe({ message: (socket, direction) => console.log(socket.port, direction) })
 */
export function observe(observer: Observer | null): void;
