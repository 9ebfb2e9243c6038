// The server that a page sees. Its Rust half registers it, knows whose port is whose, and who gets the sockets.

import {
  addressOf,
  checkProtocols,
  CloseEvent,
  connector,
  deferred,
  defineEventHandlers,
  describe,
  Event,
  INTERNAL,
  isObject,
  MAX_MESSAGE_SIZE,
  post,
  READY_STATES,
  report,
  requireArguments,
  serverStats,
  toLimit,
  toMilliseconds,
  toPort,
  toRelayUrl,
  toSignal,
  toStrings,
  toToken,
  tunnel,
  TunnelError,
  tunnelUrl,
  WARM_UP,
} from './common.js';
import { HAND_OVER, park, takeIdentity } from './kept.js';
import { ForwardingWebSocket, proveBy } from './livecode.js';
import { EVENTS_ARE_NATIVE, GONE, unlessAborted, unwatch, watch } from './page.js';
import { fail, handedOver, handled, MODULE_FAILED, openIncoming, openOutgoing } from './sockets.js';

// Close codes, as docs/PROTOCOL.md numbers them.
const INTERNAL_ERROR = 1011;
const PORT_CLOSED = 3702;
const REFUSED = 3703;

/** Clients of a server unless the application says otherwise. */
const MAX_CLIENTS = 1024;

function toRanges(ports) {
  if (Array.isArray(ports)) return ports.flatMap(toRanges);
  if (typeof ports !== 'object' || ports === null) return [{ first: toPort(ports), last: toPort(ports) }];
  return [{ first: toPort(ports.first), last: toPort(ports.last) }];
}

/** The result of `listen`: a claim on ports. */
class Listener {
  #ranges;
  #close;

  constructor(token, ranges, close) {
    if (token !== INTERNAL) throw new TypeError('Illegal constructor');
    this.#ranges = ranges;
    this.#close = close;
  }

  get ports() {
    return this.#ranges.map(range => ({ ...range }));
  }

  close() {
    this.#close();
  }
}
describe(Listener, 'Listener');

/** By identity and relay: when the server of this page has ended that is there. */
const hosting = new Map();

/** Closes a server whose module has failed. */
let endWithModule;
export let fireHosting, fireOffer, fireServerClosed, hasCallbacks;

let openServer;

export class ForwardingServerWebSocket extends ForwardingWebSocket {
  /** Its Rust half. */
  #core;
  #relay;
  #serverId = '';
  #readyState = 0;
  #handlers = Object.create(null);
  /** Subprotocols for listeners that name none. */
  #protocols;
  /** Longest message taken by listeners that say nothing about it. */
  #maxMessageSize;
  #clients = new Set();
  /** The ports of each claim, for `getStats`. */
  #claims = new Set();
  /** Callbacks of `connection` events: with one of them and no `listen`, all ports are served. */
  #callbacks = new Set();
  #identity;
  /** The place where the page keeps what is parked; undefined without an identity. */
  #parking;
  #registered = deferred();
  #ended = deferred();

  constructor(token) {
    if (token !== INTERNAL) throw new TypeError('Illegal constructor: use ForwardingServerWebSocket.newThrough()');
    super(INTERNAL);
  }

  static async newThrough(relayUrl, options) {
    requireArguments(arguments, 1, 'ForwardingServerWebSocket', 'newThrough');
    connector();
    return openServer(toRelayUrl(relayUrl), options ?? {});
  }

  static async #open(relay, options) {
    const { identity, token, signal, protocols, livecode, allowPlain } = options;
    const { maxClients = MAX_CLIENTS, maxMessageSize = MAX_MESSAGE_SIZE, absentTimeout = 15_000 } = options;
    const clients = toLimit(maxClients, 'maxClients');
    const server = new ForwardingServerWebSocket(INTERNAL);
    server.#relay = relay;
    server.#protocols = toChooser(protocols);
    server.#maxMessageSize = toLimit(maxMessageSize, 'maxMessageSize');
    toSignal(signal)?.throwIfAborted();
    if (identity !== undefined) {
      await server.#claim(`${identity} ${server.#relay}`, signal);
      try {
        server.#identity = await takeIdentity(`${identity}`, signal);
      } catch (error) {
        server.#ended.resolve();
        throw error;
      }
      server.#ended.promise.then(server.#identity.release);
      server.#parking = park(`${identity} ${relay}`, toMilliseconds(absentTimeout, 'absentTimeout'));
    }
    server.#core = tunnel.host(server, addressOf(relay), toToken(token), server.#identity, {
      livecode: !!livecode,
      allowPlain: !!allowPlain,
      maxClients: clients,
    });
    watch(server, message => endWithModule(server, message), 'server');
    const abort = () => {
      server.#registered.reject(signal.reason);
      server.close();
    };
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort);
    try {
      await server.#registered.promise;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return server;
  }

  /**
   * Waits until no other server of this page is under the identity at the relay, as pages wait for each other: two would take
   * the server ID from each other.
   */
  async #claim(key, signal) {
    const timeout = AbortSignal.timeout(HAND_OVER);
    const both = signal ? AbortSignal.any([signal, timeout]) : timeout;
    while (hosting.has(key)) {
      try {
        await unlessAborted(hosting.get(key), both);
      } catch (error) {
        if (signal?.aborted) throw error;
        const message = 'this page has a server under this identity already: use that one, or close it first';
        throw new TunnelError(message, { code: 'identity-in-use' });
      }
    }
    const ended = this.#ended.promise;
    hosting.set(key, ended);
    ended.then(() => hosting.delete(key));
  }

  get serverId() {
    return this.#serverId;
  }

  get url() {
    return tunnel.serverUrl(this.#relay.href, this.#serverId);
  }

  get relayUrl() {
    return this.#relay.href;
  }

  get readyState() {
    return this.#readyState;
  }

  get identity() {
    if (!this.#identity) return null;
    const { name, protected: isProtected } = this.#identity;
    return { name, protected: isProtected };
  }

  get parked() {
    return this.#parking?.value();
  }

  set parked(value) {
    if (!this.#parking) {
      const message = 'only a server with an `identity` can park: without one, a reloaded page is another server';
      throw new TunnelError(message, { code: 'no-identity' });
    }
    this.#parking.set(value);
  }

  get clients() {
    return this.#clients;
  }

  listen(ports, handler, options) {
    this.#core;
    requireArguments(arguments, 1, 'ForwardingServerWebSocket', 'listen');
    if (typeof handler !== 'function') [handler, options] = [undefined, options ?? handler];
    if (options != null && !isObject(options)) throw new TypeError('the handler is not a function');
    const { accept, protocols, maxMessageSize = this.#maxMessageSize } = options ?? {};
    if (accept !== undefined && typeof accept !== 'function') throw new TypeError('accept is not a function');
    if (this.#readyState > 1) throw new DOMException('The server is closed.', 'InvalidStateError');
    const ranges = toRanges(ports);
    const listener = {
      handler,
      accept,
      protocols: toChooser(protocols) ?? this.#protocols,
      maxMessageSize: toLimit(maxMessageSize, 'maxMessageSize'),
    };
    const bounds = ranges.flatMap(({ first, last }) => [first, last]);
    const claim = this.#core.listen(new Uint16Array(bounds), listener);
    this.#claims.add(ranges);
    return new Listener(INTERNAL, ranges, () => {
      this.#claims.delete(ranges);
      this.#core.unlisten(claim);
    });
  }

  accept() {
    this.#core.beginAccepting();
    const taker = deferred();
    const socket = this.#core.take();
    if (socket) {
      handedOver(socket);
      taker.resolve(socket);
    } else if (this.#readyState > 1) {
      dismiss(taker);
    } else {
      watch(taker, () => dismiss(taker));
      const settled = () => unwatch(taker);
      taker.promise.then(settled, settled);
      this.#core.wait(taker);
    }
    return taker.promise;
  }

  [Symbol.asyncIterator]() {
    this.#core.beginAccepting();
    const sockets = async function* (server) {
      for (;;) {
        let socket;
        try {
          socket = await server.accept();
        } catch {
          return;
        }
        yield socket;
      }
    };
    return sockets(this);
  }

  getStats() {
    // A server whose module has failed has none.
    const stats = this.#core.hostStats() ?? serverStats(null, []);
    const ports = [...this.#claims].flat().map(range => ({ ...range }));
    return { ...stats, ports, ...(this.#readyState === 3 && { state: 'ended', link: null }) };
  }

  close() {
    if (this.#readyState < 2) {
      this.#readyState = 2;
      this.#core.close();
    }
    return this.#ended.promise;
  }

  addEventListener(type, callback, options) {
    super.addEventListener(type, callback, options);
    if (`${type}` !== 'connection' || !callback || options?.signal?.aborted) return;
    this.#callbacks.add(callback);
    options?.signal?.addEventListener('abort', () => this.#callbacks.delete(callback), { once: true });
    if (options?.once) super.addEventListener(type, () => this.#callbacks.delete(callback), { once: true });
  }

  removeEventListener(type, callback, options) {
    super.removeEventListener(type, callback, options);
    if (`${type}` === 'connection') this.#callbacks.delete(callback);
  }

  /** Asks the application whether a client of this listener may come in: a claim's, or one that says nothing. */
  async #answer(core, listener, offer) {
    const { port } = offer;
    if (this.#readyState > 1) return core.refuse(PORT_CLOSED, 'the server is closed');
    try {
      let accepted = listener.accept ? listener.accept(offer) : true;
      // Without an `await` where none is needed: answers keep the order of the offers.
      if (accepted?.then) accepted = await accepted;
      if (!accepted) return core.refuse(REFUSED, `the server refused the connection to port ${port}`);
      let protocol = listener.protocols ? listener.protocols(offer.protocols, offer) : offer.protocols.find(isOrdinary);
      if (protocol?.then) protocol = await protocol;
      const isWanted = offer.protocols.length > 0 || listener.protocols?.isList;
      if (isWanted && !offer.protocols.includes(protocol)) {
        return core.refuse(REFUSED, `the server speaks none of the subprotocols offered on port ${port}`);
      }
      // A socket of a client that went while the application decided would hear of no end.
      if (!core.isHere() || this.#core.refusesSurplus(core, port)) return undefined;
      const peer = {
        server: { opened: socket => this.#opened(socket, listener), closed: socket => this.#closed(socket) },
        channel: offer.channel,
        port,
        serverId: this.#serverId,
        path: offer.path,
        remoteAddress: offer.remoteAddress,
        remoteId: offer.remoteId,
        verified: offer.verified,
        encrypted: !offer.plain,
      };
      const socket = openIncoming(core, tunnelUrl(this.#relay, this.#serverId, port) + offer.path, peer);
      core.accept(socket, protocol ?? '', listener.maxMessageSize);
    } catch (error) {
      core.refuse(INTERNAL_ERROR, `the server's application failed to answer on port ${port}`);
      report(error);
    }
  }

  /**
   * Gives a new socket to its handler and the listeners or, if there are none, to the next `accept`. Its messages wait until
   * somebody listens. The caller calls what is returned after `open` has been fired.
   */
  #opened(socket, { handler }) {
    // Its end has been sent already.
    if (this.#readyState > 1) return undefined;
    this.#clients.add(socket);
    const settled = handler && this.#handle(socket, handler);
    const unclaimed = !handler && !this.#callbacks.size;
    this.dispatchEvent(Object.assign(new Event('connection'), { socket, port: socket.port }));
    if (handler) return settled;
    if (!unclaimed || this.#core.put(socket)) handedOver(socket);
    return undefined;
  }

  /** Messages wait until the handler is done, with its promise if it returns one. A client must not wait for one that failed. */
  #handle(socket, handler) {
    const failed = error => {
      fail(socket, 'the server\'s application failed');
      report(error);
    };
    try {
      const result = handler(socket);
      if (typeof result?.then !== 'function') return () => handled(socket);
      result.then(() => handled(socket), failed);
    } catch (error) {
      failed(error);
    }
    return undefined;
  }

  #closed(socket) {
    this.#clients.delete(socket);
    this.#core.remove(socket);
  }

  static {
    openServer = (relay, options) => ForwardingServerWebSocket.#open(relay, options);

    fireHosting = (server, serverId, again) => {
      if (server.#readyState > 1) return;
      // The ID is made of the server's own key, and stays.
      server.#serverId ||= serverId;
      server.#readyState = 1;
      server.#registered.resolve();
      server.dispatchEvent(new Event(again ? 'reconnected' : 'open'));
    };

    hasCallbacks = server => server.#callbacks.size > 0;

    fireOffer = (server, listener, core, channel, port, remoteAddress, remoteId, verified, protocols, path, plain) => {
      path ||= '/';
      remoteId ??= null;
      listener ??= { protocols: server.#protocols, maxMessageSize: server.#maxMessageSize };
      server.#answer(core, listener, { channel, port, remoteAddress, remoteId, verified, protocols, path, plain });
    };

    fireServerClosed = (server, code, name, reason) => {
      unwatch(server);
      server.#parking?.end();
      const wasClean = server.#readyState > 1 && code !== INTERNAL_ERROR;
      server.#readyState = 3;
      server.#registered.reject(new TunnelError(reason || `the server ended with code ${code}`, { code: name }));
      server.#ended.resolve();
      const close = () => server.dispatchEvent(new CloseEvent('close', { code, reason, wasClean }));
      if (wasClean) return close();
      server.dispatchEvent(new Event('error'));
      post(close);
    };

    endWithModule = (server, message) => {
      server.#core = GONE;
      server.#registered.reject(new TunnelError(message, { code: 'internal' }));
      fireServerClosed(server, INTERNAL_ERROR, 'internal', MODULE_FAILED);
    };

    proveBy(server => {
      if (!isObject(server) || !(#core in server)) throw new TypeError('prove() takes a ForwardingServerWebSocket of this page');
      if (server.#readyState !== 1) throw new DOMException('The server is closed.', 'InvalidStateError');
      const serverId = server.#serverId;
      if (serverId.length !== 56) {
        const message = `the relay has given this server the number ${serverId}, which proves nothing: host it without { livecode: true }`;
        throw new TunnelError(message, { code: 'bad-server-id' });
      }
      return async (challenge, url) => ({ server: serverId, proof: await server.#core.prove(challenge, new URL(url)) });
    });

    defineEventHandlers(
      ForwardingServerWebSocket.prototype,
      server => server.#handlers,
      ['open', 'connection', 'close', 'error', 'reconnecting', 'reconnected'],
    );
  }
}
describe(ForwardingServerWebSocket, 'ForwardingServerWebSocket', READY_STATES);

/** Has everything called once that a first connection calls, which is slow when it is called first; then calls `end`. */
export async function warmUp(end) {
  // In Node.js a link that goes leaves a timer, which keeps the process alive for seconds.
  if (!EVENTS_ARE_NATIVE) return;
  // The page may be left meanwhile, which ends it with all other servers: nobody has to hear of that.
  const server = await openServer(WARM_UP, {}).catch(() => {});
  if (!server) return end();
  server.listen(0, client => {
    client.onmessage = ({ data }) => client.send(data);
  });
  const socket = openOutgoing({ relay: WARM_UP, serverId: server.serverId, port: 0, path: '' }, [], {});
  socket.onopen = () => socket.send(new Uint8Array(1));
  socket.onmessage = () => socket.close();
  socket.onclose = () => {
    server.close();
    end();
  };
}

/** Names that begin like this are reserved (PROTOCOL.md, 2.1): who takes the first one offered can't speak them. */
const isOrdinary = protocol => !protocol.startsWith('tunnel.');

/** Rejects a promise of `accept`: the server has ended. */
export const dismiss = taker => taker.reject(new TunnelError('the server is closed', { code: 'closed' }));

/** A function that chooses a subprotocol: the first one offered of a list, or the application's own. */
function toChooser(protocols) {
  if (protocols === undefined || typeof protocols === 'function') return protocols;
  const list = checkProtocols(toStrings(protocols));
  const choose = offered => offered.find(protocol => list.includes(protocol));
  return Object.assign(choose, { isList: list.length > 0 });
}
