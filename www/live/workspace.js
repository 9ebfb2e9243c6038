/** The workspace: instructions, the source of one of them with its versions, presets, checkpoints, quotas. */
import { $, h, setText } from '../room/dom.js';
import { createEditor } from './editor.js';
import { loadPresets, tunnelSources } from './presets.js';
import { coalesced, placeOf } from './relay.js';
import { startTools } from './tools.js';

/** The time between two questions for calls, errors and quotas, in milliseconds, while somebody looks. */
const EVERY = 2000;

const NEW = `function hello(name) {
  // \`this\` is the connection of whoever calls; what goes into \`global\` stays.
  global.count = (global.count ?? 0) + 1;
  console.log('hello', name);
  return \`hello \${name}, you are number \${global.count}\`;
}`;

/** Instructions that a preset has to be told once. */
const FIRST_CALLS = { tunnel: ['initialize', ' '], lobby: ['open lobby'] };

const counted = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;

/** Returns whether a source is a function expression. Of anything else, the relay would only keep that it is none. */
const isFunction = source => /^(\s|\/\/[^\n]*\n|\/\*[^]*?\*\/)*(async\b\s*)?(function\b|\(|[\w$]+\s*=>)/.test(source);

export async function startWorkspace(relay) {
  const presets = await loadPresets();
  /** The instructions as the relay has them, by name. */
  let known = new Map();
  /** Calls of each at the last look, its calls a second then, and the time of that. */
  let last = { calls: new Map(), rates: new Map(), at: 0 };
  /** The instruction in the editor: its name, its newest version and that one's source; no name: a new one. */
  let current = { name: '', version: 0, source: '' };
  /** The version that is shown, if it is an older one, and its source. */
  let shown;
  let shownSource = '';
  const draftKey = `live drafts of ${relay.url}`;
  const drafts = new Map(Object.entries(JSON.parse(sessionStorage.getItem(draftKey) ?? '{}')));

  const editor = createEditor($('editor'), {
    label: 'Source of the instruction',
    keys: [{ key: 'Mod-s', run: () => save() }],
    changed: () => {
      if (shown !== undefined && editor.text !== shownSource) {
        tell(`Version ${shown}, changed: saving makes it the newest.`);
        shown = undefined;
        showVersions();
      }
      if (editor.text === current.source || shown !== undefined) drafts.delete(current.name);
      else drafts.set(current.name, editor.text);
      sessionStorage.setItem(draftKey, JSON.stringify(Object.fromEntries(drafts)));
      showButtons();
      showNames();
    },
  });
  const tools = startTools(relay, { errorIn: showErrorOfOthers });

  const isDirty = () => editor.text !== current.source && shown === undefined;

  function tell(text, kind = '') {
    setText($('told'), text);
    $('told').dataset.kind = kind;
    setText($('error'), '');
  }

  function showError(error, text = error.message) {
    const place = placeOf(error);
    if (place) {
      editor.mark(place, error.cause.message);
      text = `${error.cause.name} in line ${place.line}, column ${place.column}: ${error.cause.message}`;
    }
    setText($('error'), text);
  }

  /** An error in the log, when somebody else called what is in the editor. */
  function showErrorOfOthers({ instruction, version, line, column }, message) {
    if (instruction !== current.name || version !== current.version || isDirty() || shown !== undefined) return;
    editor.mark({ line, column }, message);
    setText($('error'), `${message}, when it was called`);
  }

  const attempt = async action => {
    try {
      return await action();
    } catch (error) {
      showError(error);
      return undefined;
    }
  };

  /** Shows an instruction: what was typed and not saved, if there is such, else its newest source. */
  async function open(name) {
    const { version, source } = await relay.call('source', [name]);
    shown = undefined;
    current = { name, version, source };
    editor.compare(undefined);
    editor.unmark();
    $('compare').setAttribute('aria-pressed', 'false');
    $('foreign').hidden = true;
    editor.text = drafts.get(name) ?? source;
    $('name').value = name;
    sessionStorage.setItem('live instruction', name);
    tell(isDirty() ? `Version ${version} is in the relay; this is what you typed and did not save.` : `Version ${version}`);
    showVersions();
    showNames();
  }

  function openNew(text = NEW, name = '') {
    shown = undefined;
    current = { name: '', version: 0, source: '' };
    editor.compare(undefined);
    editor.unmark();
    editor.text = text;
    $('name').value = name;
    $('foreign').hidden = true;
    tell('Not in the relay yet.');
    showVersions();
    showNames();
  }

  function showVersions() {
    const { version = 0, versions = 0 } = known.get(current.name) ?? {};
    const numbers = Array.from({ length: versions }, (_, n) => version - n);
    $('versions').replaceChildren(...(numbers.length
      ? numbers.map((number, n) => h('option', { value: number }, n ? `version ${number}` : `version ${number}, runs`))
      : [h('option', { value: 0 }, 'new')]));
    $('versions').value = `${shown ?? version}`;
    showButtons();
  }

  function showButtons() {
    const isOpen = relay.state === 'open';
    setText($('save'), shown === undefined ? 'Save' : 'Roll back');
    $('save').disabled = !isOpen || (shown === undefined && current.name !== '' && !isDirty() && $('name').value === current.name);
    $('remove').disabled = !isOpen || !known.has(current.name);
    $('versions').disabled = !isOpen || current.name === '';
    $('compare').disabled = current.version < 2 && !isDirty();
    for (const button of document.querySelectorAll('#presets button, #keep button, #checkpoints button')) button.disabled = !isOpen;
  }

  async function save() {
    if (relay.state !== 'open') return showError(new Error('not connected to the relay: what you typed is kept in this tab'));
    editor.unmark();
    setText($('error'), '');
    if (shown !== undefined) {
      const version = shown;
      const now = await attempt(() => relay.rollBack(current.name, version));
      if (now) {
        drafts.delete(current.name);
        await open(current.name);
        tell(`Version ${version} runs again, as version ${now}.`, 'good');
      }
      return undefined;
    }
    const name = $('name').value.trim();
    const source = editor.text;
    if (!name) {
      $('name').focus();
      return showError(new Error('an instruction has a name: it is called by that'));
    }
    if (!isFunction(source)) return showError(new Error('an instruction is a function: function name(parameter) { … }, or an arrow'));
    const version = await attempt(() => relay.save(name, source));
    if (!version) return undefined;
    drafts.delete(current.name);
    drafts.delete(name);
    current = { name, version, source };
    sessionStorage.setItem('live instruction', name);
    sessionStorage.setItem(draftKey, JSON.stringify(Object.fromEntries(drafts)));
    $('foreign').hidden = true;
    tell(`server: added instruction '${name}', version ${version}. It runs from the next call on.`, 'good');
    await refresh();
    if ($('compare').getAttribute('aria-pressed') === 'true') await compare(true);
    return undefined;
  }

  async function compare(isWanted) {
    $('compare').setAttribute('aria-pressed', `${isWanted}`);
    if (!isWanted) return editor.compare(undefined);
    // An older version is compared with the one that runs, what was typed with what was saved, and what was saved with the one before.
    if (shown !== undefined || isDirty()) return editor.compare(current.source);
    const before = await attempt(() => relay.call('source', [current.name, current.version - 1]));
    return editor.compare(before?.source);
  }

  /** An instruction in the list. It stays the same element, so that it can be clicked while calls are counted. */
  function listed(name) {
    const label = h('span', {}, name);
    const small = h('small');
    const button = h('button', { type: 'button', onclick: () => attempt(() => open(name)) }, label, h('i.runs'), small);
    const item = h('li', { 'data-name': name }, button);
    return { item, update(it) {
      const rate = last.rates.get(name);
      setText(label, drafts.has(name) ? `${name} •` : name);
      const told = [counted(it.calls, 'call'), rate ? `, ${rate} a second` : '', it.errors ? ', ' : ''].join('');
      if (small.textContent !== told + (it.errors ? counted(it.errors, 'error') : '')) {
        small.replaceChildren(told, ...(it.errors ? [h('b', {}, counted(it.errors, 'error'))] : []));
      }
      if (name === current.name) button.setAttribute('aria-current', 'true');
      else button.removeAttribute('aria-current');
      item.toggleAttribute('data-runs', Boolean(rate));
      item.dataset.version = it.version;
    } };
  }

  const list = new Map();

  function showNames() {
    for (const [name, { item }] of list) {
      if (known.has(name)) continue;
      item.remove();
      list.delete(name);
    }
    for (const it of known.values()) {
      if (!list.has(it.name)) {
        list.set(it.name, listed(it.name));
        $('names').append(list.get(it.name).item);
      }
      list.get(it.name).update(it);
    }
    $('no-names').hidden = known.size > 0;
  }

  /** Notes how often each is called, if the last look was long enough ago to tell. */
  function countCalls(list) {
    const now = performance.now();
    const elapsed = (now - last.at) / 1000;
    if (elapsed < 0.9) return;
    const rate = ({ name, calls }) => (elapsed > 60 || !last.calls.has(name) ? 0 : Math.max(0, Math.round((calls - last.calls.get(name)) / elapsed)));
    last = { at: now, rates: new Map(list.map(it => [it.name, rate(it)])), calls: new Map(list.map(it => [it.name, it.calls])) };
  }

  /** Asks the relay for everything that is shown. */
  const refresh = coalesced(async () => {
    if (relay.state !== 'open') return showButtons();
    const list = await relay.call('instructions');
    countCalls(list);
    known = new Map(list.map(it => [it.name, it]));
    const newest = known.get(current.name);
    if (current.name && !newest) {
      tell('It is not in the relay any more: saving adds it again.');
      current = { ...current, version: 0, source: '' };
    } else if (newest && newest.version !== current.version) await takeForeign(newest.version);
    showVersions();
    showNames();
    tools.showQuota(await relay.call('quota'));
    return undefined;
  });

  /** Somebody else has saved what is in the editor. */
  async function takeForeign(version) {
    const { name } = current;
    const { source } = await relay.call('source', [name]);
    // It was this page, whose answer has come meanwhile.
    if (current.name !== name || current.version === version) return undefined;
    const wasDirty = isDirty();
    current = { ...current, version, source };
    if (!wasDirty && shown === undefined) {
      editor.text = source;
      editor.unmark();
      return tell(`Version ${version} was saved elsewhere.`);
    }
    tell('');
    $('foreign').hidden = false;
    return setText($('foreign').querySelector('span'), `Version ${version} was saved elsewhere while you typed. Saving puts yours in its place.`);
  }

  $('take').addEventListener('click', () => {
    $('foreign').hidden = true;
    compare(true);
  });
  $('new').addEventListener('click', () => {
    sessionStorage.removeItem('live instruction');
    openNew(drafts.get('') || NEW);
    $('name').focus();
  });
  $('name').addEventListener('input', showButtons);
  $('name').addEventListener('keydown', event => event.key === 'Enter' && save());
  $('save').addEventListener('click', save);
  $('compare').addEventListener('click', () => compare($('compare').getAttribute('aria-pressed') !== 'true'));
  $('remove').addEventListener('click', () => attempt(async () => {
    const { name, source } = current;
    await relay.remove(name);
    openNew(source, name);
    tell(`'${name}' is gone from the relay. Saving adds it again.`);
  }));
  $('versions').addEventListener('change', () => attempt(async () => {
    const version = Number($('versions').value);
    if (version === current.version) return open(current.name);
    const { source } = await relay.call('source', [current.name, version]);
    shown = version;
    shownSource = source;
    editor.unmark();
    editor.text = source;
    tell(`Version ${version}, which does not run. Version ${current.version} does.`);
    showButtons();
    return $('compare').getAttribute('aria-pressed') === 'true' && compare(true);
  }));

  for (const { name, title, instructions } of presets) {
    const add = async () => {
      const list = name === 'tunnel' ? await tunnelSources() : instructions;
      tell(`${title}: adding…`);
      for (const each of list) await relay.save(each.name, each.source);
      if (FIRST_CALLS[name]) await relay.invoke(...FIRST_CALLS[name]);
      await refresh();
      await open(list[0].name);
      tell(`${title}: ${list.length} instructions were added.`, 'good');
    };
    $('presets').append(h('li', { 'data-name': name },
      h('span', {}, title, h('small', {}, instructions.map(each => each.name).join(', '))),
      h('button', { type: 'button', 'aria-label': `Add ${title}`, onclick: () => attempt(add) }, 'Add')));
  }

  const checkpoint = async action => {
    try {
      setText($('checkpoint-told'), await action());
      await refresh();
    } catch (error) {
      setText($('checkpoint-told'), error.message);
    }
  };
  tools.onRestore = label => checkpoint(async () => {
    await relay.restore(label);
    return `Everything is as it was at “${label}”.`;
  });
  $('keep').addEventListener('submit', event => {
    event.preventDefault();
    const label = $('label').value.trim() || new Date().toLocaleTimeString();
    checkpoint(async () => {
      await relay.call('checkpoint', [label]);
      $('label').value = '';
      return `“${label}” is kept.`;
    });
  });

  const isShown = () => document.visibilityState === 'visible' && document.body.dataset.view === 'workspace';
  const quietly = () => refresh().catch(error => relay.state === 'open' && showError(error));
  const all = () => isShown() && Promise.all([quietly(), tools.look()]);
  const start = async () => {
    showButtons();
    if (relay.state !== 'open' || !isShown()) return;
    await all();
    const kept = sessionStorage.getItem('live instruction');
    if (!current.name && known.has(kept)) await attempt(() => open(kept));
  };
  relay.addEventListener('change', all);
  relay.addEventListener('state', start);
  setInterval(() => isShown() && relay.state === 'open' && quietly(), EVERY);
  addEventListener('view', start);
  document.addEventListener('visibilitychange', all);
  document.addEventListener('keydown', event => {
    if (event.key !== 's' || !(event.ctrlKey || event.metaKey) || event.defaultPrevented || !isShown()) return;
    event.preventDefault();
    save();
  });
  openNew(drafts.get('') || NEW);
}
