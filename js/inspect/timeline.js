// The list of what happened, newest first.

import { element, setText } from './dom.js';
import { formatBytes } from './records.js';

/** Most entries that are shown: the rest is in the report. */
const MAX_SHOWN = 200;

const ERRORS = 'https://github.com/tunnel-wasm/tunnel-wasm/blob/main/docs/errors.md#:~:text=';

const KINDS = {
  all: () => true,
  'without messages': ({ what }) => what !== 'sent' && what !== 'received',
  messages: ({ what }) => what === 'sent' || what === 'received',
};

export class Timeline {
  #records;
  #list = element('ol', { tabindex: '0', 'aria-labelledby': 'timeline-title' });
  #none = element('p', { className: 'none', text: 'Nothing has happened that fits.' });
  #kind;
  #search;
  #pause;
  #isPaused = false;
  #shown = '';
  /** Its elements, in order. */
  parts;

  constructor(records) {
    this.#records = records;
    const again = () => this.show(true);
    const options = Object.keys(KINDS).map(name => element('option', { value: name, text: name }));
    this.#kind = element('select', { 'aria-label': 'Entries', on: { change: again } }, ...options);
    this.#search = element('input', { type: 'search', placeholder: 'socket 2', 'aria-label': 'Show entries with this text', on: { input: again } });
    const pause = () => {
      this.#isPaused = !this.#isPaused;
      this.#pause.setAttribute('aria-pressed', `${this.#isPaused}`);
      this.show();
    };
    this.#pause = element('button', { type: 'button', 'aria-pressed': 'false', text: 'Hold', title: 'The list stands still, so that it can be read', on: { click: pause } });
    const tools = element('div', { className: 'tools' }, this.#kind, this.#search, this.#pause);
    const title = element('h3', { id: 'timeline-title', text: 'Timeline' });
    this.parts = [title, tools, this.#none, this.#list];
  }

  /** Shows what there is, unless it is held; `again` has the filters changed. */
  show(again = false) {
    if (this.#isPaused && !again) return;
    const search = this.#search.value.trim().toLowerCase();
    const fits = KINDS[this.#kind.value];
    const entries = this.#records.timeline
      .filter(entry => fits(entry) && (!search || textOf(entry).toLowerCase().includes(search)))
      .slice(-MAX_SHOWN)
      .reverse();
    const shown = entries.map(({ number, revision }) => `${number}.${revision}`).join();
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#none.hidden = entries.length > 0;
    this.#list.hidden = !entries.length;
    const kept = new Map([...this.#list.children].map(item => [item.dataset.entry, item]));
    const items = entries.map(entry => kept.get(`${entry.number}`) ?? makeItem(entry));
    items.forEach((item, index) => setText(item.querySelector('.what'), whatOf(entries[index])));
    // Only what is new is put in: what has the focus stays in its place.
    const wanted = new Set(items);
    for (const item of kept.values()) if (!wanted.has(item)) item.remove();
    items.forEach((item, index) => {
      if (this.#list.children[index] !== item) this.#list.insertBefore(item, this.#list.children[index] ?? null);
    });
  }
}

const whoOf = ({ subject }) => `${subject.kind} ${subject.number}`;
const whatOf = ({ what, count, bytes }) => {
  if (!count) return what;
  return count === 1 ? `${what} ${formatBytes(bytes)}` : `${what} ${count} messages, ${formatBytes(bytes)}`;
};
const textOf = entry => `${whoOf(entry)} ${whatOf(entry)} ${entry.detail} ${entry.code ?? ''}`;

function makeItem(entry) {
  const { number, at, what, detail, code } = entry;
  const time = new Date(at);
  const clock = `${time.toTimeString().slice(0, 8)}.${`${Math.floor(time.getMilliseconds() / 100)}`}`;
  const words = element('span', {}, element('b', { className: 'what' }));
  if (detail) words.append(` ${detail}`);
  if (code !== undefined) {
    const label = `${code}: what it means and what to do`;
    words.append(' ', element('a', { href: `${ERRORS}${code}`, target: '_blank', rel: 'noreferrer', 'aria-label': label, text: `${code}` }));
  }
  return element('li', { 'data-entry': `${number}`, 'data-what': what },
    element('time', { dateTime: time.toISOString(), text: clock }), element('span', { className: 'who', text: whoOf(entry) }), words);
}
