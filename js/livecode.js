// Clients of livecoding servers, and the socket that forwards through one. The dialect's texts are read and written
// by a WebAssembly module of its own, the crate `tunnel-livecode`, which is loaded when it is needed.

import {
  CloseEvent,
  connector,
  deferred,
  defineEventHandlers,
  describe,
  INTERNAL,
  READY_STATES,
  requireArguments,
  toPort,
  toRelayUrl,
  tunnel,
  TunnelError,
} from './common.js';

/** How long a server may take to be reached and configured, in milliseconds. */
const CONFIGURE_TIMEOUT = 15000;

const fail = (code, message, cause) => new TunnelError(message, { code, cause });

/** The module that speaks the dialect: given, or loaded from beside this one. Both give it as a promise. */
let livecode;

const loadLivecode = () => (livecode ??= initLivecode(() => import('./tunnel_livecode.js')));

async function initLivecode(find) {
  try {
    const module = await find();
    await module.default();
    return module;
  } catch (cause) {
    livecode = undefined;
    const message = `cannot load what speaks the livecode dialect (a service worker has to import 'tunnel-wasm/livecode' \
itself, and give it to useLivecode): ${cause}`;
    throw fail('livecode-unavailable', message, cause);
  }
}

/** A service worker may import nothing later: it gives what `tunnel-wasm/livecode` exports. */
export async function useLivecode(module) {
  livecode = initLivecode(() => module);
  await livecode;
}

/** Calls `answer` with what speaks the dialect on one link of the endpoint's, or with why nothing does. */
export const openLivecodeLink = answer =>
  loadLivecode().then(
    ({ LivecodeLinkCore }) => answer(new LivecodeLinkCore(), ''),
    ({ message }) => answer(undefined, message),
  );

/** One WebSocket to a livecoding server. What comes unasked becomes events of `target`. */
class Connection {
  /** Settles when the WebSocket is open, or has failed; `ended` when it is closed. */
  opened = deferred();
  ended = deferred();
  #core;
  #socket;
  #target;
  #origin;
  #failure;
  /** By the number of their call: what waits for an answer. */
  #waiting = new Map();

  constructor(core, url, target) {
    this.#core = core;
    this.url = url.href;
    this.#origin = url.origin;
    this.#target = target;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => this.opened.resolve();
    this.#socket.onclose = event => this.#end(event);
    this.#socket.onmessage = ({ data }) => {
      const problem = typeof data === 'string' && this.#core.handleText(data, this);
      if (problem) this.fail(fail('protocol-error', problem));
    };
  }

  get readyState() {
    return this.#socket.readyState;
  }

  get bufferedAmount() {
    return this.#socket.bufferedAmount;
  }

  /** Gives a command; a promise of its answer. */
  call(name, privileged, command) {
    if (this.readyState !== 1) return Promise.reject(fail('closed', `the connection to ${this.url} is not open`));
    const answer = this.#answer(name, privileged, command(this.#core));
    this.#flush();
    return answer;
  }

  addTunnel(credential) {
    const calls = Array.from(this.#core.addTunnel(credential));
    const answers = calls.map(call => this.#answer("the tunnel's instructions", true, call));
    this.#flush();
    return Promise.all(answers);
  }

  splitCredential(text) {
    return this.#core.splitCredential(text);
  }

  close() {
    this.#socket.close(1000);
  }

  fail(error) {
    this.#failure ??= error;
    this.close();
  }

  #answer(name, privileged, call) {
    const answer = deferred();
    this.#waiting.set(call, { ...answer, name, privileged });
    return answer.promise;
  }

  #flush() {
    for (let text; (text = this.#core.pollTransmit()) !== undefined; ) this.#socket.send(text);
  }

  #end({ code, wasClean }) {
    const unreachable = () => fail('relay-unreachable', `can't reach ${this.url}: is a livecoding server running there?`);
    this.opened.reject(this.#failure ?? unreachable());
    const lost = this.#failure ?? fail('closed', `the connection to ${this.url} has ended`);
    for (const { reject } of this.#waiting.values()) reject(lost);
    this.#waiting.clear();
    this.ended.resolve();
    this.#target.dispatchEvent(new CloseEvent('close', { code, wasClean: wasClean && !this.#failure }));
  }

  #take(call) {
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    return waiting;
  }

  // What Rust calls

  returned(call, sent, returned) {
    this.#take(call).resolve({ sent, returned });
  }

  failed(call, rejected) {
    const { name, privileged, reject } = this.#take(call);
    if (!rejected) reject(fail('protocol-error', `the server could not read the command '${name}'`));
    else if (privileged) reject(fail('bad-credential', `the server rejected '${name}': is the credential right?`));
    else reject(fail('rejected', `the server has no instruction '${name}': add it first, or configure the server`));
  }

  log(line) {
    this.#fire(new MessageEvent('log', { data: line, origin: this.#origin }), { line });
  }

  text(data) {
    this.#fire(new MessageEvent('message', { data, origin: this.#origin }));
  }

  connected(channel, port, address) {
    this.#fire(new Event('connected'), { channel, port, address });
  }

  data(from, data) {
    this.#fire(new MessageEvent('data', { data, origin: this.#origin }), { from });
  }

  #fire(event, members) {
    this.#target.dispatchEvent(Object.assign(event, members));
  }
}

async function connect(url, target, signal) {
  connector();
  const checked = toRelayUrl(url);
  const { LivecodeCore } = await loadLivecode();
  signal?.throwIfAborted();
  return new Connection(new LivecodeCore(), checked, target);
}

/** Waits until the connection is open and configured. If that fails or takes too long, or `signal` aborts, it closes. */
async function within(connection, signal, configure) {
  const late = () => fail('timeout', `${connection.url} did not answer as a livecoding server within 15 seconds`);
  const timer = setTimeout(() => connection.fail(late()), CONFIGURE_TIMEOUT);
  const abort = () => connection.fail(signal.reason);
  signal?.addEventListener('abort', abort);
  try {
    await connection.opened.promise;
    await configure?.(connection);
  } catch (error) {
    connection.close();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** Lone surrogates, which UTF-8 has no form for, are replaced. */
const wellFormed = value => {
  const text = `${value}`;
  return text.toWellFormed ? text.toWellFormed() : text;
};

/** A parameter as JSON; what has no JSON form is null, as in an array. */
const toJson = value => JSON.stringify(typeof value === 'string' ? wellFormed(value) : value) ?? 'null';

let openClient, connectionOf;

export class NodeJSLivecodingClient extends EventTarget {
  #connection;
  #credential;
  #handlers = {};

  constructor(token) {
    super();
    if (token !== INTERNAL) throw new TypeError(`Illegal constructor: use ${new.target.name}.configureServerAt()`);
  }

  static async configureServerAt(url, credential, options) {
    requireArguments(arguments, 2, "Failed to execute 'configureServerAt' on 'NodeJSLivecodingClient'");
    return openClient(this, url, `${credential}`, options);
  }

  static async connectTo(url, options) {
    requireArguments(arguments, 1, "Failed to execute 'connectTo' on 'NodeJSLivecodingClient'");
    return openClient(this, url, '', options);
  }

  get url() {
    return this.#connection.url;
  }

  get readyState() {
    return this.#connection.readyState;
  }

  async addInstruction(name, source) {
    requireArguments(arguments, 2, "Failed to execute 'addInstruction' on 'NodeJSLivecodingClient'");
    return this.#privileged('add instruction', core => core.addInstruction(`${name}`, `${source}`, this.#credential));
  }

  async invoke(name, ...parameters) {
    requireArguments(arguments, 1, "Failed to execute 'invoke' on 'NodeJSLivecodingClient'");
    const json = parameters.map(toJson);
    return this.#connection.call(`${name}`, false, core => core.invoke(`${name}`, json));
  }

  async eval(source) {
    requireArguments(arguments, 1, "Failed to execute 'eval' on 'NodeJSLivecodingClient'");
    return this.#privileged('eval', core => core.eval(`${source}`, this.#credential));
  }

  async require(name, then = '') {
    requireArguments(arguments, 1, "Failed to execute 'require' on 'NodeJSLivecodingClient'");
    return this.#privileged('require', core => core.require(`${name}`, `${then}`, this.#credential));
  }

  async modules() {
    const { sent } = await this.#privileged('modules', core => core.modules(this.#credential));
    try {
      return JSON.parse(sent[0]);
    } catch (error) {
      throw fail('protocol-error', 'the server did not answer with a list of its modules', error);
    }
  }

  closeConfigurator() {
    this.#connection.close();
    return this.#connection.ended.promise;
  }

  #privileged(name, command) {
    return this.#connection.call(name, true, command);
  }

  static {
    openClient = async (Class, url, credential, { signal } = {}, configure) => {
      signal?.throwIfAborted();
      const client = new Class(INTERNAL);
      client.#credential = credential;
      client.#connection = await connect(url, client, signal);
      await within(client.#connection, signal, configure);
      return client;
    };

    connectionOf = client => client.#connection;

    defineEventHandlers(this.prototype, client => client.#handlers, ['log', 'message', 'close']);
  }
}
describe(NodeJSLivecodingClient, 'NodeJSLivecodingClient');

export class NodeJSTunnelingClient extends NodeJSLivecodingClient {
  #handlers = {};

  static async configureServerAt(url, credential, options) {
    requireArguments(arguments, 2, "Failed to execute 'configureServerAt' on 'NodeJSTunnelingClient'");
    return openClient(this, url, `${credential}`, options, connection => connection.addTunnel(`${credential}`));
  }

  async createServerCredential() {
    const { sent } = await this.invoke('create server credential');
    const [serverId, credential] = connectionOf(this).splitCredential(sent.at(-1) ?? '') ?? [];
    if (credential) return { serverId: Number(serverId), credential };
    throw fail('protocol-error', 'the server answered with no server credential');
  }

  async installServer(serverId, credential) {
    requireArguments(arguments, 2, "Failed to execute 'installServer' on 'NodeJSTunnelingClient'");
    const refused = () => fail('bad-credential', `no server ${serverId} was created with this credential`);
    await this.#ask(refused, 'install server', toNumber(serverId), `${credential}`);
  }

  async connectToServer(serverId, port) {
    requireArguments(arguments, 2, "Failed to execute 'connectToServer' on 'NodeJSTunnelingClient'");
    const refused = () => fail('server-not-found', `there is no server ${serverId}: is it running, and the ID right?`);
    await this.#ask(refused, 'connect to server', toServerId(serverId), toPort(port));
  }

  async forwardToClient(channel, data) {
    requireArguments(arguments, 2, "Failed to execute 'forwardToClient' on 'NodeJSTunnelingClient'");
    const refused = () => fail('peer-gone', `channel ${channel} has no client of this server, or one that takes no more`);
    await this.#ask(refused, 'forward to client', toNumber(channel), toText(data));
  }

  async forwardToServer(serverId, data) {
    requireArguments(arguments, 2, "Failed to execute 'forwardToServer' on 'NodeJSTunnelingClient'");
    const refused = () => fail('server-not-found', `not connected to a server ${serverId}, or to one that takes no more`);
    await this.#ask(refused, 'forward to server', toServerId(serverId), toText(data));
  }

  /** Runs an instruction that sends 1 or 0. */
  async #ask(refused, name, ...parameters) {
    const { sent } = await this.invoke(name, ...parameters);
    if (sent.at(-1) !== '1') throw refused();
  }

  static {
    defineEventHandlers(this.prototype, client => client.#handlers, ['connected', 'data']);
  }
}
describe(NodeJSTunnelingClient, 'NodeJSTunnelingClient');

/** A channel, or a server of a livecoding server: its number. */
function toNumber(value) {
  if (/^\d{1,10}$/.test(String(value)) && value <= 0xffffffff) return Number(value);
  throw fail('bad-server-id', `'${String(value)}' is no number: a livecoding server numbers its servers and channels`);
}

/** Relays of ours also forward to servers that are known by their keys. */
function toServerId(value) {
  const text = String(value).toLowerCase();
  if (text.length !== 56) return toNumber(value);
  const problem = connector().serverIdProblem(text);
  if (problem) throw fail('bad-server-id', `'${text}' is not a server ID: ${problem}`);
  return text;
}

function toText(data) {
  if (!ArrayBuffer.isView(data) && !(data instanceof ArrayBuffer) && !(data instanceof Blob)) return wellFormed(data);
  throw new TypeError('the livecode dialect carries text only: encode binary data, or use PeerToPeerWebSocket');
}

let openForwarding;

/** One forwarded channel of plain text, without a session. */
export class ForwardingWebSocket extends EventTarget {
  #client;
  #serverId;
  #port;
  #relay;
  #readyState = 0;
  #handlers = {};
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
    return this.#client ? connectionOf(this.#client).bufferedAmount : 0;
  }

  send(data) {
    requireArguments(arguments, 1, "Failed to execute 'send' on 'ForwardingWebSocket'");
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
        if (opened) this.#end(this.#readyState === 1 ? fail('closed', 'the relay ended the connection') : undefined);
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
    const close = new CloseEvent('close', { code: error ? 1006 : 1000, reason, wasClean: !error });
    if (!failed) return this.dispatchEvent(close);
    this.dispatchEvent(Object.assign(new Event('error'), { error }));
    tunnel.post(() => this.dispatchEvent(close));
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
    requireArguments(arguments, 3, "Failed to execute 'toPort' on 'ForwardingClientWebSocket'");
    return openForwarding(ForwardingClientWebSocket, port, serverId, relayUrl, options);
  }
}
describe(ForwardingClientWebSocket, 'ForwardingClientWebSocket');
