/** The tools beside the source: the pad (do it, print it, inspect it), the inspector of `global`, the log, the quotas. */
import { $, h, setText } from '../room/dom.js';
import { createEditor } from './editor.js';
import { Lines } from './lines.js';
import { coalesced, placeOf } from './relay.js';

const PAD = `global.count
6 * 7
Object.keys(global)`;

/**
 * Runs in the relay: one level of what is at a path, also inside of maps and sets, of which the relay's own `globals` does not tell. A step
 * is a name, or the number of an entry with 0 for its key and 1 for its value.
 */
const LOOK = `(path => {
  let at = globalThis;
  for (const step of path) {
    if (typeof step !== 'string') at = Array.from(at.entries())[step[0]][step[1]];
    else {
      const found = Object.getOwnPropertyDescriptor(at, step);
      if (!found || found.get) throw new RangeError('there is no such value');
      at = found.value;
    }
  }
  const kind = it => it === null ? 'null' : it instanceof Map ? 'map' : it instanceof Set ? 'set' : Array.isArray(it) ? 'array' : typeof it;
  const preview = it => {
    if (typeof it === 'function') return String(it).slice(0, 200);
    if (typeof it !== 'object' || it === null) return String(it).slice(0, 200);
    return it instanceof Map || it instanceof Set ? 'size ' + it.size : Array.isArray(it) ? 'length ' + it.length : '';
  };
  const tell = (name, step, it) => ({ name, step, type: kind(it), preview: preview(it) });
  if (at instanceof Map) return JSON.stringify(Array.from(at).slice(0, 200).map(([key, it], n) => tell(preview(key) || kind(key) + ' ' + n, [n, 1], it)));
  if (at instanceof Set) return JSON.stringify(Array.from(at).slice(0, 200).map((it, n) => tell(String(n), [n, 0], it)));
  if ((typeof at !== 'object' && typeof at !== 'function') || at === null) return '[]';
  const names = Object.getOwnPropertyNames(at).slice(0, 200);
  return JSON.stringify(names.map(name => {
    const found = Object.getOwnPropertyDescriptor(at, name);
    return found.get || found.set ? { name, step: name, type: 'getter', preview: '' } : tell(name, name, found.value);
  }));
})`;

export function startTools(relay, { errorIn }) {
  const log = new Lines($('log'), 'console.log and errors of instructions will be here.');
  const padKey = `live pad of ${relay.url}`;

  const pad = createEditor($('pad'), {
    label: 'Expressions to try in the relay',
    text: sessionStorage.getItem(padKey) ?? PAD,
    gutter: false,
    keys: [
      { key: 'Mod-d', run: () => doIt() }, { key: 'Mod-p', run: () => printIt() }, { key: 'Mod-i', run: () => inspectIt() },
      { key: 'Mod-Enter', run: () => printIt() },
    ],
    changed: () => sessionStorage.setItem(padKey, pad.text),
  });

  /** The selection, or the line of the cursor. */
  function selected() {
    const { doc, selection } = pad.view.state;
    let { from, to } = selection.main;
    if (from === to) ({ from, to } = doc.lineAt(from));
    const first = doc.lineAt(from);
    return { source: doc.sliceString(from, to), from, to, line: first.number, column: from - first.from };
  }

  async function evaluate(wrap = source => source) {
    pad.unmark();
    setText($('pad-error'), '');
    const range = selected();
    if (!range.source.trim()) return undefined;
    try {
      const printed = await relay.call('evaluate', [wrap(range.source)]);
      look();
      return { ...range, printed };
    } catch (error) {
      const place = placeOf(error);
      // Only of the source itself: an error in an instruction that it called is another place.
      if (place?.instruction === 'eval') {
        pad.mark({ line: range.line + place.line - 1, column: place.column + (place.line === 1 ? range.column : 0) }, error.cause.message);
      }
      setText($('pad-error'), error.cause?.name ? `${error.cause.name}: ${error.cause.message}` : error.message);
      return undefined;
    }
  }

  async function doIt() {
    await evaluate();
  }

  /** Puts the value behind the source, selected: one key removes it. */
  async function printIt() {
    const done = await evaluate();
    if (!done) return;
    const insert = ` // ${done.printed.replaceAll('\n', '\n// ')}`;
    pad.view.dispatch({ changes: { from: done.to, insert }, selection: { anchor: done.to, head: done.to + insert.length }, scrollIntoView: true });
  }

  async function inspectIt() {
    const done = await evaluate(source => `global.it = (0, eval)(${JSON.stringify(source)})`);
    if (!done) return;
    await look();
    const item = $('globals').querySelector('[data-name="it"]');
    if (item instanceof HTMLDetailsElement) item.open = true;
    item?.scrollIntoView({ block: 'nearest' });
  }

  // The inspector

  /** The paths that are open; they stay so when everything is asked for again. */
  const opened = new Set();
  const keyOf = path => JSON.stringify(path);

  async function level(path) {
    if (path.every(step => typeof step === 'string')) {
      const names = await relay.call('inspect', [path]);
      if (names.length) return names.map(it => ({ ...it, step: it.name }));
    }
    if (!path.length) return [];
    return JSON.parse(await relay.call('evaluate', [`${LOOK}(${JSON.stringify(path)})`]));
  }

  function value({ name, step, type, preview }, path) {
    const own = [...path, step];
    const label = [h('b', {}, name), ' ', h('i', {}, type === 'function' ? 'function' : preview ? `${type === 'object' ? '' : `${type} `}` : type)];
    const text = type === 'string' ? JSON.stringify(preview) : type === 'function' ? '' : preview;
    if (type !== 'object' && type !== 'array' && type !== 'map' && type !== 'set') {
      return h('div.leaf', { 'data-name': name, title: preview }, ...label, text);
    }
    const below = h('div', {});
    const details = h('details', { 'data-name': name, ontoggle: () => {
      if (!details.open) return opened.delete(keyOf(own));
      opened.add(keyOf(own));
      return fill(below, own);
    } }, h('summary', {}, ...label, text), below);
    details.open = opened.has(keyOf(own));
    return details;
  }

  /** Shows what is at a path. Rows that are as before stay, with their focus; what is open in them is asked for again. */
  async function fill(parent, path) {
    let found;
    try {
      found = await level(path);
    } catch (error) {
      delete parent.dataset.shown;
      return parent.replaceChildren(h('div.none', {}, error.cause?.message ?? error.message));
    }
    const shown = JSON.stringify(found);
    if (parent.dataset.shown === shown) {
      const open = [...parent.children].map((row, n) => [row, found[n]]).filter(([row]) => row.open);
      await Promise.all(open.map(([row, { step }]) => fill(row.lastElementChild, [...path, step])));
      return undefined;
    }
    parent.dataset.shown = shown;
    const rows = found.map(it => value(it, path));
    return parent.replaceChildren(...(rows.length ? rows : [h('div.none', {}, path.length ? 'nothing inside' : 'Instructions keep nothing yet.')]));
  }

  const look = coalesced(async () => {
    if (relay.state === 'open') await fill($('globals'), []);
  });

  // The quotas, and checkpoints, which come with them

  const tools = {
    look,
    onRestore: () => {},
    showQuota(quota) {
      const bytes = count => `${(count / 1024 / 1024).toFixed(2)} MiB`;
      const meter = h('meter', { min: 0, max: quota.maxHeap, high: quota.maxHeap * 0.8, value: quota.heap, 'aria-label': 'Memory' });
      const facts = [
        ['Memory', `${bytes(quota.heap)} of ${bytes(quota.maxHeap)}`, meter], ['Time of one call', `at most ${quota.callTime} ms`],
        ['Share of a processor', `${Math.round(quota.share * 100)} %`], ['Calls', `${quota.calls}`],
        ['Errors', `${quota.errors}, ${quota.stopped} stopped`], ['Time spent', `${quota.spent} ms`],
        ['Connections', `${quota.links}`], ['Timers', `${quota.timers}`],
      ];
      $('quota').replaceChildren(...facts.map(([term, text, ...more]) => h('div', {}, h('dt', {}, term), h('dd', {}, text, ...more))));
      const labels = quota.checkpoints ?? [];
      const key = JSON.stringify(labels);
      if ($('checkpoints').dataset.labels === key) return;
      $('checkpoints').dataset.labels = key;
      $('checkpoints').replaceChildren(...labels.map(label => h('li', { 'data-name': label },
        h('span', {}, label), h('button', { type: 'button', 'aria-label': `Restore ${label}`, onclick: () => tools.onRestore(label) }, 'Restore'))));
    },
  };

  $('do').addEventListener('click', doIt);
  $('print').addEventListener('click', printIt);
  $('inspect').addEventListener('click', inspectIt);
  $('look').addEventListener('click', look);
  $('clear').addEventListener('click', () => log.clear());
  relay.addEventListener('state', () => {
    for (const id of ['do', 'print', 'inspect', 'look']) $(id).disabled = relay.state !== 'open';
  });
  relay.addEventListener('lost', () => log.add(relay.problem, { from: 'note' }));
  relay.addEventListener('log', ({ detail: { level, text, at } }) => {
    log.add(text, { level });
    const [, message, instruction, version, line, column] = /^(.*) \((.+) (\d+):(\d+):(\d+)\)$/s.exec(text) ?? [];
    if (level === 'error' && at) errorIn(at, message ?? text);
    else if (level === 'error' && instruction) errorIn({ instruction, version: Number(version), line: Number(line), column: Number(column) }, message);
  });
  return tools;
}
