/** The chat: messages in groups by author, and what happened in between. */
import { $, h } from './dom.js';
import { formatTime, splitLinks } from './format.js';

/** Messages and events kept on the page. */
const MAX_SHOWN = 500;
/** Messages of one author within this time stand under one name (milliseconds). */
const GROUP_WITHIN = 5 * 60_000;

export class ChatView {
  #log = $('chat-log');
  /** By author and key, so that a message from the history or the echo of an own one is not shown twice. */
  #shown = new Map();
  /** By element: who said it and when. */
  #sayings = new WeakMap();
  /** IDs that were ours: a guest gets a new one when it reconnects. */
  #own = new Set();

  /** Whoever scrolled up to read is left there; all others stay at the end. */
  #atEnd = true;

  constructor() {
    this.#log.addEventListener('scroll', () => {
      this.#atEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 80;
    });
    new ResizeObserver(() => this.#follow()).observe(this.#log);
  }

  owns(id) {
    this.#own.add(id);
  }

  /**
   * Shows a message; of one that is pending already, that it has arrived. Returns whether it is a stranger's
   * new one.
   */
  said({ id, key, name, text, at, pending }) {
    const identity = `${id}/${key}`;
    const known = this.#shown.get(identity);
    if (known) {
      known.classList.remove('pending');
      return false;
    }
    const mine = this.#own.has(id);
    const item = h(
      `article.said${mine ? '.mine' : ''}${pending ? '.pending' : ''}`,
      {},
      h('header', {}, h('b', {}, mine ? 'You' : String(name)), ` · ${formatTime(Number(at))}`),
      h('p', {}, ...splitLinks(String(text)).map(asNode)),
    );
    this.#shown.set(identity, item);
    this.#sayings.set(item, { id, name, at });
    this.#append(item, pending);
    return !mine;
  }

  event(text) {
    this.#append(h('p.event', {}, text), false);
  }

  /** Messages that were not echoed when the connection ended did not arrive, as far as we can know. */
  lost() {
    for (const item of this.#log.querySelectorAll('.pending')) item.classList.replace('pending', 'lost');
  }

  /** The words of an empty log. */
  explain(title, text) {
    const [bold, span] = $('chat-empty').querySelectorAll('b, span');
    bold.textContent = title;
    span.textContent = text;
  }

  #append(item, pending) {
    const log = this.#log;
    // Pending messages stay last, so that everybody sees the messages in the host's order.
    log.insertBefore(item, pending ? null : log.querySelector('.pending'));
    this.#group(item);
    this.#group(item.nextElementSibling);
    if (log.childElementCount > MAX_SHOWN) log.firstElementChild.remove();
    $('chat-empty').hidden = true;
    this.#atEnd ||= Boolean(pending);
    this.#follow();
  }

  #follow() {
    if (this.#atEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** The first message of a group shows the author. */
  #group(item) {
    const saying = this.#sayings.get(item);
    if (!saying) return;
    const before = this.#sayings.get(item.previousElementSibling);
    const same =
      before?.id === saying.id && before.name === saying.name && saying.at - before.at < GROUP_WITHIN;
    item.classList.toggle('first', !same);
  }
}

/** A part of a message: its text, or a link. */
function asNode({ text, href }) {
  return href ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, text) : text;
}

/** Calls `send(text)` for each message that is written. */
export function setUpComposer(send) {
  const input = $('chat-input');
  const submit = () => {
    const text = input.value.trim();
    if (!text || $('chat-send').disabled) return;
    input.value = '';
    send(text);
  };
  $('chat-form').addEventListener('submit', event => {
    event.preventDefault();
    submit();
    input.focus();
  });
  input.addEventListener('keydown', event => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
}
