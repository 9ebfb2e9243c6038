import type { ForwardingServerWebSocket, Listener, PeerToPeerWebSocket, Ports, ConnectionOffer, SocketOptions, ProtocolChoice } from 'tunnel-wasm'

/** The facts about the asker beside the request. */
export interface AskerInfo {
  /** The server's port that the request came to. */
  readonly port: number
  /** The asker's ID, which is its public key: `null` where the dialect has none. */
  readonly remoteId: string | null
  /** The asker's address as the relay says: `null` if it says none. */
  readonly remoteAddress: string | null
  /** True if the asker's key is proven. */
  readonly verified: boolean
  /** True if the exchange is encrypted from tab to tab. */
  readonly encrypted: boolean
}

/**
 * Answers a request. What it throws becomes 500, and is reported; no answer within `answerWithin` becomes 504.
 * `request.signal` is aborted when the asker goes or the time is over. `request.url` is `https://`, the server's ID, and the path
 * with its query.
 *
 * @example
 * serve(server, 80, async request => new Response(`you asked for ${new URL(request.url).pathname}`))
 */
export type RequestHandler = (request: ServedRequest, info: AskerInfo) => Response | Promise<Response>

/** The options of `serve`. */
export interface ServeOptions {
  /** Decides who may ask: a client that it refuses gets no socket. */
  accept?: (offer: ConnectionOffer) => unknown
  /**
   * Takes sockets of other subprotocols than `tunnel.http.v1`, so that one port has both. Without it they are refused.
   */
  onsocket?: (socket: PeerToPeerWebSocket) => unknown
  /** Subprotocols for these sockets, as `listen` has them. */
  protocols?: ProtocolChoice
  /**
   * Most requests at a time; one address gets half of them. Beyond, the answer is 503.
   *
   * @default 32
   */
  maxExchanges?: number
  /**
   * The time that the handler may take to answer, and the asker to send the next piece of a body, in milliseconds. The handler's
   * time stands still while it waits for the asker.
   *
   * @default 30000
   */
  answerWithin?: number
}

/**
 * Serves HTTP on ports of a server, from tab to tab: `fetchThrough` asks. Bodies are streams both ways, and who sends waits for
 * who reads. Throws as `server.listen` does: `port-taken`, `InvalidStateError` for a server that is closed.
 *
 * @example
 * const server = await ForwardingServerWebSocket.newThrough('wss://relay.example')
 * serve(server, 80, async request => new Response('hello'))
 */
export function serve(server: ForwardingServerWebSocket, ports: Ports, handler: RequestHandler, options?: ServeOptions): Listener

/** The options of `fetchThrough`: the members of `fetch`'s options that mean something here. */
export interface FetchThroughInit {
  /** @default 'GET' */
  method?: string
  /** All headers are sent, also those that `fetch` forbids. 100 at most. */
  headers?: HeadersInit
  /** A stream is sent while it is read; a redirection can't send it again. */
  body?: BodyInit | null
  /**
   * The treatment of redirections. They never leave the server.
   *
   * @default 'follow'
   */
  redirect?: 'follow' | 'manual' | 'error'
  /** Cancels the request, or the rest of its response. */
  signal?: AbortSignal
  /** Options of the sockets. Requests with the same object share sockets. */
  tunnel?: Omit<SocketOptions, 'protocols' | 'maxMessageSize'>
}

/**
 * Asks a server in another tab, as `fetch` asks one on the web. The URL is `${server.url}/80/path?query`. Up to six sockets to a
 * port are kept for ten seconds, and used again.
 *
 * Rejects with a `TunnelError` if the server is not reached, or goes before its response is complete: a body ends well only if
 * all of it arrived. A URL that names no server, or two, is a `SyntaxError`; an impossible request or redirection a `TypeError`.
 *
 * @example
 * const response = await fetchThrough(`${url}/80/notes?since=7`)
 * const notes = await response.json()
 */
export function fetchThrough(url: string | URL, init?: FetchThroughInit): Promise<ServedResponse>

/**
 * A request that came through a tunnel: a `Request` with the headers that were sent, `Cookie`, `Host` and `Origin` too. The
 * platform's `fetch` and `new Request(request)` see neither these headers nor its body: pass them on by name.
 */
export class ServedRequest extends Request {
  private constructor()
}

/** A `Response` that keeps `Set-Cookie`, which the platform's drops. */
export class ServedResponse extends Response {}
