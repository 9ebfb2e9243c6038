/**
 * The network of a pad: Yjs's own protocols over sockets. The host's tab is the server, has all of the document, and passes on what
 * each guest says. Everybody may write while they are cut off: it is merged when they are back.
 *
 * Events: `state`, with `detail` {state, reason}: open, reconnecting, away (the host's page is not there) or closed.
 */
import { ForwardingServerWebSocket, PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';
import {
  applyAwarenessUpdate, createDecoder, createEncoder, encodeAwarenessUpdate, length, readSyncMessage, readVarUint,
  readVarUint8Array, removeAwarenessStates, toUint8Array, writeSyncStep1, writeUpdate, writeVarUint, writeVarUint8Array,
} from '../pkg/bundles/pad.js';

const PORT = 50;
const PROTOCOL = 'pad.v1';
const SYNC = 0;
const AWARENESS = 1;
/** A guest who takes nothing must not fill the host's memory: it is let go, comes again, and gets what it has missed. */
const MOST_BEHIND = 8 * 1024 * 1024;
const MAX_MESSAGE = 16 * 1024 * 1024;
/** Cursors that one guest may have: a tab has one, and another for a while when it is reloaded. */
const MOST_CURSORS = 4;
const AGAIN_AFTER = 1000;

function message(type, write) {
  const encoder = createEncoder();
  writeVarUint(encoder, type);
  write(encoder);
  return toUint8Array(encoder);
}

class Share extends EventTarget {
  state = 'starting';

  constructor(doc, awareness) {
    super();
    this.doc = doc;
    this.awareness = awareness;
    doc.on('update', (update, from) => this.tell(message(SYNC, encoder => writeUpdate(encoder, update)), from));
    awareness.on('update', ({ added, updated, removed }, from) => {
      this.note?.(added, from);
      this.tell(this.cursors([...added, ...updated, ...removed]), from);
    });
  }

  enter(state, reason = '') {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', { detail: { state, reason } }));
  }

  cursors(ids) {
    return message(AWARENESS, encoder => writeVarUint8Array(encoder, encodeAwarenessUpdate(this.awareness, ids)));
  }

  /** Gives the own cursor a new number: those who have taken it off take it again. */
  renew() {
    this.awareness.setLocalState(this.awareness.getLocalState());
  }

  /** Asks for what is missing here, and shows the cursors that are known. */
  greet(socket) {
    socket.send(message(SYNC, encoder => writeSyncStep1(encoder, this.doc)));
    socket.send(this.cursors([...this.awareness.getStates().keys()]));
  }

  /** Takes a message in; returns whether it was one. */
  hear(socket, data) {
    try {
      const decoder = createDecoder(new Uint8Array(data));
      const type = readVarUint(decoder);
      if (type === AWARENESS) applyAwarenessUpdate(this.awareness, readVarUint8Array(decoder), socket);
      if (type !== SYNC) return type === AWARENESS;
      const answer = createEncoder();
      writeVarUint(answer, SYNC);
      readSyncMessage(decoder, answer, this.doc, socket);
      if (length(answer) > 1) socket.send(toUint8Array(answer));
      return true;
    } catch (error) {
      console.warn('a message that is none', error);
      return false;
    }
  }
}

export class HostShare extends Share {
  /** Cursors by socket. */
  #present = new Map();

  /** Its ID stays when the tab is reloaded; a second pad of this browser gets another one, and is not kept. */
  static async open(relayUrl, start) {
    let server;
    try {
      server = await ForwardingServerWebSocket.newThrough(relayUrl, { identity: 'pad', protocols: PROTOCOL });
    } catch (error) {
      if (error.code !== 'identity-in-use' && error.code !== 'no-identity') throw error;
      server = await ForwardingServerWebSocket.newThrough(relayUrl, { protocols: PROTOCOL });
    }
    // Nobody is let in before what is kept has been read: it would look as if it were gone.
    const { doc, awareness } = await start(server.serverId, server.identity !== null);
    return new HostShare(server, doc, awareness);
  }

  constructor(server, doc, awareness) {
    super(doc, awareness);
    this.server = server;
    server.listen(PORT, socket => this.#serve(socket), { maxMessageSize: MAX_MESSAGE });
    server.addEventListener('reconnecting', () => this.enter('reconnecting'));
    server.addEventListener('reconnected', () => this.enter('open'));
    server.addEventListener('close', ({ reason }) => this.enter('closed', reason));
  }

  #serve(socket) {
    socket.binaryType = 'arraybuffer';
    this.#present.set(socket, new Set());
    socket.onmessage = ({ data }) => {
      if (!this.hear(socket, data)) socket.close(4400, 'not a message of a pad');
    };
    socket.onclose = () => {
      const gone = [...this.#present.get(socket)];
      this.#present.delete(socket);
      removeAwarenessStates(this.awareness, gone, null);
    };
    this.renew();
    this.greet(socket);
  }

  note(added, from) {
    const cursors = this.#present.get(from);
    if (!cursors) return;
    for (const id of added) cursors.add(id);
    if (cursors.size > MOST_CURSORS) from.close(4400, 'too many cursors');
  }

  tell(data, but) {
    for (const client of this.server.clients) {
      if (client === but) continue;
      if (client.bufferedAmount > MOST_BEHIND) client.close(4401, 'too far behind');
      else client.send(data);
    }
  }
}

export class GuestShare extends Share {
  #socket;
  #serverId;
  #relayUrl;
  /** True once the host has said what it has. */
  isSynced = false;

  constructor(relayUrl, serverId, doc, awareness) {
    super(doc, awareness);
    this.#relayUrl = relayUrl;
    this.#serverId = serverId;
    this.#connect();
  }

  #connect() {
    const options = { protocols: PROTOCOL, redial: true, maxMessageSize: MAX_MESSAGE };
    const socket = PeerToPeerWebSocket.toPort(PORT, this.#serverId, this.#relayUrl, options);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    // A host that was reloaded has a new session, and asks again for what it lacks.
    for (const type of ['open', 'reopened']) {
      socket.addEventListener(type, () => {
        this.renew();
        this.greet(socket);
        this.enter('open');
      });
    }
    socket.addEventListener('reconnecting', () => this.enter('reconnecting'));
    socket.addEventListener('reconnected', () => this.enter('open'));
    socket.addEventListener('message', ({ data }) => {
      if (this.hear(socket, data)) this.isSynced = true;
    });
    socket.addEventListener('close', ({ reason }) => {
      // Cursors of people whom nobody can tell to be there.
      const others = [...this.awareness.getStates().keys()].filter(id => id !== this.doc.clientID);
      removeAwarenessStates(this.awareness, others, socket);
      // They are told again with the same number, which would count as old.
      for (const id of others) this.awareness.meta.delete(id);
      this.enter('away', reason);
      setTimeout(() => this.#connect(), AGAIN_AFTER);
    });
  }

  tell(data, but) {
    if (but !== this.#socket && this.#socket?.readyState === 1) this.#socket.send(data);
  }
}
