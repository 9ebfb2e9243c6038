// Clients of livecoding servers, and the socket that forwards through one: what a page sees of them. What they do is in
// a module of its own, the crate `tunnel-livecode`, which is loaded when it is needed.

import {
  CloseEvent,
  connector,
  deferred,
  define,
  defineEventHandlers,
  describe,
  Event,
  INTERNAL,
  post,
  READY_STATES,
  requireArguments,
  toPort,
  toRelayUrl,
  TunnelError,
} from './common.js';
import { isDead, MessageEvent, NativeWebSocket } from './page.js';

const fail = (code, message, cause) => new TunnelError(message, { code, cause });

/** The module that speaks the dialect: given, or loaded from beside this one. Both give it as a promise. */
let livecode;

async function loadLivecode() {
  const module = await (livecode ??= initLivecode(() => import('./tunnel_livecode.js')));
  // A new instance, if that one has trapped.
  await module.default();
  return module;
}

async function initLivecode(find) {
  try {
    const module = await find();
    await module.default();
    module.prepare({ fail, CloseEvent, deferred, NativeWebSocket, wellFormed });
    return module;
  } catch (cause) {
    livecode = undefined;
    const message = `cannot load 'tunnel-wasm/livecode' (a service worker imports it and gives it to useLivecode): ${cause}`;
    throw fail('livecode-unavailable', message, cause);
  }
}

/** A service worker may import nothing later: it gives what `tunnel-wasm/livecode` exports. */
export async function useLivecode(module) {
  livecode = initLivecode(() => module);
  await livecode;
}

/** Makes what speaks the dialect on a link. */
export async function openLivecodeLink() {
  const { LivecodeLinkCore } = await loadLivecode();
  return new LivecodeLinkCore();
}

/** Proves that this page holds a server's key. `js/server.js`, which builds on this file, gives it. */
let proveKey;
export const proveBy = prove => (proveKey = prove);

/** The proof of a server of this page, as the other module asks for it: for a challenge of the relay and its URL. */
const toProof = server => proveKey(server);

/** Lone surrogates, which UTF-8 has no form for, are replaced. */
const wellFormed = value => {
  const text = `${value}`;
  return text.toWellFormed ? text.toWellFormed() : text;
};

const toString = value => `${value}`;

/** A channel, or a server of a livecoding server: its number. */
function toNumber(value) {
  if (/^\d{1,10}$/.test(String(value)) && value <= 0xffffffff) return Number(value);
  throw fail('bad-server-id', `'${String(value)}' is no number: a livecoding server numbers its servers and channels`);
}

/** Relays of ours also forward to servers that are known by their keys. */
function toServerId(value) {
  const text = String(value).toLowerCase();
  if (text.length !== 56) return toNumber(value);
  // A socket that is open goes on without the main module, which its ID has passed before.
  const problem = isDead() ? undefined : connector().serverIdProblem(text, false);
  if (problem) throw fail('bad-server-id', `'${text}' is not a server ID: ${problem}`);
  return text;
}

function toText(data) {
  if (!ArrayBuffer.isView(data) && !(data instanceof ArrayBuffer) && !(data instanceof Blob)) return wellFormed(data);
  throw new TypeError('the livecode dialect carries text only: encode binary data, or use PeerToPeerWebSocket');
}

let openClient, clientOf;

/** Adds methods of clients: how each converts the arguments that it must have. The rest is the other module's. */
function defineCommands(Class, name, commands) {
  for (const [command, converters] of Object.entries(commands)) {
    const method = async function (...given) {
      const client = clientOf(this);
      requireArguments(given, converters.length, name, command);
      return client[command](...given.map((value, index) => (converters[index] ? converters[index](value) : value)));
    };
    define(method, 'name', { value: command });
    define(method, 'length', { value: converters.length });
    Class.prototype[command] = method;
  }
}

export class NodeJSLivecodingClient extends EventTarget {
  /** The `Client` of the other module. */
  #client;
  #handlers = Object.create(null);

  constructor(token) {
    super();
    if (token !== INTERNAL) throw new TypeError(`Illegal constructor: use ${new.target.name}.configureServerAt()`);
  }

  static async configureServerAt(url, credential, options) {
    requireArguments(arguments, 2, 'NodeJSLivecodingClient', 'configureServerAt');
    return openClient(this, url, `${credential}`, options);
  }

  static async connectTo(url, options) {
    requireArguments(arguments, 1, 'NodeJSLivecodingClient', 'connectTo');
    return openClient(this, url, '', options);
  }

  get url() {
    return this.#client.url;
  }

  get readyState() {
    return this.#client.readyState;
  }

  get capabilities() {
    return this.#client.capabilities;
  }

  logs() {
    return this.#client.logs();
  }

  static {
    openClient = async (Class, url, credential, { signal } = {}, forwards) => {
      signal?.throwIfAborted();
      connector();
      const checked = toRelayUrl(url);
      const { Client, LivecodeCore } = await loadLivecode();
      signal?.throwIfAborted();
      const client = new Class(INTERNAL);
      client.#client = new Client(new LivecodeCore(), checked, client, credential);
      await client.#client.opened(signal, forwards);
      return client;
    };

    clientOf = client => client.#client;

    defineEventHandlers(this.prototype, client => client.#handlers, ['log', 'message', 'close']);
    defineCommands(this, 'NodeJSLivecodingClient', {
      addInstruction: [toString, toString],
      invoke: [toString],
      eval: [toString],
      evaluate: [toString],
      instructions: [],
      source: [toString],
      rollBack: [toString],
      removeInstruction: [toString],
      checkpoint: [toString],
      restore: [toString],
      inspect: [],
      prove: [toProof],
      quota: [],
      require: [toString],
      modules: [],
      closeConfigurator: [],
    });
  }
}
describe(NodeJSLivecodingClient, 'NodeJSLivecodingClient');

export class NodeJSTunnelingClient extends NodeJSLivecodingClient {
  #handlers = Object.create(null);

  static async configureServerAt(url, credential, options) {
    requireArguments(arguments, 2, 'NodeJSTunnelingClient', 'configureServerAt');
    return openClient(this, url, `${credential}`, options, true);
  }

  static {
    defineEventHandlers(this.prototype, client => client.#handlers, ['connected', 'data']);
    defineCommands(this, 'NodeJSTunnelingClient', {
      createServerCredential: [],
      installServer: [toNumber, toString],
      connectToServer: [toServerId, toPort],
      forwardToClient: [toNumber, toText],
      forwardToServer: [toServerId, toText],
    });
  }
}
describe(NodeJSTunnelingClient, 'NodeJSTunnelingClient');

let openForwarding;

/** One forwarded channel of plain text, without a session. */
export class ForwardingWebSocket extends EventTarget {
  #client;
  #serverId;
  #port;
  #relay;
  #readyState = 0;
  #handlers = Object.create(null);
  /** Gives up what is still being opened. */
  #giveUp = new AbortController();

  constructor(token) {
    super();
    if (token !== INTERNAL) throw new TypeError('Illegal constructor: use ForwardingClientWebSocket.toPort()');
  }

  get url() {
    return this.#relay.href;
  }

  get port() {
    return this.#port;
  }

  get serverId() {
    return `${this.#serverId}`;
  }

  get readyState() {
    return this.#readyState;
  }

  get bufferedAmount() {
    return this.#client ? clientOf(this.#client).bufferedAmount : 0;
  }

  send(data) {
    requireArguments(arguments, 1, 'ForwardingWebSocket', 'send');
    if (!this.#relay) throw new TypeError('only a client has a peer to send to: a server sends through its sockets');
    const text = toText(data);
    if (this.#readyState === 0) throw new DOMException('Still in CONNECTING state.', 'InvalidStateError');
    if (this.#readyState !== 1) return;
    this.#client.forwardToServer(this.#serverId, text).catch(error => this.#end(error));
  }

  close() {
    if (this.#readyState > 1) return;
    const opening = this.#readyState === 0;
    this.#readyState = 2;
    if (opening) this.#giveUp.abort(fail('aborted', 'the socket was closed before it was open'));
    else this.#client.closeConfigurator();
  }

  async #open() {
    const { signal } = this.#giveUp;
    let opened = false;
    try {
      const client = await NodeJSTunnelingClient.connectTo(this.#relay, { signal });
      this.#client = client;
      signal.addEventListener('abort', () => client.closeConfigurator());
      client.addEventListener('close', () => {
        const lost = () => clientOf(client).failure ?? fail('closed', 'the relay ended the connection');
        if (opened) this.#end(this.#readyState === 1 ? lost() : undefined);
      });
      client.addEventListener('data', ({ from, data }) => {
        if (this.#readyState !== 1 || from !== this.#serverId) return;
        this.dispatchEvent(new MessageEvent('message', { data, origin: this.#relay.origin }));
      });
      await client.connectToServer(this.#serverId, this.#port);
      signal.throwIfAborted();
    } catch (error) {
      return this.#end(signal.aborted ? signal.reason : error, true);
    }
    opened = true;
    this.#readyState = 1;
    this.dispatchEvent(new Event('open'));
  }

  /** Fires `close`, once; before it `error` if the socket never opened. */
  #end(error, failed) {
    if (this.#readyState === 3) return;
    this.#readyState = 3;
    this.#client?.closeConfigurator();
    const reason = error ? `${error instanceof TunnelError ? error.code : error.name}: ${error.message}` : '';
    const code = error?.code === 'internal' ? 1011 : error ? 1006 : 1000;
    const close = new CloseEvent('close', { code, reason, wasClean: !error });
    if (!failed) return this.dispatchEvent(close);
    this.dispatchEvent(Object.assign(new Event('error'), { error }));
    post(() => this.dispatchEvent(close));
  }

  static {
    openForwarding = (Class, port, serverId, relayUrl, { signal } = {}) => {
      connector();
      const socket = new Class(INTERNAL);
      socket.#port = toPort(port);
      socket.#serverId = toServerId(serverId);
      socket.#relay = toRelayUrl(relayUrl);
      const abort = () => (socket.#readyState === 0 ? socket.#giveUp.abort(signal.reason) : socket.close());
      if (signal?.aborted) abort();
      else signal?.addEventListener('abort', abort, { signal: socket.#giveUp.signal });
      socket.#open();
      return socket;
    };

    defineEventHandlers(this.prototype, socket => socket.#handlers, ['open', 'message', 'error', 'close']);
  }
}
describe(ForwardingWebSocket, 'ForwardingWebSocket', READY_STATES);

export class ForwardingClientWebSocket extends ForwardingWebSocket {
  static toPort(port, serverId, relayUrl, options) {
    requireArguments(arguments, 3, 'ForwardingClientWebSocket', 'toPort');
    return openForwarding(ForwardingClientWebSocket, port, serverId, relayUrl, options);
  }
}
describe(ForwardingClientWebSocket, 'ForwardingClientWebSocket');
