/** The list of files: what is on its way, how fast, and whether it arrived whole. */
import { $, h, icon } from './dom.js';
import { formatBytes, formatDuration, formatSpeed, shortDigest } from './format.js';

/** Progress need not be drawn more often than this, in milliseconds. Not by frames: hidden tabs have none. */
const REDRAW_AFTER = 100;
/** The speed of a file smaller than this says nothing (bytes). */
const SPEED_FROM = 100_000;
/** A host with many guests sees this many of them by file. */
const MAX_DELIVERIES = 6;

export class FilesView {
  #shelf;
  #items = new Map();
  #dirty = new Set();
  #timer = null;

  constructor(shelf) {
    this.#shelf = shelf;
    shelf.addEventListener('change', ({ detail }) => this.#redraw(detail));
  }

  #redraw(entry) {
    this.#dirty.add(entry);
    this.#timer ??= setTimeout(
      () => {
        this.#timer = null;
        for (const dirty of this.#dirty) this.#draw(dirty);
        this.#dirty.clear();
      },
      this.#items.has(entry.id) ? REDRAW_AFTER : 0,
    );
  }

  #draw(entry) {
    let item = this.#items.get(entry.id);
    if (!item) {
      item = this.#make(entry);
      this.#items.set(entry.id, item);
      $('files').prepend(item.element);
      $('files-empty').hidden = true;
    }
    item.element.dataset.state = entry.state;
    item.element.dataset.resumed = entry.receipt?.resumedAt ?? 0;
    item.title.textContent = entry.name;
    item.meta.textContent = `${formatBytes(entry.size)} · ${entry.mine ? 'from you' : `from ${entry.from}`}`;
    this.#drawAction(item, entry);
    const ways = [this.#receiptWay(entry), ...this.#deliveryWays(entry)].filter(Boolean);
    ways.forEach((way, index) => drawWay((item.ways[index] ??= makeWay(item.element)), way));
    for (const surplus of item.ways.splice(ways.length)) surplus.element.remove();
  }

  #make() {
    const [title, meta, side] = [h('div.title'), h('div.meta'), h('div.side')];
    return { element: h('li', {}, title, meta, side), title, meta, side, ways: [], action: '' };
  }

  /**
   * The one button that an item has, made anew only when it becomes another one, so that it keeps the focus.
   */
  #drawAction(item, entry) {
    const busy = [...entry.deliveries.values()].some(
      ({ state }) => state === 'queued' || state === 'sending',
    );
    let action = '';
    if (entry.state === 'done') action = 'save';
    else if (['waiting', 'receiving', 'paused'].includes(entry.state) || busy) action = 'cancel';
    else if (entry.state === 'offered') action = 'receive';
    else if (entry.state === 'failed' && entry.line?.open) action = 'again';
    if (action === item.action) return;
    item.action = action;
    const button = (name, label, onclick) =>
      h(
        'button',
        { type: 'button', title: label, 'aria-label': `${label}: ${entry.name}`, onclick },
        icon(name),
      );
    const actions = {
      '': () => null,
      save: () =>
        h(
          'a',
          {
            href: (entry.url ??= URL.createObjectURL(entry.blob)),
            download: entry.name,
            title: 'Save',
            'aria-label': `Save: ${entry.name}`,
          },
          icon('download'),
        ),
      cancel: () => button('x', 'Cancel', () => this.#shelf.cancel(entry)),
      receive: () => button('download', 'Receive', () => this.#shelf.request(entry)),
      again: () => button('retry', 'Try again', () => this.#shelf.request(entry)),
    };
    item.side.replaceChildren(...[actions[action]()].filter(Boolean));
  }

  #receiptWay(entry) {
    const { state, receipt, size, problem } = entry;
    if (entry.mine) return null;
    if (state === 'offered') return { left: 'Large: press to receive' };
    if (state === 'waiting') return { left: 'Waiting…', value: 0 };
    if (state === 'receiving') return underWay(receipt.meter, size, receipt.resumedAt ? `Went on at ${formatBytes(receipt.resumedAt)}: ` : '');
    if (state === 'paused') return paused(receipt?.meter.bytes ?? 0, size, entry.from);
    if (state === 'failed') return { left: problem, kind: 'bad', icon: 'alert' };
    return arrived(entry, receipt?.meter);
  }

  #deliveryWays(entry) {
    const deliveries = [...entry.deliveries.values()];
    const ways = deliveries.slice(0, MAX_DELIVERIES).map(delivery => {
      const { state, meter, problem, line } = delivery;
      const { person } = line;
      if (state === 'offered') return { left: `${person.name}: offered` };
      if (state === 'queued') return { left: `${person.name}: waiting…`, value: 0 };
      if (state === 'sending') return underWay(meter, entry.size, `${person.name}: `);
      if (state === 'cancelled') return { left: `${person.name}: cancelled` };
      if (state === 'failed') return { left: `${person.name}: ${problem}`, kind: 'bad', icon: 'alert' };
      return arrived({ ...entry, verified: delivery.verified }, meter, person.name);
    });
    if (deliveries.length > MAX_DELIVERIES) {
      const done = deliveries.filter(({ state }) => state === 'done').length;
      ways.push({ left: `Arrived at ${done} of ${deliveries.length}` });
    }
    if (entry.mine && ways.length === 0) ways.push({ left: 'Goes to whoever joins' });
    return ways;
  }
}

/** Its sender, or the host, is away: it goes on by itself. */
function paused(bytes, size, from) {
  return { left: `Waits for ${from}`, right: bytes ? `${formatBytes(bytes)} are here` : '', value: bytes / size, kind: 'warn' };
}

function underWay(meter, size, prefix) {
  const bytes = Math.min(meter.bytes, size);
  if (bytes === size) return { left: `${prefix}checking…`, value: 1 };
  const speed = meter.speed;
  const rest = speed > 0 ? ` · ${formatDuration((size - bytes) / speed)}` : '';
  return {
    left: `${prefix}${formatBytes(bytes)}`,
    right: `${formatSpeed(speed)}${rest}`,
    value: bytes / size,
  };
}

/** That a file has arrived: here, with its digest, or at the person called `name`. */
function arrived({ verified, sha256 }, meter, name) {
  const speed = meter?.bytes >= SPEED_FROM ? formatSpeed(meter.speed) : '';
  const title = sha256 ? `SHA-256 ${sha256}` : '';
  const way = (left, kind, icon, right = speed) => ({ left, right, kind, icon, title });
  if (verified === false) return way(`${name ?? 'Here'}: SHA-256 differs`, 'bad', 'alert');
  if (verified === null) return way(`${name ?? 'Here'}: not checked`, 'warn', 'alert');
  if (!name) return way(`SHA-256 ${shortDigest(sha256)}`, 'good', 'check');
  return way(name, 'good', 'check', ['SHA-256 ok', speed].filter(Boolean).join(' · '));
}

function makeWay(parent) {
  const [left, right] = [h('span'), h('span')];
  const bar = h('progress', { max: 1, 'aria-label': 'Progress' });
  const element = h('div.way', {}, bar, h('div.row', {}, left, right));
  parent.append(element);
  return { element, bar, left, right, icon: '' };
}

function drawWay(way, { left, right = '', value, kind = '', icon: name = '', title = '' }) {
  way.bar.hidden = value === undefined;
  way.bar.value = value ?? 0;
  way.left.className = kind;
  way.element.title = title;
  way.left.replaceChildren(...(name ? [icon(name)] : []), h('span.text', {}, left));
  way.right.textContent = right;
}
