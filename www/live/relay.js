/** The page's connection to a relay that runs programs: opened again when it is lost, with the relay's log as events. */
import { NodeJSLivecodingClient } from '../pkg/tunnel_wasm.js';

/** Waiting times between attempts, in milliseconds; the last one stays. */
const WAITS = [300, 600, 1200, 2500, 5000];

/** Time in which several changes are told as one, in milliseconds. */
const SOON = 80;

/** The name of the credential of a relay in the tab's session storage: a reload keeps it, and no other relay gets it. */
const keyOf = url => `live credential of ${url}`;

/**
 * Events: `state`; `lost`, once for each time that the connection ends by itself; `log`, whose `detail` is an entry of the relay's log; `line`, whose `detail` is `{from, text}`, a line of the wire;
 * `change`, after something was saved, here or in another window.
 */
export class Relay extends EventTarget {
  /** `locked`, `connecting`, `open`, `away` (lost, and dialled again) or `refused`. */
  state = 'locked';
  /** The reason of `refused` and `away`, for people. */
  problem = '';
  client;
  #credential = '';
  #attempt = 0;
  #timer;
  /** Of each command that is not answered yet: whether its answer is for the transcript. A relay answers in order. */
  #asked = [];
  #isShown = false;
  #change;

  constructor(url) {
    super();
    this.url = url;
  }

  /** Takes the credential of the address's fragment, and takes it out of there; else the one that this tab has kept. */
  static credentialFor(url) {
    const given = new URLSearchParams(location.hash.slice(1)).get('credential');
    if (given) {
      sessionStorage.setItem(keyOf(url), given);
      history.replaceState(history.state, '', location.pathname + location.search);
    }
    return given || sessionStorage.getItem(keyOf(url)) || '';
  }

  /** Connects with a credential, which is kept if the relay takes it. */
  open(credential) {
    this.#credential = credential;
    this.#attempt = 0;
    this.#drop();
    return this.#dial();
  }

  /** Ends the connection, and forgets the credential. */
  lock() {
    sessionStorage.removeItem(keyOf(this.url));
    this.#credential = '';
    clearTimeout(this.#timer);
    this.#drop();
    this.#become('locked');
  }

  #drop() {
    const { client } = this;
    this.client = undefined;
    client?.closeConfigurator();
  }

  async #dial() {
    clearTimeout(this.#timer);
    this.#become(this.#attempt ? 'away' : 'connecting', this.problem);
    const credential = this.#credential;
    let client;
    try {
      client = await NodeJSLivecodingClient.configureServerAt(this.url, credential);
    } catch (error) {
      if (credential === this.#credential) this.#lost(error.message);
      return;
    }
    if (credential !== this.#credential) return void client.closeConfigurator();
    if (!client.capabilities) {
      client.closeConfigurator();
      sessionStorage.removeItem(keyOf(this.url));
      return this.#become('refused', 'The relay takes this credential for wrong, or it runs no programs (setting livecode-programs).');
    }
    sessionStorage.setItem(keyOf(this.url), credential);
    this.client = client;
    this.#attempt = 0;
    this.#asked = [];
    client.addEventListener('log', ({ line }) => this.#hear(line));
    client.addEventListener('close', () => {
      if (this.client !== client) return;
      this.client = undefined;
      this.#lost('The connection to the relay is lost. This page connects again by itself.');
      this.dispatchEvent(new Event('lost'));
    });
    this.#become('open');
    this.#watch(client);
  }

  #lost(problem) {
    const wait = WAITS[Math.min(this.#attempt, WAITS.length - 1)];
    this.#attempt++;
    this.#timer = setTimeout(() => this.#dial(), wait);
    this.#become('away', problem);
  }

  #become(state, problem = '') {
    this.state = state;
    this.problem = problem;
    this.dispatchEvent(new Event('state'));
  }

  async #watch(client) {
    this.#asked.push(false);
    try {
      for await (const entry of client.logs()) {
        if (entry.level === 'change') this.changed();
        else this.#tell('log', entry);
      }
    } catch {
      // The connection has ended, which is told elsewhere.
    }
  }

  #hear(line) {
    // Lines for the client: numbered answers, and the log.
    if (/^server: (answered \d+|log) \{/.test(line)) return;
    if (line.startsWith('server: received command')) this.#isShown = this.#asked.shift() ?? false;
    if (this.#isShown) this.#tell('line', { from: 'relay', text: line });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Tells everything on the page that instructions may have changed; once for many changes in a row. */
  changed() {
    this.#change ??= setTimeout(() => {
      this.#change = undefined;
      this.dispatchEvent(new Event('change'));
    }, SOON);
  }

  /** Calls a method of the client; `shown` is the command for the transcript, if it belongs there. */
  async call(method, given = [], shown) {
    if (!this.client) throw new Error('not connected to the relay');
    this.#asked.push(Boolean(shown));
    if (shown) this.#tell('line', { from: 'page', text: shown });
    return this.client[method](...given);
  }

  async save(name, source) {
    const { value } = await this.call('addInstruction', [name, source], `add instruction '${name}'`);
    this.changed();
    return value?.version;
  }

  async rollBack(name, version) {
    const now = await this.call('rollBack', [name, version], `roll back '${name}' to version ${version}`);
    this.changed();
    return now;
  }

  async remove(name) {
    await this.call('removeInstruction', [name], `remove '${name}'`);
    this.changed();
  }

  async restore(label) {
    await this.call('restore', [label], `restore '${label}'`);
    this.changed();
  }

  invoke(name, ...parameters) {
    return this.call('invoke', [name, ...parameters], `${name} ${parameters.map(each => JSON.stringify(each)).join(' ')}`.trim());
  }
}

/** Runs an action that asks the relay: one at a time, and once more if it was wanted meanwhile. */
export function coalesced(action) {
  let running;
  let isWanted = false;
  const run = async () => {
    do {
      isWanted = false;
      await action();
    } while (isWanted);
  };
  return () => {
    isWanted = true;
    running ??= run().finally(() => (running = undefined));
    return running;
  };
}

/** The place of an error in an instruction: `{instruction, version, line, column}`, or undefined. */
export const placeOf = error => error?.cause?.at ?? undefined;
