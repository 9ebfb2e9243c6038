/** The page of a pad: ties the document, the network and the editor together. */
import init from '../pkg/tunnel_wasm.js';
import { Awareness, IndexeddbPersistence, Y } from '../pkg/bundles/pad.js';
import { copy } from '../room/copy.js';
import { $, h } from '../room/dom.js';
import { cleanLine, randomName } from '../room/format.js';
import { Editor } from './editor.js';
import { Files, MAX_NAME } from './files.js';
import { GuestShare, HostShare } from './share.js';

const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const TYPING_FOR = 1500;
const SHOW_AFTER = 400;
/** Dark enough for white text on them. */
const COLOURS = ['#0f766e', '#9a3412', '#6d28d9', '#1d4ed8', '#a21caf', '#15803d', '#b91c1c', '#854d0e'];

const doc = new Y.Doc();
const awareness = new Awareness(doc);
const files = new Files(doc);
const editor = new Editor($('editor'), awareness);
/** The file that is open, and the person whom the editor follows. */
let open;
let followed;

function openFile(id) {
  const file = files.get(id) ?? files.list()[0];
  open = file?.id;
  editor.open(file);
  awareness.setLocalStateField('file', open ?? null);
  showFiles();
  showPart('editor');
}

function showFiles() {
  const list = files.list();
  const lines = list.map(({ id, name }) => {
    const button = h('button', { type: 'button', 'data-file': name }, name);
    if (id === open) button.setAttribute('aria-current', 'true');
    button.addEventListener('click', () => {
      followed = undefined;
      openFile(id);
      editor.focus();
    });
    return h('li', {}, button);
  });
  const focused = document.activeElement?.dataset?.file;
  $('files').replaceChildren(...lines);
  if (focused) $('files').querySelector(`[data-file="${CSS.escape(focused)}"]`)?.focus();
  for (const id of ['rename-file', 'delete-file']) $(id).disabled = !open;
}

function showPeople() {
  const people = [...awareness.getStates()].filter(([, { user }]) => typeof user?.name === 'string');
  const lines = people.map(([id, { user, file, typing }]) => {
    const isMe = id === doc.clientID;
    const dot = h('i');
    dot.style.background = COLOURS.includes(user.color) ? user.color : COLOURS[0];
    const where = files.get(file)?.name;
    const follow = h('button', { type: 'button' }, followed === id ? 'Following' : 'Follow');
    follow.setAttribute('aria-pressed', `${followed === id}`);
    follow.setAttribute('aria-label', `Follow ${cleanLine(user.name, 24)}`);
    follow.addEventListener('click', () => {
      followed = followed === id ? undefined : id;
      keepUp();
      showPeople();
    });
    const does = typing ? `writes in ${where ?? 'a file'}` : (where ?? '');
    const person = h('li', { 'data-person': cleanLine(user.name, 24) }, dot, h('span', {}, isMe ? `${user.name} (you)` : cleanLine(user.name, 24), h('small', {}, does)));
    if (!isMe) person.append(follow);
    return person;
  });
  const hadFocus = document.activeElement?.getAttribute('aria-label');
  $('people').replaceChildren(...lines);
  if (hadFocus) [...$('people').querySelectorAll('button')].find(each => each.getAttribute('aria-label') === hadFocus)?.focus();
}

/** Goes where the followed person is. */
function keepUp() {
  const state = awareness.getStates().get(followed);
  if (!state) return;
  if (state.file && state.file !== open && files.get(state.file)) openFile(state.file);
  editor.reveal(state.cursor, doc);
}

let previewTimer;
function showPreview() {
  clearTimeout(previewTimer);
  // It says `ready` when it has been loaded anew, and is sent the page then.
  previewTimer = setTimeout(() => ($('preview').src = 'preview.html'), SHOW_AFTER);
}

const STATES = {
  open: 'Everything is here and shared.',
  reconnecting: 'The network is away. Write on: it is merged when it is back.',
  away: 'The host is away. Write on: you are back by yourself when it is, and all is merged.',
  closed: 'The pad is closed.',
};

function showState({ state, reason }) {
  document.body.dataset.state = state;
  $('status').textContent = state === 'closed' && reason ? `${STATES.closed} ${reason}` : STATES[state];
}

function showPart(part) {
  document.body.dataset.part = part;
  for (const button of document.querySelectorAll('[data-shows]')) button.setAttribute('aria-pressed', `${button.dataset.shows === part}`);
}

/** Asks for a name, or for a yes; `done` gets the name and returns what is wrong with it. */
function ask(title, name, yes, done) {
  $('ask-title').textContent = title;
  $('ask-field').hidden = name === undefined;
  $('ask-name').value = name ?? '';
  $('ask-problem').textContent = '';
  $('ask-yes').textContent = yes;
  $('ask').querySelector('form').onsubmit = event => {
    const problem = done($('ask-name').value.trim().slice(0, MAX_NAME));
    $('ask-problem').textContent = problem ?? '';
    if (problem) event.preventDefault();
  };
  $('ask').showModal();
}

function setUpFiles() {
  $('new-file').addEventListener('click', () =>
    ask('A new file', '', 'Create', name => {
      const problem = files.problem(name);
      if (!problem) openFile(files.add(name));
      return problem;
    }),
  );
  $('rename-file').addEventListener('click', () => {
    const { id, name: before } = files.get(open);
    ask(`Rename ${before}`, before, 'Rename', name => {
      const problem = files.problem(name, id);
      if (!problem) {
        files.rename(id, name);
        openFile(id);
      }
      return problem;
    });
  });
  $('delete-file').addEventListener('click', () => {
    const { id, name } = files.get(open);
    ask(`Delete ${name} for everybody?`, undefined, 'Delete', () => void files.remove(id));
  });
  $('ask-no').addEventListener('click', () => $('ask').close());
  $('download').addEventListener('click', () => {
    const url = URL.createObjectURL(files.zip());
    h('a', { href: url, download: 'pad.zip' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
  files.addEventListener('change', () => {
    if (!files.get(open)) openFile();
    showFiles();
    showPreview();
  });
  addEventListener('message', ({ source, data }) => {
    if (source === $('preview').contentWindow && data === 'ready') source.postMessage(files.page(), '*');
  });
}

function setUpPeople() {
  const name = remembered();
  const color = COLOURS[doc.clientID % COLOURS.length];
  const say = () => awareness.setLocalStateField('user', { name: $('name').value, color, colorLight: `${color}33` });
  $('name').value = name;
  say();
  $('name').addEventListener('change', () => {
    $('name').value = cleanLine($('name').value, 24) || randomName();
    sessionStorage.setItem('name', $('name').value);
    say();
  });
  let timer;
  doc.on('update', (_, from, __, { local }) => {
    if (!local) return;
    if (!awareness.getLocalState()?.typing) awareness.setLocalStateField('typing', true);
    clearTimeout(timer);
    timer = setTimeout(() => awareness.setLocalStateField('typing', false), TYPING_FOR);
  });
  awareness.on('change', () => {
    showPeople();
    if (followed !== undefined) keepUp();
  });
  // The others would wait for half a minute to take the cursor off.
  addEventListener('pagehide', () => awareness.setLocalState(null));
}

function remembered() {
  const name = sessionStorage.getItem('name') || randomName();
  sessionStorage.setItem('name', name);
  return name;
}

function showInvite(serverId) {
  const link = Object.assign(new URL(location.href), { hash: serverId }).href;
  $('link').href = $('link').textContent = link;
  $('copy').addEventListener('click', async () => {
    if (!(await copy(link))) return getSelection().selectAllChildren($('link'));
    $('copy').textContent = 'Copied';
    setTimeout(() => ($('copy').textContent = 'Copy'), 2000);
  });
}

/** Reads the copy that this browser keeps of a pad, by the ID of its server. */
const keep = id => new IndexeddbPersistence(`pad ${id}`, doc).whenSynced;

addEventListener('hashchange', () => location.reload());
for (const button of document.querySelectorAll('[data-shows]')) button.addEventListener('click', () => showPart(button.dataset.shows));
try {
  setUpFiles();
  setUpPeople();
  await init();
  const serverId = location.hash.slice(1);
  document.body.dataset.role = serverId ? 'guest' : 'host';
  let share;
  if (serverId) {
    await keep(serverId);
    share = new GuestShare(relayUrl, serverId, doc, awareness);
  } else {
    share = await HostShare.open(relayUrl, async (id, isKept) => {
      if (isKept) await keep(id);
      files.begin();
      return { doc, awareness };
    });
    share.state = 'open';
  }
  showInvite(serverId || share.server.serverId);
  if (!open) openFile();
  if (share.state === 'open') showState(share);
  else $('status').textContent = 'Connecting to the host…';
  share.addEventListener('state', ({ detail }) => showState(detail));
} catch (error) {
  console.error(error);
  showState({ state: 'closed', reason: error.message });
}
