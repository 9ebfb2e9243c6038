/** The five steps. Their state is the relay's: a reload, or another window, goes on where things are. */
import { $, h, setText } from '../room/dom.js';
import { createEditor } from './editor.js';
import { Lines } from './lines.js';
import { tunnelSources } from './presets.js';
import { coalesced, placeOf } from './relay.js';

const ABOUT = {
  'initialize': 'makes the tables that the others share',
  'create server credential': 'gives a tab a number, and the secret to be that server',
  'install server': 'makes a tab the server of that number',
  'connect to server': 'brings a client to a server',
  'forward to client': 'brings the server’s words to a client',
  'forward to server': 'brings a client’s words to the server',
};
const CHANGED = 'forward to client';

export async function startStory(relay) {
  const sources = await tunnelSources();
  const original = sources.find(({ name }) => name === CHANGED).source;
  const transcript = new Lines($('transcript'), 'Commands and answers will be here.');
  const items = new Map();
  /** Newest versions of the six in the relay, by name. */
  let versions = new Map();
  let hasGreeted = sessionStorage.getItem('live greeted') === 'yes';
  /** The newest source of the instruction that is changed. */
  let saved;
  let wasChanged = false;
  let wasComplete;

  relay.addEventListener('line', ({ detail: { from, text } }) => transcript.add(text, { from }));

  const run = action => async () => {
    try {
      await action();
    } catch (error) {
      transcript.add(error.message, { level: 'error' });
    }
  };

  async function inject({ name, source }) {
    versions.set(name, await relay.save(name, source));
    show();
    // It is called once: the others need its tables.
    if (name === 'initialize') await relay.invoke('initialize', ' ');
  }

  for (const { name, source } of sources) {
    const code = h('pre', { hidden: '', tabindex: 0, id: `source of ${name}` }, source);
    const read = h('button', { type: 'button', 'aria-expanded': 'false', 'aria-controls': code.id, onclick: () => {
      code.hidden = !code.hidden;
      read.setAttribute('aria-expanded', `${!code.hidden}`);
    } }, 'Read');
    const button = h('button.inject', { type: 'button', onclick: run(() => inject({ name, source })) }, 'Inject');
    const item = h('li', { 'data-name': name }, h('div.line', {}, h('div', {}, h('b', {}, name), h('div.about', {}, ABOUT[name])), read, button), code);
    items.set(name, { item, button });
    $('six').append(item);
  }

  const editor = createEditor($('story-editor'), {
    label: `Source of ${CHANGED}`,
    text: original,
    keys: [{ key: 'Mod-s', run: () => save() }],
    changed: () => show(),
  });
  const save = run(async () => {
    editor.unmark();
    setText($('story-error'), '');
    try {
      const source = editor.text;
      versions.set(CHANGED, await relay.save(CHANGED, source));
      saved = source;
      wasChanged = true;
    } catch (error) {
      const place = placeOf(error);
      if (place) editor.mark(place, error.cause.message);
      setText($('story-error'), place ? `${error.cause.name} in line ${place.line}: ${error.cause.message}. What ran before still runs.` : error.message);
    }
    show();
  });

  function showPages() {
    if ($('pages').hidden) {
      $('pages').hidden = false;
      $('page-a').src = `tab.html${location.search}#a`;
    }
    sessionStorage.setItem('live pages', 'yes');
    show();
  }
  // Tab A tells under which number it serves; Tab B connects to that.
  addEventListener('message', ({ source, origin, data }) => {
    if (origin !== location.origin || source !== $('page-a').contentWindow || !data.serverId) return;
    const address = `tab.html${location.search}#${data.serverId}`;
    $('own-tab').href = address;
    const shown = $('page-b').getAttribute('src');
    // A new fragment alone does not load a page again; it listens to that.
    if (shown !== address) $('page-b').src = address;
  });

  function show() {
    const isOpen = relay.state === 'open';
    const has = name => versions.has(name);
    const complete = sources.every(({ name }) => has(name));
    const isTalking = complete && !$('pages').hidden;
    // Tab A served by the relay's own six meanwhile, which are put away now.
    if (isTalking && wasComplete === false) $('page-a').contentWindow.location.reload();
    wasComplete = relay.state === 'open' ? complete : wasComplete;
    const isChanged = isTalking && saved !== undefined && saved !== original;
    const done = {
      start: hasGreeted || complete, inject: complete, connect: isTalking, change: isTalking && (isChanged || wasChanged),
      back: isTalking && wasChanged && !isChanged,
    };
    let now = false;
    for (const step of $('steps').children) {
      const isDone = done[step.dataset.step];
      step.toggleAttribute('data-done', isDone);
      step.toggleAttribute('data-now', !isDone && !now);
      now ||= !isDone;
    }
    for (const [name, { item, button }] of items) {
      if (has(name)) item.dataset.version = versions.get(name);
      else delete item.dataset.version;
      setText(button, has(name) ? 'Injected' : 'Inject');
      button.setAttribute('aria-label', `${button.textContent} ${name}`);
      // `initialize` comes first: the others use its tables when they are called.
      button.disabled = !isOpen || has(name) || (name !== 'initialize' && !has('initialize'));
    }
    $('start').disabled = !isOpen;
    $('inject-all').disabled = !isOpen || complete;
    $('connect').disabled = !isOpen || !complete || !$('pages').hidden;
    $('shout').disabled = !isTalking || editor.text.includes('toUpperCase');
    $('story-save').disabled = !isOpen || !isTalking || editor.text === saved;
    $('back').disabled = !isOpen || !isChanged;
  }

  const refresh = coalesced(async () => {
    if (relay.state !== 'open') return show();
    const list = await relay.call('instructions');
    versions = new Map(list.filter(({ name }) => items.has(name)).map(({ name, version }) => [name, version]));
    const before = saved;
    saved = versions.has(CHANGED) ? (await relay.call('source', [CHANGED])).source : undefined;
    // Unsaved text stays in the editor; otherwise it shows the version that was saved elsewhere.
    if (saved !== undefined && saved !== before && (editor.text === before || editor.text === original)) editor.text = saved;
    if (sessionStorage.getItem('live pages') === 'yes' && versions.size === sources.length) showPages();
    show();
  });

  $('start').addEventListener('click', run(async () => {
    const list = await relay.call('instructions', [], 'instructions');
    hasGreeted = true;
    sessionStorage.setItem('live greeted', 'yes');
    setText($('start-told'), list.length ? `It knows ${list.length} instructions: somebody was here before.` : 'It knows no instruction yet.');
    show();
  }));
  $('inject-all').addEventListener('click', run(async () => {
    for (const each of sources) if (!versions.has(each.name)) await inject(each);
  }));
  $('connect').addEventListener('click', showPages);
  $('shout').addEventListener('click', () => {
    editor.text = editor.text.replace(/channel\.server\.id, data\)\)/, 'channel.server.id, tunnel.text(data).toUpperCase()))');
    show();
  });
  $('story-save').addEventListener('click', save);
  $('back').addEventListener('click', run(async () => {
    // The newest version that has the text as it was injected.
    const newest = versions.get(CHANGED);
    for (let version = newest - 1; version > 0; version--) {
      const { source } = await relay.call('source', [CHANGED, version]);
      if (source !== original) continue;
      versions.set(CHANGED, await relay.rollBack(CHANGED, version));
      wasChanged = true;
      saved = editor.text = original;
      setText($('story-error'), '');
      editor.unmark();
      return show();
    }
    throw new Error('the relay does not keep the first version any more: inject it again');
  }));

  const isShown = () => document.body.dataset.view === 'story';
  const quietly = () => (isShown() || relay.state !== 'open') && refresh().catch(error => relay.state === 'open' && transcript.add(error.message, { level: 'error' }));
  relay.addEventListener('lost', () => transcript.add(relay.problem, { from: 'note' }));
  relay.addEventListener('state', quietly);
  relay.addEventListener('change', quietly);
  addEventListener('view', quietly);
  show();
}
