// The panel: a button at the bottom of the page, and behind it the tables, the plots and the timeline. It is in a closed shadow
// root: no rule of the page's reaches it, and no script of the page's finds it by accident.

import { element, setText } from './dom.js';
import { Plot } from './plot.js';
import { formatBytes } from './records.js';
import { STYLE } from './style.js';
import { linkTable, serverTable, socketTable } from './tables.js';
import { Timeline } from './timeline.js';

/** Time between two samples and two looks at what there is, in milliseconds. */
const SAMPLE = 1000;
const LOOK = 250;

export class Panel {
  #records;
  #host = document.createElement('tunnel-inspector');
  #launch;
  #summary = element('span');
  #panel;
  #said = element('span', { className: 'said', role: 'status' });
  #chosen;
  #tables;
  #plots;
  #plotTitle = element('h3', { id: 'plots-title' });
  #timeline;
  #timers;

  constructor(records) {
    this.#records = records;
    const dot = element('i', { 'aria-hidden': 'true' });
    this.#launch = element('button', { type: 'button', className: 'launch', 'aria-expanded': 'false', on: { click: () => this.show() } }, dot, this.#summary);
    this.#timeline = new Timeline(records);
    const choose = record => {
      this.#chosen = record;
      this.#look();
    };
    const isChosen = record => record === this.#plotted();
    this.#tables = [[socketTable(isChosen, choose), 'sockets'], [serverTable(), 'servers'], [linkTable(), 'links']];
    const perSecond = value => `${formatBytes(value)}/s`;
    this.#plots = [
      new Plot('Round trip', [['', sample => sample.roundTripTime]], value => `${value.toFixed(1)} ms`),
      new Plot('Bytes a second', [['↑ ', sample => sample.sent], ['↓ ', sample => sample.received]], perSecond),
      new Plot('Unacknowledged', [['', sample => sample.unacknowledged]], formatBytes),
    ];
    const plots = element('div', { className: 'plots' }, ...this.#plots.map(plot => plot.element));
    const left = element('div', { className: 'column' }, ...this.#tables.map(([table]) => table.element));
    const right = element('div', { className: 'column' }, element('section', { 'aria-labelledby': 'plots-title' }, this.#plotTitle, plots), ...this.#timeline.parts);
    const header = element('div', { className: 'head' }, element('h2', { id: 'title', text: 'tunnel-wasm' }), this.#said,
      element('button', { type: 'button', text: 'Copy report', title: 'As JSON, without what was sent', on: { click: () => this.#copy() } }),
      element('button', { type: 'button', text: 'Hide', title: 'Escape does it, too', on: { click: () => this.hide() } }));
    this.#panel = element('div', { className: 'panel', role: 'region', 'aria-labelledby': 'title', hidden: true }, header, element('div', { className: 'columns' }, left, right));
    const root = element('div', { className: 'root' }, this.#launch, this.#panel);
    root.addEventListener('keydown', event => {
      if (event.key !== 'Escape' || this.#panel.hidden) return;
      event.stopPropagation();
      this.hide();
    });
    const shadow = this.#host.attachShadow({ mode: 'closed' });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];
    shadow.append(root);
    document.documentElement.append(this.#host);
    this.#timers = [setInterval(() => this.#records.sample(), SAMPLE), setInterval(() => this.#look(), LOOK)];
    this.#look();
  }

  show() {
    this.#panel.hidden = false;
    this.#launch.hidden = true;
    this.#host.toggleAttribute('data-open', true);
    this.#records.sample();
    this.#look();
    this.#panel.querySelector('button').focus();
  }

  hide() {
    const hadFocus = this.#panel.contains(this.#panel.getRootNode().activeElement);
    this.#panel.hidden = true;
    this.#launch.hidden = false;
    this.#host.toggleAttribute('data-open', false);
    if (hadFocus) this.#launch.focus();
  }

  remove() {
    for (const timer of this.#timers) clearInterval(timer);
    this.#host.remove();
  }

  /** The socket that was chosen, or the first that is open. */
  #plotted() {
    const { sockets } = this.#records;
    if (sockets.includes(this.#chosen)) return this.#chosen;
    return sockets.find(each => !each.ended) ?? sockets.at(-1);
  }

  #look() {
    const { sockets, servers } = this.#records;
    const open = sockets.filter(each => !each.ended);
    const many = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;
    const hosted = servers.filter(each => !each.ended).length;
    setText(this.#summary, `Tunnel: ${many(open.length, 'socket')}${hosted ? `, ${many(hosted, 'server')}` : ''}`);
    const isInterrupted = open.some(({ stats }) => stats?.state === 'interrupted');
    this.#launch.dataset.state = isInterrupted ? 'interrupted' : open.length || hosted ? 'alive' : 'none';
    if (this.#panel.hidden) return;
    for (const [table, name] of this.#tables) table.show(this.#records[name]);
    const plotted = this.#plotted();
    setText(this.#plotTitle, plotted ? `Socket #${plotted.number}` : 'Plots');
    for (const plot of this.#plots) plot.draw(plotted?.samples ?? []);
    this.#timeline.show();
  }

  async #copy() {
    const text = JSON.stringify(this.#records.report(), null, 2);
    try {
      await navigator.clipboard.writeText(text);
      this.#say('Copied.');
    } catch {
      // Insecure contexts have no clipboard.
      console.log(text);
      this.#say('The report is on the console.');
    }
  }

  #say(text) {
    this.#said.textContent = text;
    setTimeout(() => (this.#said.textContent = ''), 4000);
  }
}
