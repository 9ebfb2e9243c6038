// The tables of sockets, servers and links, whose rows stay as long as what they show.

import { element, setText } from './dom.js';
import { networkOf } from './network.js';
import { formatBytes } from './records.js';

/** One way, in milliseconds. */
const DELAYS = [0, 50, 200, 1000, 5000];

/** A table whose rows are kept by record: `columns` has a heading and a function of a record each, which fills a cell. */
export class Table {
  #columns;
  #body = element('tbody');
  #rows = new Map();
  #none;
  #scroll;
  element;

  constructor(title, none, columns) {
    this.#columns = columns;
    this.#none = element('p', { className: 'none', text: none });
    const id = `${title.toLowerCase()}-title`;
    const heads = columns.map(([name]) => element('th', { scope: 'col', text: name }));
    const table = element('table', { 'aria-labelledby': id }, element('thead', {}, element('tr', {}, ...heads)), this.#body);
    this.#scroll = element('div', { className: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': id }, table);
    this.element = element('div', {}, element('h3', { id, text: title }), this.#none, this.#scroll);
  }

  show(records) {
    this.#none.hidden = records.length > 0;
    this.#scroll.hidden = !records.length;
    const shown = new Set(records);
    for (const [record, { row }] of this.#rows) {
      if (shown.has(record)) continue;
      row.remove();
      this.#rows.delete(record);
    }
    for (const record of records) {
      if (!this.#rows.has(record)) this.#add(record);
      const { row, cells } = this.#rows.get(record);
      row.classList.toggle('ended', record.ended);
      cells.forEach((cell, index) => this.#columns[index][1](record, cell));
    }
  }

  #add(record) {
    const cells = this.#columns.map((_, index) => element(index ? 'td' : 'th', index ? {} : { scope: 'row' }));
    const row = element('tr', {}, ...cells);
    this.#rows.set(record, { row, cells });
    this.#body.prepend(row);
  }
}

const text = read => (record, cell) => setText(cell, read(record) ?? '–');

const identifier = read => (record, cell) => {
  const id = read(record);
  if (!id) return setText(cell, '–');
  if (cell.firstElementChild?.textContent !== id) cell.replaceChildren(element('span', { className: 'mono id', title: id, text: id }));
};

/** A state with a dot, which says the same as its word. */
const state = read => (record, cell) => {
  if (!cell.firstElementChild) cell.append(element('span', { className: 'state' }));
  const [kind, word] = read(record);
  setText(cell.firstElementChild, word);
  cell.firstElementChild.dataset.state = kind;
};

const socketState = ({ ended, code, readyState, stats, isPaused, relay }) => {
  if (ended) return ['ended', `closed ${code}`];
  if (readyState === 2) return ['waiting', 'closing'];
  if (networkOf(relay).isCut) return ['cut', 'network cut'];
  if (readyState === 0) return ['waiting', 'connecting'];
  if (stats?.state === 'interrupted') return ['cut', 'interrupted'];
  if (isPaused) return ['waiting', 'paused'];
  return ['open', 'open'];
};

/** Buttons that cut and delay the network to a record's relay, once for each record. */
function networkControls(record) {
  const name = `${record.kind} ${record.number}`;
  const network = networkOf(record.relay);
  const press = () => {
    if (network.isCut) network.mend();
    else network.cut();
    show();
  };
  const cut = element('button', { type: 'button', on: { click: press } });
  const options = DELAYS.map(delay => element('option', { value: `${delay}`, text: delay ? `+${delay} ms` : 'no delay' }));
  const change = () => network.setDelay(Number(delay.value));
  const delay = element('select', { 'aria-label': `Delay each way between this page and the relay of ${name}`, on: { change } }, ...options);
  // The relay's other sockets have these controls, too.
  const show = () => {
    const word = network.isCut ? 'Mend' : 'Cut';
    setText(cut, word);
    cut.title = network.isCut ? 'Lets links to this relay through again' : 'Cuts all links of this page to this relay';
    cut.setAttribute('aria-label', `${word} the network to the relay of ${name}`);
    cut.setAttribute('aria-pressed', `${network.isCut}`);
    if (Number(delay.value) !== network.delay) delay.value = `${network.delay}`;
  };
  show();
  return { elements: [cut, delay], show };
}

const controls = (record, cell, more = () => []) => {
  if (record.ended) return cell.replaceChildren();
  if (!cell.firstElementChild) {
    cell.controls = networkControls(record);
    cell.append(element('div', { className: 'actions' }, ...cell.controls.elements, ...more()));
  }
  cell.controls.show();
};

export const socketTable = (isChosen, choose) =>
  new Table('Sockets', 'No socket yet.', [
    ['Socket', (record, cell) => {
      if (!cell.firstElementChild) {
        const label = `Plot socket ${record.number}`;
        cell.append(element('button', { type: 'button', 'aria-label': label, text: `#${record.number}`, on: { click: () => choose(record) } }));
      }
      cell.firstElementChild.setAttribute('aria-pressed', `${isChosen(record)}`);
    }],
    // Before all that changes its width: what is pressed must not move.
    ['Test', (record, cell) => controls(record, cell, () => {
      const end = () => record.target.abort('the inspector ended the socket');
      return [element('button', { type: 'button', className: 'danger', title: 'Ends it at once: both sides see 1006', 'aria-label': `End socket ${record.number}`, text: 'End', on: { click: end } })];
    })],
    ['State', state(socketState)],
    ['Port', text(({ target }) => target.port)],
    ['Side', text(({ target }) => (target.channel === null ? 'client' : 'server'))],
    ['Round trip', text(({ stats }) => (stats?.roundTripTime == null ? undefined : `${stats.roundTripTime.toFixed(1)} ms`))],
    ['Sent', text(({ stats }) => stats && `${formatBytes(stats.bytesSent)} · ${stats.messagesSent}`)],
    ['Received', text(({ stats }) => stats && `${formatBytes(stats.bytesReceived)} · ${stats.messagesReceived}`)],
    ['Unacknowledged', text(({ stats }) => stats && formatBytes(stats.bytesUnacknowledged))],
    ['Reconnects', text(({ stats }) => stats?.reconnects)],
    ['Encrypted', text(({ target, readyState, ended }) => (readyState === 0 || ended ? undefined : target.encrypted ? 'yes' : 'no'))],
    ['Remote ID', identifier(({ target }) => target.remoteId)],
    ['Protocol', text(({ target }) => target.protocol || undefined)],
    ['Path', text(({ target }) => target.path)],
    ['Link', text(({ ended, stats }) => (ended || stats?.link == null ? undefined : `#${stats.link}`))],
  ]);

const portsOf = ports => ports.map(({ first, last }) => (first === last ? first : `${first}–${last}`)).join(', ');

export const serverTable = () =>
  new Table('Servers', 'This page hosts no server.', [
    ['Server', text(({ number }) => `#${number}`)],
    ['Test', (record, cell) => controls(record, cell)],
    ['State', state(({ ended, code, stats, target, relay }) => {
      if (ended) return ['ended', `closed ${code}`];
      if (networkOf(relay).isCut) return ['cut', 'network cut'];
      if (!target.readyState) return ['waiting', 'registering'];
      return stats?.state === 'interrupted' ? ['cut', 'interrupted'] : ['open', 'hosting'];
    })],
    ['ID', identifier(({ target }) => target.serverId)],
    ['Ports', text(({ stats }) => (stats && portsOf(stats.ports)) || undefined)],
    ['Clients', text(({ stats }) => stats && `${stats.clients}${stats.clientsWaiting ? ` + ${stats.clientsWaiting} waiting` : ''}`)],
    ['Admitted', text(({ stats }) => stats?.clientsAdmitted)],
    ['Refused', text(({ stats }) => stats?.clientsRefused)],
    ['Reconnects', text(({ stats }) => stats?.reconnects)],
    ['Link', text(({ stats }) => stats?.link && `#${stats.link.id}`)],
  ]);

export const linkTable = () =>
  new Table('Links', 'No link to a relay yet.', [
    ['Link', text(({ number }) => `#${number}`)],
    ['State', state(({ ended, code, stats }) => {
      if (ended) return ['ended', `closed ${code}`];
      return stats?.state === 'open' ? ['open', 'open'] : ['waiting', 'dialling'];
    })],
    ['Relay', text(({ relay }) => relay)],
    ['Delay', text(({ relay, ended }) => (!ended && networkOf(relay).delay ? `${networkOf(relay).delay} ms each way` : undefined))],
    ['Channels', text(({ stats }) => stats && `${stats.channels}${stats.channelsPaused ? `, ${stats.channelsPaused} paused` : ''}`)],
    ['Sent', text(({ stats }) => stats && `${formatBytes(stats.bytesSent)} · ${stats.messagesSent}`)],
    ['Received', text(({ stats }) => stats && `${formatBytes(stats.bytesReceived)} · ${stats.messagesReceived}`)],
    ['Round trip', text(({ stats }) => (stats?.roundTripTime == null ? undefined : `${stats.roundTripTime.toFixed(1)} ms`))],
    ['Dialect', text(({ stats }) => stats?.dialect ?? undefined)],
  ]);
