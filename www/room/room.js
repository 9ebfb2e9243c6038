/**
 * A room: one host, any number of guests. The host's tab is the server (`ForwardingServerWebSocket`) and
 * serves two ports under one server ID; each guest opens one `PeerToPeerWebSocket` to each of them. The host
 * passes messages on.
 *
 * Port 1, chat, JSON texts:
 *   guest to host   hello {name} · say {key, text} · rename {name}
 *   host to guest   welcome {id, ticket, history} · people {people} · said {id, key, name, text, at}
 * Port 2, files: `join {ticket}` ties it to the guest's chat; the rest is in line.js.
 *
 * Events of a room, all with a `detail`: `state`, `people`, `said`, `files` (a file socket is ready).
 */
import { ForwardingServerWebSocket, PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';
import { cleanLine, randomId } from './format.js';

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
const CODES = { unexpected: 4000, tooSlow: 4001, over: 4002 };
/** How often a guest that was cut off before it was in tries again, and how long it waits before (milliseconds). */
const ATTEMPTS = [500, 1000, 2000, 4000];
/** What another attempt would not change, by the code of a TunnelError or the close code. */
const FINAL = ['server-not-found', 'port-closed', 'refused', 'id-taken-over', 3700, 3701, 3702, 3703, 1001, 4000, 4001, 4002];

class Room extends EventTarget {
  state = { phase: 'connecting' };
  /** Who is here: `{id, name, host, ports: {1: "open", 2: "connecting"}}`, the host first. */
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

  /** `phase` is connecting, open, reconnecting or closed; closed comes with what is known of the cause. */
  enter(phase, cause = {}) {
    this.state = { phase, ...cause };
    this.emit('state', this.state);
  }
}

/** A browser has one room that keeps its link; what is open in further tabs, or without storage, gets links of its own. */
async function register(relayUrl) {
  // The library waits some seconds for a name that another tab has, as one that is being reloaded gives it back soon.
  if (!(await claimRoom())) return ForwardingServerWebSocket.newThrough(relayUrl);
  try {
    return await ForwardingServerWebSocket.newThrough(relayUrl, { identity: 'room' });
  } catch (error) {
    if (error.code !== 'identity-in-use' && error.code !== 'no-identity') throw error;
    return ForwardingServerWebSocket.newThrough(relayUrl);
  }
}

/** Whether this tab is the one whose room keeps its link: it stays so until it is closed. */
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
  isHost = true;
  me = HOST;

  /** Registers at the relay; rejects with the library's TunnelError. */
  async open() {
    const server = await register(this.relayUrl);
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

  #greet(socket, { name }) {
    const guest = {
      id: randomId(),
      ticket: randomId(),
      name: cleanLine(name, MAX_NAME) || 'Guest',
      chat: socket,
    };
    this.#guests.set(guest.id, guest);
    tell(socket, { type: 'welcome', id: guest.id, ticket: guest.ticket, history: this.#history });
    socket.addEventListener('message', ({ data }) => this.#hear(guest, parse(data)));
    watchPath(socket, () => this.#tellPeople());
    socket.addEventListener('close', () => {
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

  #spread(id, name, { text, key }) {
    const said = {
      type: 'said',
      id,
      name,
      key: String(key).slice(0, 64),
      text: text.slice(0, MAX_TEXT),
      at: Date.now(),
    };
    this.#history = [...this.#history, said].slice(-MAX_HISTORY);
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
  /** How often it has been tried since it worked. */
  #failures = 0;
  isHost = false;

  constructor(relayUrl, name, serverId) {
    super(relayUrl, name);
    this.serverId = serverId;
  }

  get sockets() {
    return [this.#chat, this.#files].filter(Boolean);
  }

  open() {
    this.#failures = 0;
    this.#connect();
  }

  #connect() {
    this.enter('connecting');
    this.people = [];
    this.me = null;
    try {
      this.#chat = PeerToPeerWebSocket.toPort(PORTS.chat, this.serverId, this.relayUrl);
    } catch (error) {
      // Such as a link that was cut off: its server ID's checksum does not match.
      return this.enter('closed', { name: 'bad-link', reason: error.message });
    }
    const chat = this.#chat;
    this.#follow(chat, cause => {
      // What was cut off before the host's welcome came has lost nothing: it is as if it were opened later.
      const again = this.me === null && !FINAL.includes(cause.name) && !FINAL.includes(cause.code);
      if (!again || this.#failures >= ATTEMPTS.length) return this.#end(cause);
      this.#chat = null;
      this.#later(() => this.#chat === null && this.state.phase === 'connecting' && this.#connect());
    });
    chat.addEventListener('open', () => tell(chat, { type: 'hello', name: this.name }));
    chat.addEventListener('message', ({ data }) => this.#hear(parse(data)));
  }

  say(text) {
    const key = randomId();
    tell(this.#chat, { type: 'say', key, text });
    this.emit('said', { id: this.me, name: this.name, key, text, at: Date.now(), pending: true });
  }

  rename(name) {
    this.name = name;
    if (this.#chat?.readyState === 1) tell(this.#chat, { type: 'rename', name });
  }

  leave() {
    this.#end({ code: 1000, reason: '', left: true });
  }

  #hear(message) {
    if (message?.type === 'welcome') {
      this.me = message.id;
      this.#failures = 0;
      for (const said of message.history ?? []) this.emit('said', said);
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
    setTimeout(attempt, ATTEMPTS[this.#failures++]);
  }

  /** Shows how the path of a socket is, and calls `ended` with the cause if it ends by itself. */
  #follow(socket, ended) {
    // One that is being closed may still lose its path.
    watchPath(socket, () => this.sockets.includes(socket) && this.#showPath());
    socket.addEventListener('close', async ({ code, reason }) => {
      // What went wrong has a name of its own, which the event cannot carry.
      const name = await socket.closed.then(
        () => undefined,
        error => error.code,
      );
      if (this.sockets.includes(socket)) ended({ name, code, reason });
    });
  }

  #showPath() {
    if (this.me !== null) this.enter(this.sockets.some(each => away.has(each)) ? 'reconnecting' : 'open');
  }

  #end(cause) {
    const sockets = this.sockets;
    this.#chat = this.#files = null;
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
