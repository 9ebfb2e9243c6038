// The page's links, servers and sockets as the inspector has seen them, and what happened to them. No payload is kept.

// The main module of the package, beside which the bundle of this one lies.
import { getLinks, observe } from './tunnel_wasm.js';

import { isWire, networkOf, relayOf, wireTo } from './network.js';

/** Most entries of the timeline, ended things, and samples of a plot: the oldest go. */
const MAX_ENTRIES = 1000;
const MAX_ENDED = 50;
const MAX_SAMPLES = 120;

/** Messages of one socket and direction that follow each other within this time share an entry, in milliseconds. */
const TOGETHER = 250;

/** Samples without progress after which a socket counts as paused. */
const STILL = 2;

export class Records {
  /** All that is there, and the last that are not: oldest first. */
  links = [];
  servers = [];
  sockets = [];
  /** Entries `{ number, at, subject, what, detail, code, count, bytes }`, oldest first. */
  timeline = [];
  #numbers = { link: 0, server: 0, socket: 0 };
  #entries = 0;
  #bySocket = new WeakMap();
  #lastSample = performance.now();

  start() {
    observe({
      began: (kind, target, id) => this.#begin(kind, target, id),
      message: (socket, direction, data) => this.#addMessage(socket, direction, sizeOf(data)),
      dial: wireTo,
    });
  }

  stop() {
    observe(null);
  }

  /** Adds a sample to each socket's plots. */
  sample() {
    const now = performance.now();
    const seconds = Math.max((now - this.#lastSample) / 1000, 0.001);
    this.#lastSample = now;
    for (const link of statsOfLinks()) {
      const record = this.links.find(({ id }) => id === link.id);
      if (record) record.stats = link;
    }
    for (const server of this.servers) if (!server.ended) server.stats = server.target.getStats();
    for (const socket of this.sockets) if (!socket.ended) this.#sampleSocket(socket, seconds);
  }

  #sampleSocket(record, seconds) {
    const before = record.stats;
    const stats = record.target.getStats();
    record.stats = stats;
    record.readyState = record.target.readyState;
    if (stats.link !== null) record.link = stats.link;
    const rate = name => (before ? (stats[name] - before[name]) / seconds : 0);
    const sample = {
      roundTripTime: stats.roundTripTime,
      sent: rate('bytesSent'),
      received: rate('bytesReceived'),
      unacknowledged: stats.bytesUnacknowledged,
    };
    record.samples.push(sample);
    if (record.samples.length > MAX_SAMPLES) record.samples.shift();
    const moves = !before || stats.bytesUnacknowledged < before.bytesUnacknowledged || !stats.bytesUnacknowledged;
    record.still = moves || stats.state === 'interrupted' ? 0 : record.still + 1;
    if (record.still === STILL && !record.isPaused) {
      record.isPaused = true;
      this.#note(record, 'paused', `${formatBytes(stats.bytesUnacknowledged)} wait for the other side`);
    } else if (record.isPaused && moves) {
      record.isPaused = false;
      this.#note(record, 'goes on');
    }
  }

  #begin(kind, target, id) {
    if (this.#bySocket.has(target)) return;
    const record = { kind, target, number: id ?? ++this.#numbers[kind], id, began: Date.now(), ended: false };
    this.#bySocket.set(target, record);
    const list = this[`${kind}s`];
    list.push(record);
    const ended = list.filter(each => each.ended);
    if (ended.length > MAX_ENDED) list.splice(list.indexOf(ended[0]), 1);
    if (kind === 'link') this.#beginLink(record);
    else if (kind === 'server') this.#beginServer(record);
    else this.#beginSocket(record);
  }

  #beginLink(record) {
    const { target } = record;
    record.relay = relayOf(target.url);
    const network = networkOf(record.relay);
    if (!isWire(target)) network.others.add(target);
    this.#note(record, target.readyState === 1 ? 'is there' : 'dialled', record.relay);
    target.addEventListener('open', () => this.#note(record, 'open'));
    target.addEventListener('close', ({ code, reason }) => {
      network.others.delete(target);
      this.#end(record, code, reason);
    });
  }

  #beginServer(record) {
    const { target } = record;
    record.relay = relayOf(target.relayUrl);
    this.#note(record, target.readyState ? 'is there' : 'registering', record.relay);
    target.addEventListener('open', () => this.#note(record, 'open', target.serverId));
    target.addEventListener('reconnecting', () => this.#note(record, 'reconnecting'));
    target.addEventListener('reconnected', () => this.#note(record, 'resumed'));
    target.addEventListener('close', ({ code, reason }) => this.#end(record, code, reason));
  }

  #beginSocket(record) {
    const { target } = record;
    Object.assign(record, { samples: [], still: 0, isPaused: false, readyState: target.readyState, link: null });
    record.relay = relayOf(target.url, target.serverId);
    const begun = target.channel === null ? 'dialled' : 'arrives';
    this.#note(record, target.readyState ? 'is there' : begun, `port ${target.port}`);
    target.addEventListener('open', () => this.#note(record, 'open', target.protocol && `protocol ${target.protocol}`));
    target.addEventListener('reconnecting', () => {
      record.resent = target.getStats().bytesRetransmitted;
      this.#note(record, 'reconnecting');
    });
    target.addEventListener('reconnected', () => {
      const again = target.getStats().bytesRetransmitted - (record.resent ?? 0);
      this.#note(record, 'resumed', again ? `${formatBytes(again)} sent again` : 'nothing had to be sent again');
    });
    target.addEventListener('reopened', () => this.#note(record, 'reopened', 'a new session: the server was reloaded'));
    target.addEventListener('close', ({ code, reason }) => {
      record.stats = target.getStats();
      record.readyState = 3;
      // The event may have 1006 where the promise has the real code: 3702 for a closed port, as an example.
      target.closed.then(
        () => this.#end(record, code, reason),
        error => this.#end(record, error.closeCode ?? code, error.reason ?? reason, error.code),
      );
    });
  }

  #end(record, code, reason, name) {
    if (record.ended) return;
    record.ended = true;
    record.code = code;
    this.#note(record, 'closed', [name, reason].filter(Boolean).join(': '), code);
  }

  #addMessage(target, direction, bytes) {
    const record = this.#bySocket.get(target);
    if (!record) return;
    const last = this.timeline.at(-1);
    if (last?.subject === record && last.what === direction && Date.now() - last.at < TOGETHER) {
      last.count++;
      last.bytes += bytes;
      last.revision++;
      return;
    }
    Object.assign(this.#note(record, direction), { count: 1, bytes });
  }

  #note(subject, what, detail = '', code = undefined) {
    const entry = { number: ++this.#entries, at: Date.now(), subject, what, detail, code, revision: 0 };
    this.timeline.push(entry);
    if (this.timeline.length > MAX_ENTRIES) this.timeline.shift();
    return entry;
  }

  /** All of it without payloads and without the queries of URLs, which may have tokens in them. */
  report() {
    this.sample();
    const bare = url => url.split('?', 1)[0];
    const links = this.links.map(({ number, relay, ended, code, stats }) => {
      const { id, url, ...rest } = stats ?? {};
      return { number, relay, ended, code, ...rest };
    });
    const servers = this.servers.map(({ number, relay, ended, code, target, stats }) => {
      const { link, ...rest } = stats ?? {};
      return { number, relay, serverId: target.serverId, ended, code, ...rest, link: link?.id ?? null };
    });
    const sockets = this.sockets.map(({ number, relay, ended, code, target, stats, readyState }) => {
      const { port, serverId, channel, protocol, remoteId, verified, encrypted } = target;
      const side = channel === null ? 'client' : 'server';
      const is = { port, serverId, side, protocol, remoteId, verified, encrypted, path: bare(target.path) };
      return { number, relay, ...is, readyState, ended, code, stats };
    });
    const timeline = this.timeline.map(({ at, subject, what, detail, code, count, bytes }) => ({
      at: new Date(at).toISOString(),
      subject: `${subject.kind} ${subject.number}`,
      what,
      ...(detail && { detail }),
      ...(code !== undefined && { code }),
      ...(count && { count, bytes }),
    }));
    return { at: new Date().toISOString(), page: bare(location.href).split('#')[0], userAgent: navigator.userAgent, links, servers, sockets, timeline };
  }
}

/** Before `init()` there are none. */
function statsOfLinks() {
  try {
    return getLinks();
  } catch {
    return [];
  }
}

const sizeOf = data =>
  typeof data === 'string' ? new TextEncoder().encode(data).length : (data.size ?? data.byteLength);

export function formatBytes(bytes) {
  const units = ['B', 'kB', 'MB', 'GB'];
  const step = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), 3);
  const value = bytes / 1000 ** step;
  return `${step && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}
