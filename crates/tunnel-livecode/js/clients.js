// The other half of the clients of `js/livecode.js`: one connection to a livecoding server, and the commands that it takes.

/** Time that a server may take to be reached and configured, in milliseconds. */
const CONFIGURE_TIMEOUT = 15000;

/** Code of an error after a trap, and that of the `close` events. */
const INTERNAL = 'internal';
const INTERNAL_ERROR = 1011;

let fail, CloseEvent, deferred, NativeWebSocket, wellFormed;

/** Takes what the main module has already. */
export function prepare(tools) {
  ({ fail, CloseEvent, deferred, NativeWebSocket, wellFormed } = tools);
}

/** A parameter as JSON; what has no JSON form is null, as in an array. */
const toJson = value => JSON.stringify(typeof value === 'string' ? wellFormed(value) : value) ?? 'null';

// A trap of this module: it is out of memory, or the library has a fault. Nothing of it can be used any more, so all clients
// end with an event, and the next client gets a new instance. `xtask/src/build/trap.rs` has the glue call `guard`.

/** The error that has trapped the module. */
let trap;

/** All connections that have not ended. */
const connections = new Set();

/** True from a trap until another instance has taken the place. */
export const isDead = () => trap !== undefined;

/**
 * The exports of a module. Unlike those of the main one they throw: the main module calls links, and may not go on with what
 * is half done.
 */
export function guard(exports) {
  const guarded = {};
  for (const [name, value] of Object.entries(exports)) {
    const call = (...given) => {
      // An object of Rust's is freed when JavaScript's is collected.
      if (trap && name.endsWith('_free')) return undefined;
      if (trap) throw trap;
      try {
        return value(...given);
      } catch (error) {
        if (error instanceof WebAssembly.RuntimeError) handleTrap(error);
        throw error;
      }
    };
    guarded[name] = typeof value === 'function' ? call : value;
  }
  trap = undefined;
  return guarded;
}

function handleTrap(error) {
  console.error(error);
  trap = error;
  const message = `the livecode dialect's WebAssembly module has failed (${error.message}): connect again to go on`;
  for (const connection of connections) connection.fail(fail(INTERNAL, message, error));
}

/** One WebSocket to a livecoding server. What comes unasked becomes events of `target`. */
class Connection {
  /** Settles when the WebSocket is open, or has failed; `ended` when it is closed. */
  opened = deferred();
  ended = deferred();
  #core;
  #socket;
  #target;
  #origin;
  /** The error that ends it; none if one of the two sides wants to. */
  failure;
  /** True if each answer ends with a line that has its number, and the value as JSON. */
  #numbers = false;
  /** Functions that read the log. */
  #readers = new Set();
  /** By the number of their call: what waits for an answer. */
  #waiting = new Map();

  constructor(core, url, target) {
    this.#core = core;
    this.url = url.href;
    this.#origin = url.origin;
    this.#target = target;
    this.#socket = new NativeWebSocket(url);
    this.#socket.onopen = () => this.opened.resolve();
    this.#socket.onclose = event => this.#end(event);
    this.#socket.onmessage = ({ data }) => typeof data === 'string' && !this.failure && this.#receive(data);
    connections.add(this);
  }

  #receive(text) {
    try {
      const problem = this.#core.handleText(text, this);
      if (problem) this.fail(fail('protocol-error', problem));
    } catch (error) {
      if (!this.failure) throw error;
    }
  }

  /** Calls the core, unless the connection has failed: the core may be one of an instance that is gone. */
  #ask(command) {
    if (this.failure) throw this.failure;
    try {
      return command(this.#core);
    } catch (error) {
      throw this.failure ?? error;
    }
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
    try {
      const answer = this.#answer(name, privileged, this.#ask(command));
      this.#flush();
      return answer;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  addTunnel(credential) {
    const calls = Array.from(this.#ask(core => core.addTunnel(credential)));
    const answers = calls.map(call => this.#answer("the tunnel's instructions", true, call));
    this.#flush();
    return Promise.all(answers);
  }

  /** Has the relay number its answers, as one of 2017 can't. */
  numberAnswers() {
    this.#numbers = true;
    this.#ask(core => core.numberAnswers());
  }

  get numbers() {
    return this.#numbers;
  }

  /** Calls `reader` with each entry of the log; the result ends that. */
  readLog(reader) {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  splitCredential(text) {
    return this.#ask(core => core.splitCredential(text));
  }

  close() {
    this.#socket.close(1000);
  }

  fail(error) {
    this.failure ??= error;
    this.close();
  }

  #answer(name, privileged, call) {
    const answer = deferred();
    this.#waiting.set(call, { ...answer, name, privileged, numbered: this.#numbers });
    return answer.promise;
  }

  #flush() {
    for (let text; (text = this.#ask(core => core.pollTransmit())) !== undefined; ) this.#socket.send(text);
  }

  #end({ code, wasClean }) {
    const unreachable = () => fail('relay-unreachable', `can't reach ${this.url}: is a livecoding server running there?`);
    this.opened.reject(this.failure ?? unreachable());
    const lost = this.failure ?? fail('closed', `the connection to ${this.url} has ended`);
    for (const { reject } of this.#waiting.values()) reject(lost);
    this.#waiting.clear();
    this.ended.resolve();
    connections.delete(this);
    if (this.failure?.code === INTERNAL) code = INTERNAL_ERROR;
    this.#target.dispatchEvent(new CloseEvent('close', { code, wasClean: wasClean && !this.failure }));
  }

  #take(call) {
    const waiting = this.#waiting.get(call);
    this.#waiting.delete(call);
    return waiting;
  }

  // Called by Rust

  returned(call, answer) {
    const waiting = this.#waiting.get(call);
    // An error has come by its number.
    if (!waiting) return;
    waiting.answer = answer;
    this.#finish(call, waiting);
  }

  /** Resolves a call when its answer is whole: texts and, if answers have numbers, the value. */
  #finish(call, { numbered, answer, value, resolve }) {
    if (!answer || (numbered && !value)) return;
    this.#waiting.delete(call);
    resolve({ ...answer, ...value });
  }

  /** Takes the value of an answer. */
  #settled(call, { returned, printed, threw }) {
    const waiting = this.#waiting.get(call);
    if (!waiting) return;
    if (!threw) {
      waiting.value = { value: returned, printed };
      return this.#finish(call, waiting);
    }
    this.#waiting.delete(call);
    const { name, message, at } = threw;
    const place = at ? ` (${at.instruction} ${at.version}:${at.line}:${at.column})` : '';
    const code = name === 'SyntaxError' && waiting.name === 'add instruction' ? 'source' : 'instruction-threw';
    waiting.reject(fail(code, `'${waiting.name}' ended with ${name}: ${message}${place}`, threw));
  }

  failed(call, rejected) {
    const { name, privileged, reject } = this.#take(call) ?? {};
    if (!reject) return;
    if (!rejected) reject(fail('protocol-error', `the server could not read the command '${name}'`));
    else if (privileged) reject(fail('bad-credential', `the server rejected '${name}': is the credential right?`));
    else reject(fail('rejected', `the server has no instruction '${name}': add it first, or configure the server`));
  }

  log(line) {
    const [, word, number, json] = /^server: (answered (\d+)|log) (\{.*\})$/s.exec(line) ?? [];
    if (json !== undefined) {
      try {
        const value = JSON.parse(json);
        if (number !== undefined) this.#settled(Number(number), value);
        else if (word === 'log') for (const reader of this.#readers) reader(value);
      } catch {
        // An instruction returned the words of another line.
      }
    }
    this.#fire(new MessageEvent('log', { data: line, origin: this.#origin }), { line });
  }

  text(data) {
    this.#fire(new MessageEvent('message', { data, origin: this.#origin }));
  }

  connected(members) {
    this.#fire(new Event('connected'), members);
  }

  data(from, data) {
    this.#fire(new MessageEvent('data', { data, origin: this.#origin }), { from });
  }

  #fire(event, members) {
    this.#target.dispatchEvent(Object.assign(event, members));
  }
}

const unsupported = name =>
  fail('unsupported', `this livecoding server does not know '${name}': it is one of 2017, or runs no programs`);

/** The commands of a client; their arguments have been converted. */
export class Client {
  #connection;
  #credential;
  /** The additions of the relay to a server of 2017; null: none. */
  capabilities = null;

  constructor(core, url, target, credential) {
    this.#connection = new Connection(core, url, target);
    this.#credential = credential;
  }

  /** Waits until the connection is open and configured. If that fails or takes too long, or `signal` aborts, it closes. */
  async opened(signal, forwards) {
    const connection = this.#connection;
    const late = () => fail('timeout', `${this.url} did not answer as a livecoding server within 15 seconds`);
    const timer = setTimeout(() => connection.fail(late()), CONFIGURE_TIMEOUT);
    const abort = () => connection.fail(signal.reason);
    signal?.addEventListener('abort', abort);
    try {
      await connection.opened.promise;
      if (this.#credential !== '') await this.#greet();
      if (forwards) await connection.addTunnel(this.#credential);
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Finds out what the relay can do. One of 2017, and one that runs no programs, rejects the command, as they would with a wrong credential. */
  async #greet() {
    try {
      const { returned } = await this.#manage('hello', {});
      const version = /^hello livecode (\d+)$/.exec(returned)?.[1];
      if (!version) return;
      this.capabilities = Object.freeze({ version: Number(version) });
      this.#connection.numberAnswers();
    } catch (error) {
      if (error.code !== 'bad-credential') throw error;
    }
  }

  get url() {
    return this.#connection.url;
  }

  get readyState() {
    return this.#connection.readyState;
  }

  get bufferedAmount() {
    return this.#connection.bufferedAmount;
  }

  /** The error that ends the connection; none if one of the two sides wants to. */
  get failure() {
    return this.#connection.failure;
  }

  async evaluate(source) {
    if (this.#connection.numbers) return (await this.eval(source)).printed;
    const { sent } = await this.eval(`ws.send(String((0, eval)(${JSON.stringify(source)})))`);
    return sent.at(-1) ?? '';
  }

  instructions() {
    return this.#extra('instructions', {});
  }

  source(name, version) {
    return this.#extra('source', { name, version });
  }

  async rollBack(name, version) {
    return (await this.#extra('roll back', { name, version })).version;
  }

  async removeInstruction(name) {
    await this.#extra('remove', { name });
  }

  async checkpoint(label) {
    await this.#extra('checkpoint', { label });
  }

  async restore(label) {
    await this.#extra('restore', { label });
  }

  inspect(path = '') {
    return this.#extra('globals', { path: Array.isArray(path) ? path : `${path}` === '' ? [] : `${path}`.split('.') });
  }

  quota() {
    return this.#extra('quota', {});
  }

  async *logs() {
    const entries = [];
    let wake;
    const stop = this.#connection.readLog(entry => {
      entries.push(entry);
      wake?.();
    });
    try {
      await this.#extra('watch', {});
      const ended = this.#connection.ended.promise.then(() => true);
      for (;;) {
        while (entries.length) yield entries.shift();
        if (await Promise.race([ended, new Promise(resolve => (wake = resolve))])) return;
      }
    } finally {
      stop();
      if (this.readyState === 1) this.#extra('unwatch', {}).catch(() => {});
    }
  }

  /** Shows the relay that this page holds a server's key; `prover` makes the proof. A promise of the server's ID. */
  async prove(prover) {
    const [, challenge] = /^challenge (\w+)$/.exec(await this.#proof({})) ?? [];
    if (!challenge) throw fail('protocol-error', 'the relay did not answer with the challenge that its peers prove a key by');
    const { server, proof } = await prover(challenge, this.url);
    const answer = await this.#proof({ server, proof }).catch(error => {
      if (error.code !== 'instruction-threw') throw error;
      return error.message;
    });
    if (answer === `proven ${server}`) return server;
    const message = `the relay does not take the proof for ${server} (a proxy that changes its URL, ${this.url}, would be a reason): ${answer}`;
    throw fail('bad-credential', message);
  }

  /** Gives the command of proofs, which takes no credential; its line. */
  async #proof(parameters) {
    try {
      const { returned } = await this.#connection.call('prove', false, core => core.manage('prove', JSON.stringify(parameters), ''));
      return returned;
    } catch (error) {
      throw error.code === 'rejected' ? unsupported('prove') : error;
    }
  }

  addInstruction(name, source) {
    return this.#privileged('add instruction', core => core.addInstruction(name, source, this.#credential));
  }

  invoke(name, ...parameters) {
    const json = parameters.map(toJson);
    return this.#connection.call(name, false, core => core.invoke(name, json));
  }

  eval(source) {
    return this.#privileged('eval', core => core.eval(source, this.#credential));
  }

  require(name, then = '') {
    return this.#privileged('require', core => core.require(name, `${then}`, this.#credential));
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

  // The tunnel's instructions

  async createServerCredential() {
    const { sent } = await this.invoke('create server credential');
    const [serverId, credential] = this.#connection.splitCredential(sent.at(-1) ?? '') ?? [];
    if (credential) return { serverId: Number(serverId), credential };
    throw fail('protocol-error', 'the server answered with no server credential');
  }

  installServer(serverId, credential) {
    const refused = () => fail('bad-credential', `no server ${serverId} was created with this credential`);
    return this.#ask(refused, 'install server', serverId, credential);
  }

  connectToServer(serverId, port) {
    const refused = () => fail('server-not-found', `there is no server ${serverId}: is it running, and the ID right?`);
    return this.#ask(refused, 'connect to server', serverId, port);
  }

  forwardToClient(channel, data) {
    const refused = () => fail('peer-gone', `channel ${channel} has no client of this server, or one that takes no more`);
    return this.#ask(refused, 'forward to client', channel, data);
  }

  forwardToServer(serverId, data) {
    const refused = () => fail('server-not-found', `not connected to a server ${serverId}, or to one that takes no more`);
    return this.#ask(refused, 'forward to server', serverId, data);
  }

  /** Runs an instruction that sends 1 or 0. */
  async #ask(refused, name, ...parameters) {
    const { sent } = await this.invoke(name, ...parameters);
    if (sent.at(-1) !== '1') throw refused();
  }

  /** Gives a command that a server of 2017 does not have; a promise of its value. */
  async #extra(name, parameters) {
    if (this.#connection.numbers) return (await this.#manage(name, parameters)).value;
    throw unsupported(name);
  }

  #manage(name, parameters) {
    return this.#privileged(name, core => core.manage(name, JSON.stringify(parameters), this.#credential));
  }

  #privileged(name, command) {
    return this.#connection.call(name, true, command);
  }
}
