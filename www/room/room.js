/**
 * A room: one host, any number of guests. The host's tab is the server (`ForwardingServerWebSocket`) and
 * serves two ports under one server ID; each guest opens one `PeerToPeerWebSocket` to each of them. The host
 * passes messages on.
 *
 * Port 1, chat, JSON texts:
 *   guest to host   hello {name, secret} · say {key, text} · rename {name}
 *   host to guest   welcome {id, ticket, history} · people {people} · said {id, key, name, text, at}
 * A guest that is reloaded, or whose host was, says hello again with its secret, and what was not answered once more: the history
 * in `welcome` tells both what has arrived.
 * Port 2, files: `join {ticket}` ties it to the guest's chat; the rest is in line.js.
 *
 * Events of a room, all with a `detail`: `state`, `people`, `said`, `files` (a file socket is ready).
 */
import { ForwardingServerWebSocket, PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';
import { cleanLine, randomId, remember, remembered } from './format.js';
import { Sha256 } from './sha256.js';
import { Store } from './store.js';

export const PORTS = { chat: 1, files: 2 };
export const MAX_NAME = 32;
export const MAX_TEXT = 4000;
const MAX_HISTORY = 100;
/** A guest that takes nothing of the chat must not fill the host's memory. */
const MAX_BEHIND = 1024 * 1024;
const FIRST_MESSAGE_WITHIN = 15_000;
const HOST = 'host';
/** Sockets whose path is broken for now, and which the library is mending. */
const away = new WeakSet();
/** Close codes of this page (4000 to 4999 are the application's). */
const CODES = { unexpected: 4000, tooSlow: 4001, over: 4002, again: 4003 };
/** The number of times that a guest which was cut off before it was in tries again, and the wait before (milliseconds). */
const ATTEMPTS = [500, 1000, 2000, 4000];
/** The failures that another attempt would not change, by the code of a TunnelError or the close code. */
const FINAL = ['server-not-found', 'port-closed', 'refused', 'id-taken-over', 3700, 3701, 3702, 3703, 1001, 4000, 4001, 4002, 4003];
/** The same for a guest who has been in: a host that is away may come back. */
const OVER = ['refused', 'id-taken-over', 'bad-link', 3700, 3703, 4000, 4002, 4003];

/** The guest as everybody in the room knows it: nobody finds the secret that leads to it. */
function idOf(secret) {
  const hash = new Sha256();
  hash.update(new TextEncoder().encode(secret));
  return hash.finish().slice(0, 16);
}

class Room extends EventTarget {
  state = { phase: 'connecting' };
  /** The people here: `{id, name, host, ports: {1: "open", 2: "connecting"}}`, the host first. */
  people = [];
  me = null;

  constructor(relayUrl, name) {
    super();
    this.relayUrl = relayUrl;
    this.name = name;
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** `phase` is connecting, open, reconnecting, away or closed; closed comes with what is known of the cause. */
  enter(phase, cause = {}) {
    this.state = { phase, ...cause };
    this.emit('state', this.state);
  }
}

/** A browser has one room that keeps its link; what is open in further tabs, or without storage, gets links of its own. */
async function register(relayUrl, isKept) {
  // The library waits some seconds for a name that another tab has, as one that is being reloaded gives it back soon.
  if (!isKept) return ForwardingServerWebSocket.newThrough(relayUrl);
  try {
    return await ForwardingServerWebSocket.newThrough(relayUrl, { identity: 'room' });
  } catch (error) {
    if (error.code !== 'identity-in-use' && error.code !== 'no-identity') throw error;
    return ForwardingServerWebSocket.newThrough(relayUrl);
  }
}

/** Returns whether this tab is the one whose room keeps its link: it stays so until it is closed. */
async function claimRoom() {
  const [{ type } = {}] = performance.getEntriesByType('navigation');
  if (!navigator.locks) return true;
  // A tab that is reloaded may find its own last page still there.
  const patience = type === 'reload' ? { signal: AbortSignal.timeout(1000) } : { ifAvailable: true };
  return new Promise(resolve => {
    const held = lock => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    };
    navigator.locks.request('room', patience, held).catch(() => resolve(false));
  });
}

/** The room in the tab of who opened it. */
export class HostRoom extends Room {
  #server = null;
  #guests = new Map();
  #history = [];
  #leaving = false;
  #isKept = false;
  isHost = true;
  me = HOST;
  store;

  /** Finds what this browser has kept of the room. */
  async prepare() {
    this.#isKept = await claimRoom();
    this.store = new Store(this.#isKept ? `room: host ${this.relayUrl}` : null);
    this.#history = (await this.store.get('history'))?.messages ?? [];
  }

  /** The messages of before. */
  get history() {
    return this.#history;
  }

  /** Registers at the relay; rejects with the library's TunnelError. */
  async open() {
    const server = await register(this.relayUrl, this.#isKept);
    this.#server = server;
    server.listen(PORTS.chat, socket => this.#takeFirst(socket, 'hello', this.#greet));
    server.listen(PORTS.files, socket => this.#takeFirst(socket, 'join', this.#admit));
    server.addEventListener('reconnecting', () => this.enter('reconnecting'));
    server.addEventListener('reconnected', () => this.enter('open'));
    server.addEventListener('close', ({ code, reason }) =>
      this.enter('closed', { code, reason, left: this.#leaving }),
    );
    this.enter('open');
    this.#tellPeople();
  }

  get serverId() {
    return this.#server?.serverId;
  }

  get sockets() {
    return [...this.#guests.values()].flatMap(({ chat, files }) => (files ? [chat, files] : [chat]));
  }

  say(text) {
    this.#spread(HOST, this.name, { text, key: randomId() });
  }

  rename(name) {
    this.name = name;
    this.#tellPeople();
  }

  leave() {
    this.#leaving = true;
    for (const { chat } of this.#guests.values()) chat.close(CODES.over, 'the host closed the room');
    this.#server?.close();
    this.store.clear();
  }

  /** Waits for the message that must come first on a socket, and closes what sends another or none. */
  #takeFirst(socket, type, handler) {
    const timer = setTimeout(() => socket.close(CODES.unexpected, `no ${type} came`), FIRST_MESSAGE_WITHIN);
    socket.addEventListener('close', () => clearTimeout(timer), { once: true });
    socket.addEventListener(
      'message',
      ({ data }) => {
        clearTimeout(timer);
        const message = parse(data);
        if (message?.type === type) handler.call(this, socket, message);
        else socket.close(CODES.unexpected, `expected ${type}`);
      },
      { once: true },
    );
  }

  #greet(socket, { name, secret }) {
    const isSecret = typeof secret === 'string' && secret.length >= 16 && secret.length <= 64;
    const id = isSecret ? idOf(secret) : randomId();
    // The same person, whose page was reloaded: what it had before goes.
    const before = this.#guests.get(id);
    this.#guests.delete(id);
    before?.chat.close(CODES.again, 'this guest came again');
    before?.files?.close();
    const guest = {
      id,
      ticket: randomId(),
      name: cleanLine(name, MAX_NAME) || 'Guest',
      chat: socket,
    };
    this.#guests.set(guest.id, guest);
    tell(socket, { type: 'welcome', id: guest.id, ticket: guest.ticket, history: this.#history });
    socket.addEventListener('message', ({ data }) => this.#hear(guest, parse(data)));
    watchPath(socket, () => this.#tellPeople());
    socket.addEventListener('close', () => {
      if (this.#guests.get(guest.id) !== guest) return;
      this.#guests.delete(guest.id);
      guest.files?.close();
      this.#tellPeople();
    });
    this.#tellPeople();
  }

  #admit(socket, { ticket }) {
    const guest = [...this.#guests.values()].find(candidate => candidate.ticket === ticket);
    if (!guest) return socket.close(CODES.unexpected, 'no guest has this ticket');
    // One that was cut off while it connected comes again, maybe before the end of the first is seen here.
    guest.files?.close();
    guest.files = socket;
    watchPath(socket, () => this.#tellPeople());
    socket.addEventListener('close', () => {
      if (guest.files === socket) guest.files = null;
      this.#tellPeople();
    });
    this.emit('files', { socket, person: guest });
    this.#tellPeople();
  }

  #hear(guest, message) {
    if (message?.type === 'say' && typeof message.text === 'string') {
      this.#spread(guest.id, guest.name, message);
    } else if (message?.type === 'rename') {
      guest.name = cleanLine(message.name, MAX_NAME) || guest.name;
      this.#tellPeople();
    }
  }

  /** Everybody hears of it when it has been kept. What has been said before, by a guest who did not see it arrive, is not said twice. */
  async #spread(id, name, { text, key }) {
    const said = {
      type: 'said',
      id,
      name,
      key: String(key).slice(0, 64),
      text: text.slice(0, MAX_TEXT),
      at: Date.now(),
    };
    if (this.#history.some(each => each.id === id && each.key === said.key)) return;
    this.#history = [...this.#history, said].slice(-MAX_HISTORY);
    await this.store.put('history', [], { messages: this.#history });
    this.#tellAll(said);
    this.emit('said', said);
  }

  #tellAll(message) {
    for (const { chat } of this.#guests.values()) {
      if (chat.bufferedAmount > MAX_BEHIND) chat.close(CODES.tooSlow, 'too far behind in the chat');
      else tell(chat, message);
    }
  }

  #tellPeople() {
    this.people = [
      { id: HOST, name: this.name, host: true, ports: { 1: 'listening', 2: 'listening' } },
      ...[...this.#guests.values()].map(({ id, name, chat, files }) => ({
        id,
        name,
        host: false,
        ports: { 1: phaseOf(chat), 2: files ? phaseOf(files) : 'connecting' },
      })),
    ];
    this.#tellAll({ type: 'people', people: this.people });
    this.emit('people', this.people);
  }
}

/** The room as a guest sees it. `open` may be called again after it has closed. */
export class GuestRoom extends Room {
  #chat = null;
  #files = null;
  /** The number of tries since it worked. */
  #failures = 0;
  /** True from the host's welcome to the end of the socket. */
  #isIn = false;
  /** True if this tab was in the room before, maybe before it was reloaded. */
  wasIn;
  /** Messages that the host is not known to have: `{key, text, at}`. */
  #outbox;
  #secret;
  isHost = false;
  store;

  constructor(relayUrl, name, serverId) {
    super(relayUrl, name);
    this.serverId = serverId;
    const { secret = randomId() + randomId(), outbox = [], wasIn = false } = remembered(`room ${serverId}`) ?? {};
    this.#secret = secret;
    this.#outbox = outbox;
    this.wasIn = wasIn;
    this.me = idOf(secret);
  }

  async prepare() {
    this.store = new Store(`room: guest ${this.serverId} ${this.me}`);
    this.#remember();
  }

  #remember() {
    remember(`room ${this.serverId}`, { secret: this.#secret, outbox: this.#outbox, wasIn: this.wasIn });
  }

  get sockets() {
    return [this.#chat, this.#files].filter(Boolean);
  }

  open() {
    this.#failures = 0;
    for (const said of this.#outbox) this.emit('said', { id: this.me, name: this.name, ...said, pending: true });
    this.#connect();
  }

  #connect() {
    if (!this.wasIn) this.enter('connecting');
    else if (this.state.phase !== 'away') this.enter('reconnecting');
    this.#isIn = false;
    try {
      this.#chat = PeerToPeerWebSocket.toPort(PORTS.chat, this.serverId, this.relayUrl);
    } catch (error) {
      // Such as a link that was cut off: its server ID's checksum does not match.
      return this.enter('closed', { name: 'bad-link', reason: error.message });
    }
    const chat = this.#chat;
    this.#follow(chat, cause => {
      // A line that was cut off before the host's welcome came has lost nothing: it is as if it were opened later. A guest who was in waits.
      const final = this.wasIn ? OVER : FINAL;
      const again = !final.includes(cause.name) && !final.includes(cause.code);
      if (!again || (!this.wasIn && this.#failures >= ATTEMPTS.length)) return this.#end(cause);
      this.#chat = null;
      this.#isIn = false;
      if (this.wasIn) this.enter('away', cause);
      this.#later(() => this.#chat === null && ['connecting', 'away'].includes(this.state.phase) && this.#connect());
    });
    chat.addEventListener('open', () => tell(chat, { type: 'hello', name: this.name, secret: this.#secret }));
    chat.addEventListener('message', ({ data }) => this.#hear(parse(data)));
  }

  say(text) {
    const said = { key: randomId(), text, at: Date.now() };
    this.#outbox.push(said);
    this.#remember();
    if (this.#isIn) tell(this.#chat, { type: 'say', ...said });
    this.emit('said', { id: this.me, name: this.name, ...said, pending: true });
  }

  rename(name) {
    this.name = name;
    if (this.#chat?.readyState === 1) tell(this.#chat, { type: 'rename', name });
  }

  leave() {
    this.#end({ code: 1000, reason: '', left: true });
  }

  /** A message of ours has arrived at the host. */
  #arrived({ id, key }) {
    const index = id === this.me ? this.#outbox.findIndex(each => each.key === key) : -1;
    if (index < 0) return;
    this.#outbox.splice(index, 1);
    this.#remember();
  }

  #hear(message) {
    if (message?.type === 'welcome') {
      this.#failures = 0;
      this.#isIn = true;
      this.wasIn = true;
      for (const said of message.history ?? []) {
        this.#arrived(said);
        this.emit('said', said);
      }
      this.#remember();
      for (const said of this.#outbox) tell(this.#chat, { type: 'say', ...said });
      this.enter('open');
      this.#openFiles(message.ticket);
    } else if (message?.type === 'people' && Array.isArray(message.people)) {
      this.people = message.people.map(({ id, name, host, ports }) => ({
        id,
        name: cleanLine(name, MAX_NAME),
        host: host === true,
        ports: Object(ports),
      }));
      this.emit('people', this.people);
    } else if (message?.type === 'said') {
      this.#arrived(message);
      this.emit('said', message);
    }
  }

  #openFiles(ticket) {
    const socket = PeerToPeerWebSocket.toPort(PORTS.files, this.serverId, this.relayUrl);
    this.#files = socket;
    // The room goes on without files, and tries to have them again.
    this.#follow(socket, ({ code }) => {
      this.#files = null;
      this.#showPath();
      if (code === CODES.unexpected || this.#failures >= ATTEMPTS.length) return;
      const chat = this.#chat;
      this.#later(() => chat && this.#chat === chat && !this.#files && this.#openFiles(ticket));
    });
    socket.addEventListener('open', () => {
      this.#failures = 0;
      tell(socket, { type: 'join', ticket });
      this.emit('files', {
        socket,
        person: this.people.find(({ host }) => host) ?? { id: HOST, name: 'Host' },
      });
    });
  }

  /** Tries something again after a while that grows with the number of failures. */
  #later(attempt) {
    setTimeout(attempt, ATTEMPTS[Math.min(this.#failures++, ATTEMPTS.length - 1)]);
  }

  /** Shows how the path of a socket is, and calls `ended` with the cause if it ends by itself. */
  #follow(socket, ended) {
    // One that is being closed may still lose its path.
    watchPath(socket, () => this.sockets.includes(socket) && this.#showPath());
    socket.addEventListener('close', async ({ code, reason }) => {
      // The fault has a name of its own, which the event cannot carry.
      const name = await socket.closed.then(
        () => undefined,
        error => error.code,
      );
      if (this.sockets.includes(socket)) ended({ name, code, reason });
    });
  }

  #showPath() {
    if (this.#isIn) this.enter(this.sockets.some(each => away.has(each)) ? 'reconnecting' : 'open');
  }

  #end(cause) {
    const sockets = this.sockets;
    this.#chat = this.#files = null;
    this.#isIn = this.wasIn = false;
    remember(`room ${this.serverId}`, undefined);
    this.store.clear();
    for (const socket of sockets) if (socket.readyState < 2) socket.close();
    this.people = [];
    this.enter('closed', cause);
    this.emit('people', this.people);
  }
}

function tell(socket, message) {
  if (socket.readyState === 1) socket.send(JSON.stringify(message));
}

function watchPath(socket, onchange) {
  socket.addEventListener('reconnecting', () => {
    away.add(socket);
    onchange();
  });
  socket.addEventListener('reconnected', () => {
    away.delete(socket);
    onchange();
  });
}

function phaseOf(socket) {
  if (socket.readyState === 1 && away.has(socket)) return 'reconnecting';
  return ['connecting', 'open', 'closing', 'closed'][socket.readyState];
}

/** A peer's message; null for what is no JSON text. */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
