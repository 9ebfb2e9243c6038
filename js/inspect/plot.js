// A plot of a socket's last two minutes: one or two lines over a second each.

import { element, setText, svg } from './dom.js';

const WIDTH = 240;
const HEIGHT = 48;
const COUNT = 120;

export class Plot {
  #title;
  #format;
  #lines;
  #image;
  #value = element('span', { className: 'value' });
  element;

  /** `lines` has a name and a function of a sample for each line; `format` makes a text of a number. */
  constructor(title, lines, format) {
    this.#title = title;
    this.#format = format;
    this.#lines = lines.map(([name, read], index) => ({ name, read, path: svg('polyline', { class: `line line-${index}` }) }));
    const paths = this.#lines.map(({ path }) => path);
    this.#image = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title }, ...paths);
    const head = element('figcaption', {}, element('span', { text: title }), this.#value);
    this.element = element('figure', { className: 'plot' }, head, this.#image);
  }

  draw(samples) {
    const all = this.#lines.flatMap(({ read }) => samples.map(read)).filter(value => value !== null);
    const most = Math.max(...all, 0);
    const now = [];
    for (const { name, read, path } of this.#lines) {
      const points = samples.map((sample, index) => {
        const value = read(sample);
        const x = WIDTH - ((samples.length - 1 - index) * WIDTH) / (COUNT - 1);
        return value === null ? undefined : `${x.toFixed(1)},${(HEIGHT - 2 - (most ? (value / most) * (HEIGHT - 6) : 0)).toFixed(1)}`;
      });
      path.setAttribute('points', points.filter(Boolean).join(' '));
      const last = samples.length ? read(samples.at(-1)) : null;
      now.push(last === null ? '–' : `${name}${this.#format(last)}`);
    }
    setText(this.#value, now.join(' '));
    const text = `${this.#title}: ${now.join(', ')} now${all.length ? `, ${this.#format(most)} at most` : ''}`;
    if (this.#image.getAttribute('aria-label') !== text) this.#image.setAttribute('aria-label', text);
  }
}
