import type { LinkStats, ServerStats, SocketStats } from 'tunnel-wasm'

/** The report that "Copy report" copies: no payloads, and no queries of URLs, which may have tokens in them. */
export interface InspectorReport {
  /** The time at which it was made: ISO 8601, as all times. */
  readonly at: string
  /** The page's address, without query and fragment. */
  readonly page: string
  /** The browser. */
  readonly userAgent: string
  /** Links, oldest first; of those that have ended, the last 50, as of servers and sockets. */
  readonly links: readonly (Partial<Omit<LinkStats, 'id' | 'url'>> & InspectedThing)[]
  /** Servers. */
  readonly servers: readonly (Partial<Omit<ServerStats, 'link'>> & InspectedThing & { readonly serverId: string; readonly link: number | null })[]
  /** Sockets. */
  readonly sockets: readonly InspectedSocket[]
  /** The last 1,000 things that happened. Messages that follow each other share an entry. */
  readonly timeline: readonly InspectedEvent[]
}

/** A link, a server or a socket. */
export interface InspectedThing {
  /** Its number in the panel. */
  readonly number: number
  /** The relay's URL, without its query. */
  readonly relay: string
  /** True once it has ended. */
  readonly ended: boolean
  /** The close code, once it has ended. */
  readonly code?: number
}

/** A socket. */
export interface InspectedSocket extends InspectedThing {
  /** The server's port. */
  readonly port: number
  /** The server's ID. */
  readonly serverId: string
  /** Which end the page has. */
  readonly side: 'client' | 'server'
  /** As the socket's. */
  readonly protocol: string
  /** As the socket's, without its query. */
  readonly path: string
  /** As the socket's. */
  readonly remoteId: string | null
  /** As the socket's. */
  readonly verified: boolean
  /** As the socket's. */
  readonly encrypted: boolean
  /** As the socket's. */
  readonly readyState: number
  /** As its `getStats()`. */
  readonly stats?: SocketStats
}

/** Something that happened. */
export interface InspectedEvent {
  /** When. */
  readonly at: string
  /** The thing that it happened to: `socket 3`, for example. */
  readonly subject: string
  /** `dialled`, `open`, `sent`, `received`, `paused`, `goes on`, `reconnecting`, `resumed`, `reopened`, `closed` and others. */
  readonly what: string
  /** More of it, in words. */
  readonly detail?: string
  /** The close code. */
  readonly code?: number
  /** Messages of this entry. */
  readonly count?: number
  /** Bytes of these messages. */
  readonly bytes?: number
}

/**
 * Opens the panel: it is at the bottom of the page when the module is imported, as a button.
 *
 * @example
 * import { show } from 'tunnel-wasm/inspect'
 * show()
 */
export function show(): void

/** Makes it a button again. */
export function hide(): void

/** Takes it off the page, and stops looking on. Cut networks are mended. */
export function remove(): void

/** The report that "Copy report" copies. */
export function report(): InspectorReport
