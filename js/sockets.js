// The socket that a page sees. It is JavaScript because a Rust struct cannot extend EventTarget. It has the interface
// (WebIDL's conversions, checks and descriptors) and no protocol: that is behind `core`, its Rust half.

import {
  addressOf,
  arrival,
  checkProtocols,
  checkRoom,
  CloseEvent,
  clampToUnsignedShort,
  connector,
  deferred,
  define,
  defineEventHandlers,
  describe,
  Event,
  INTERNAL,
  later,
  MAX_MESSAGE_SIZE,
  post,
  READY_STATES,
  requireArguments,
  sendNow,
  sizeOf,
  splitTunnelUrl,
  toLimit,
  toMessage,
  toMilliseconds,
  toPort,
  toRelayUrl,
  toSignal,
  toSocketUrl,
  toStrings,
  toToken,
  tunnel,
  TunnelError,
  tunnelUrl,
  utf8Length,
  warnOnce,
} from './common.js';
import { takeIdentity } from './kept.js';
import { clearTimeout, EVENTS_ARE_NATIVE, GONE, numberOf, seen, unwatch, watch } from './page.js';

/** The close code of an end that an application did not wait for. */
const ABORTED = 3713;

/** `writable` waits while more than this is buffered, in bytes: a link's worth, as the driver fills it. */
const HIGH_WATER_MARK = 262144;

/** Time for which the last messages of a socket that has ended wait for a listener or reader, in milliseconds. */
const PATIENCE = 5000;

/** Time after which the console says that messages wait, in milliseconds. */
const HINT_AFTER = 10_000;

const LISTENED_LATE =
  'Messages came to a socket before anybody read them: unless a listener counted them only, they are gone, as the platform has it. ' +
  'Listen to `message` before the first `await`, or read `socket.readable`, which waits for you.';
const NOBODY_TAKES =
  'Messages have been waiting for 10 seconds on a socket that nobody listens to, and its sender waits, too. ' +
  'Listen to `message`, read `socket.readable`, or close the socket.';

/** Makes a socket that connects. */
export let openOutgoing;
/** The close reason of a socket whose module has failed. */
export const MODULE_FAILED = "the page's WebAssembly module has failed";

/** Closes a socket whose module has failed. */
let endWithModule;
/** Makes the socket of a server's new client. */
export let openIncoming;
/** Its messages need not wait any longer for a handler that may listen. */
export let handled;
/** Nobody but the application will make it listen: its last messages wait for a while. */
export let handedOver;
/** Closes the socket of a server whose application has failed. */
export let fail;
export let fireOpen, fireReopened, fireMessage, fireAvailable, fireDrained, fireEnding, fireClosed;

export class PeerToPeerWebSocket extends EventTarget {
  #core;
  #url;
  #origin;
  #readyState = 0;
  #wasOpen = false;
  #binaryType = 'blob';
  #protocol = '';
  /** The other side. */
  #peer;
  #handlers = Object.create(null);
  #opened = deferred();
  #closed = deferred();
  /** Bytes that `send` took after closing began: they count, and go nowhere. */
  #lost = 0;
  /** Bytes behind a Blob that is still being read, and the promise of the last of them. */
  #waiting = 0;
  #outbox = null;
  /** True when somebody has taken messages: a listener, a stream or an iterator. */
  #isHeard = false;
  /** True when a message was dispatched before that. */
  #hasMissed = false;
  /** While messages wait for that: what ends the waiting. */
  #waits;
  #readable;
  #writable;
  /** Wakes whoever waits for a message, or for room to send. */
  #arrival;
  #drain;
  /** Its end, with which the streams end, too. */
  #end;

  constructor(url, protocols = undefined, options = undefined) {
    super();
    if (url === INTERNAL) return;
    requireArguments(arguments, 1, 'PeerToPeerWebSocket');
    connector();
    const text = `${url}`;
    const list = toStrings(protocols);
    const full = toSocketUrl(text);
    const target = splitTunnelUrl(full, !!options?.livecode);
    this.#dial(full.href, target, list, options ?? {});
  }

  static toPort(port, serverId, relayUrl, options) {
    requireArguments(arguments, 3, 'PeerToPeerWebSocket', 'toPort');
    // A text may come from a link: only a number of the page's own says that the livecode dialect is wanted.
    const livecode = typeof serverId === 'number' || !!options?.livecode;
    const problem = connector().serverIdProblem(`${serverId}`, livecode);
    if (problem) throw new TunnelError(`'${serverId}' is not a server ID: ${problem}`, { code: 'bad-server-id' });
    const relay = toRelayUrl(relayUrl);
    const target = { relay, serverId: `${serverId}`.toLowerCase(), port: toPort(port), path: '', livecode };
    return openOutgoing(target, options?.protocols, options ?? {});
  }

  static throughChannel(channel, server) {
    requireArguments(arguments, 2, 'PeerToPeerWebSocket', 'throughChannel');
    for (const client of server.clients) if (client.#peer.channel === Number(channel)) return client;
    throw new TunnelError(`the server has no open channel ${channel}`, { code: 'no-such-channel' });
  }

  #dial(url, { relay, serverId, port, path, livecode }, protocols, options) {
    const { identity, resumeTimeout = 300_000, absentTimeout = 15_000, signal, token, allowPlain, redial } = options;
    if (redial && !(resumeTimeout > 0)) throw new TypeError('redial needs a resumeTimeout: it is how long the socket redials');
    toSignal(signal);
    this.#url = url;
    this.#origin = relay.origin;
    const unknown = { remoteAddress: null, remoteId: null, verified: false, encrypted: true };
    this.#peer = { port, serverId, path: path || '/', ...unknown };
    const offered = checkProtocols(toStrings(protocols));
    const problem = tunnel.offerProblem(offered, path);
    if (problem) throw new DOMException(`The connection is impossible: ${problem}.`, 'SyntaxError');
    this.#core = tunnel.connect(this, addressOf(relay), toToken(token), serverId, port, {
      path,
      protocols: offered,
      resumeTimeout: toMilliseconds(resumeTimeout, 'resumeTimeout'),
      absentTimeout: toMilliseconds(absentTimeout, 'absentTimeout'),
      livecode: !!livecode,
      allowPlain: !!allowPlain,
      redial: !!redial,
      maxMessageSize: toLimit(options.maxMessageSize ?? MAX_MESSAGE_SIZE, 'maxMessageSize'),
    });
    watch(this, message => endWithModule(this, message), 'socket');
    if (identity === undefined) this.#core.dial();
    else this.#dialAs(`${identity}`, signal);
    if (!signal) return;
    // Like a WebSocketStream's: it ends the attempt to connect, and does nothing to an open socket.
    const abort = () => {
      if (this.#readyState !== 0) return;
      this.#opened.reject(signal.reason);
      this.#readyState = 2;
      this.#core.abort('the signal was aborted');
    };
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort);
    const done = () => signal.removeEventListener('abort', abort);
    this.#opened.promise.then(done, done);
  }

  async #dialAs(name, signal) {
    try {
      const identity = await takeIdentity(name, signal);
      this.#closed.promise.then(identity.release, identity.release);
      this.#core.dial(identity);
    } catch (error) {
      this.#opened.reject(error);
      this.#core.abort(error.message);
    }
  }

  get url() {
    return this.#url;
  }

  get readyState() {
    return this.#readyState;
  }

  get bufferedAmount() {
    return this.#core.bufferedAmount + this.#waiting + this.#lost;
  }

  get extensions() {
    this.#core;
    return '';
  }

  get protocol() {
    return this.#protocol;
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(value) {
    this.#core;
    const type = `${value}`;
    if (type === 'blob' || type === 'arraybuffer') this.#binaryType = type;
  }

  send(data) {
    const core = this.#core;
    requireArguments(arguments, 1, 'PeerToPeerWebSocket', 'send');
    const message = toMessage(data);
    if (this.#readyState === 0) throw new DOMException('Still in CONNECTING state.', 'InvalidStateError');
    if (this.#readyState !== 1) {
      this.#lost += sizeOf(message);
    } else if (message.size !== undefined || this.#outbox) {
      checkRoom(core, seen(this, 'sent', message));
      this.#sendLater(message instanceof Uint8Array ? message.slice() : message);
    } else {
      sendNow(core, seen(this, 'sent', message));
    }
  }

  /** A Blob is read first; what is sent meanwhile waits behind it. */
  #sendLater(message) {
    const size = sizeOf(message);
    this.#waiting += size;
    const read = async () => (message.size === undefined ? message : new Uint8Array(await message.arrayBuffer()));
    const turn = Promise.resolve(this.#outbox)
      .then(read)
      .then(data => sendNow(this.#core, data))
      .catch(error => this.#core.abort(`a Blob could not be sent: ${error}`))
      .then(() => {
        this.#waiting -= size;
        if (this.#outbox === turn) this.#outbox = null;
      });
    this.#outbox = turn;
  }

  close(code = undefined, reason = undefined) {
    const core = this.#core;
    if (code !== undefined) code = clampToUnsignedShort(code);
    if (reason !== undefined) reason = `${reason}`;
    if (code !== undefined && code !== 1000 && (code < 3000 || code > 4999)) {
      const message = `The close code must be 1000, or between 3000 and 4999; ${code} is neither.`;
      throw new DOMException(message, 'InvalidAccessError');
    }
    if (reason !== undefined && utf8Length(reason) > 123) {
      throw new DOMException('The close reason must not be longer than 123 bytes of UTF-8.', 'SyntaxError');
    }
    if (this.#readyState > 1) return;
    this.#readyState = 2;
    this.#release();
    if (reason) code ??= 1000;
    const close = () => core.close(code, reason ?? '');
    if (this.#outbox) this.#outbox.then(close);
    else close();
  }

  /** Ends at once: the other side sees 1006. */
  abort(reason = undefined) {
    const core = this.#core;
    if (this.#readyState === 3) return;
    this.#readyState = 2;
    this.#release();
    core.abort(reason === undefined ? 'the application aborted the connection' : `${reason}`);
  }

  terminate() {
    this.abort();
  }

  get opened() {
    // Messages don't wait because of this: a listener that was added before would never get them, and nothing but its effects
    // shows that there is one.
    return this.#opened.promise;
  }

  #wait(waits) {
    this.#waits = waits;
    // Only while messages wait: the class inherits the method from EventTarget, as the platform's does.
    const value = (type, callback, ...options) => {
      super.addEventListener(type, callback, ...options);
      if (callback && type === 'message') this.#listen();
    };
    define(this, 'addEventListener', { value, configurable: true, writable: true });
    this.#core.park();
  }

  /** Ends the waiting; returns whether there was one. */
  #stopWaiting() {
    if (!this.#waits) return false;
    clearTimeout(this.#waits.timer);
    clearTimeout(this.#waits.hint);
    this.#waits = undefined;
    delete this.addEventListener;
    return true;
  }

  #release() {
    if (this.#stopWaiting()) this.#core.unpark();
  }

  #listen() {
    this.#hear();
    this.#release();
  }

  /**
   * Somebody takes messages from now on. Those who have listened without reading one can't be told from nobody, so that the
   * console says nothing before.
   */
  #hear() {
    if (this.#hasMissed && !this.#isHeard) warnOnce(LISTENED_LATE);
    this.#isHeard = true;
  }

  /** Messages go to who asks for them from now on. */
  #hold() {
    this.#hear();
    this.#stopWaiting();
    this.#core.hold();
  }

  get closed() {
    return this.#closed.promise;
  }

  unacknowledged() {
    return this.#core.unacknowledged();
  }

  get readable() {
    if (this.#readable) return this.#readable;
    this.#hold();
    const pull = async controller => {
      const data = await this.#next();
      if (data === undefined) controller.close();
      else controller.enqueue(typeof data === 'string' ? data : new Uint8Array(data));
    };
    const cancel = () => this.close();
    this.#readable = new ReadableStream({ pull, cancel }, { highWaterMark: 0 });
    return this.#readable;
  }

  get writable() {
    this.#writable ??= new WritableStream({
      start: () => this.#opened.promise.then(() => {}),
      write: async chunk => {
        if (this.#readyState !== 1) throw this.#endError();
        this.send(chunk);
        while (this.bufferedAmount > HIGH_WATER_MARK && !this.#end) await (this.#drain ??= deferred()).promise;
      },
      close: async () => {
        this.close();
        await this.#closed.promise;
      },
      abort: () => this.close(),
    });
    return this.#writable;
  }

  [Symbol.asyncIterator]() {
    this.#hold();
    const messages = async function* (socket) {
      for (let data; (data = await socket.#next()) !== undefined; ) yield socket.#convert(data);
    };
    return messages(this);
  }

  /** The next message for whoever reads instead of listening; undefined after a clean end. */
  async #next() {
    for (;;) {
      const given = this.#core.take();
      if (given !== undefined) return seen(this, 'received', given);
      if (this.#end?.wasClean) return undefined;
      if (this.#end) throw this.#endError();
      await (this.#arrival ??= deferred()).promise;
    }
  }

  #endError() {
    return this.#end?.error ?? new TunnelError('the socket is closing', { code: 'closed' });
  }

  #convert(data) {
    return typeof data !== 'string' && this.#binaryType === 'blob' ? new Blob([data]) : data;
  }

  #wake() {
    this.#arrival?.resolve();
    this.#drain?.resolve();
    this.#arrival = this.#drain = undefined;
  }

  get port() {
    return this.#peer.port;
  }

  get serverId() {
    return this.#peer.serverId;
  }

  get path() {
    return this.#peer.path;
  }

  get channel() {
    return this.#peer.channel ?? null;
  }

  get remoteAddress() {
    return this.#peer.remoteAddress;
  }

  get remoteId() {
    return this.#peer.remoteId;
  }

  get verified() {
    return this.#peer.verified;
  }

  get encrypted() {
    return this.#peer.encrypted;
  }

  getStats() {
    const stats = this.#core.stats();
    const { bytesSent, bytesReceived, messagesSent, messagesReceived } = stats;
    const { bytesRetransmitted, bytesUnacknowledged, reconnects, roundTripTime = null } = stats;
    const state = this.#readyState === 3 ? 'ended' : stats.state;
    const link = numberOf(stats.link);
    stats.free();
    return {
      bytesSent,
      bytesReceived,
      messagesSent,
      messagesReceived,
      bytesRetransmitted,
      bytesUnacknowledged,
      reconnects,
      roundTripTime,
      state,
      path: 'relay',
      link,
    };
  }

  static {
    openOutgoing = (target, protocols, options) => {
      const socket = new PeerToPeerWebSocket(INTERNAL);
      socket.#dial(tunnelUrl(target.relay, target.serverId, target.port), target, protocols, options);
      return socket;
    };

    openIncoming = (core, url, peer) => {
      const socket = new PeerToPeerWebSocket(INTERNAL);
      socket.#core = core;
      socket.#url = url;
      socket.#origin = new URL(url).origin;
      socket.#peer = peer;
      watch(socket, message => endWithModule(socket, message), 'socket');
      socket.#wait({ isPending: true });
      return socket;
    };

    handled = socket => socket.#release();

    handedOver = socket => {
      const waits = socket.#waits;
      if (!waits) return;
      waits.isPending = false;
      if (waits.hasEnded) fireEnding(socket);
    };

    fail = (socket, reason) => {
      if (socket.#readyState > 1) return;
      socket.#readyState = 2;
      socket.#release();
      socket.#core.close(1011, reason);
    };

    fireOpen = (socket, protocol, remoteAddress, remoteId, verified, encrypted) => {
      if (socket.#readyState !== 0) return;
      socket.#readyState = 1;
      socket.#wasOpen = true;
      socket.#protocol = protocol;
      const peer = { remoteAddress: remoteAddress || null, remoteId: remoteId ?? null, verified, encrypted };
      Object.assign(socket.#peer, peer);
      const result = { protocol, extensions: '' };
      for (const name of ['readable', 'writable']) {
        define(result, name, { get: () => socket[name], enumerable: true });
      }
      socket.#opened.resolve(result);
      const open = () => socket.dispatchEvent(new Event('open'));
      if (!socket.#peer.server) return open();
      // A server's handler sees an open socket, and may still listen to its `open`.
      const opened = socket.#peer.server.opened(socket);
      tunnel.post(() => {
        open();
        opened?.();
      });
    };

    fireReopened = (socket, protocol) => {
      if (socket.#readyState !== 1) return;
      socket.#protocol = protocol;
      socket.dispatchEvent(new Event('reopened'));
    };

    fireMessage = (socket, data) => {
      if (socket.#readyState !== 1) return;
      // Listeners are EventTarget's own affair: all that shows that there is one is that it reads an event, now or later.
      const hear = () => {
        socket.#isHeard = true;
      };
      socket.dispatchEvent(arrival(socket.#convert(seen(socket, 'received', data)), socket.#origin, socket.#isHeard ? undefined : hear));
      socket.#hasMissed ||= EVENTS_ARE_NATIVE && !socket.#isHeard;
    };

    fireAvailable = socket => {
      socket.#arrival?.resolve();
      socket.#arrival = undefined;
      const waits = socket.#waits;
      if (waits) waits.hint ??= later(HINT_AFTER, () => warnOnce(NOBODY_TAKES));
    };

    // It has ended, and there are messages that nobody has taken.
    fireEnding = socket => {
      const waits = socket.#waits;
      waits.hasEnded = true;
      if (!waits.isPending) waits.timer ??= later(PATIENCE, () => socket.#release());
    };

    fireDrained = socket => {
      socket.#drain?.resolve();
      socket.#drain = undefined;
    };

    // `message` is the whole reason, of which an event has the beginning.
    fireClosed = (socket, code, name, message, reason, wasClean) => {
      unwatch(socket);
      const failed = !socket.#wasOpen;
      const error = new TunnelError(message || `the connection ended with code ${code}`, { code: name });
      socket.#readyState = 3;
      if (failed) wasClean = false;
      socket.#end = { wasClean, error: Object.assign(error, { closeCode: code, reason }) };
      // The event says no more of an attempt that failed than the platform's does: the reason begins with the name.
      if ((failed && socket.#core !== GONE) || code === ABORTED) code = 1006;
      socket.#release();
      socket.#wake();
      if (wasClean) socket.#closed.resolve({ closeCode: code, reason });
      else socket.#closed.reject(error);
      socket.#peer.server?.closed(socket);
      const close = () => socket.dispatchEvent(new CloseEvent('close', { code, reason, wasClean }));
      if (!failed) return close();
      socket.#opened.reject(error);
      socket.dispatchEvent(new Event('error'));
      post(close);
    };

    endWithModule = (socket, message) => {
      socket.#core = GONE;
      fireClosed(socket, 1011, 'internal', message, MODULE_FAILED, false);
    };

    defineEventHandlers(
      PeerToPeerWebSocket.prototype,
      socket => socket.#handlers,
      ['open', 'message', 'error', 'close', 'reconnecting', 'reconnected', 'reopened'],
      (socket, type) => {
        if (type === 'message') socket.#listen();
      },
    );
  }
}
describe(PeerToPeerWebSocket, 'PeerToPeerWebSocket', READY_STATES);

export const fire = (target, type) => target.dispatchEvent(new Event(type));
