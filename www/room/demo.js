/**
 * The demo: ties the room (room.js) and its files (files.js) to the page.
 *
 * The start page hosts a room; a link with a server ID after the # opens it. The fragment never reaches a
 * server, so the ID appears in no log of the page's server.
 */
import { $ } from './dom.js';
import { ChatView, setUpComposer } from './chat-view.js';
import { FilesView } from './files-view.js';
import { Shelf } from './files.js';
import { cleanLine, formatDuration, randomName, remember, remembered } from './format.js';

const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const serverId = decodeURIComponent(location.hash.slice(1));
const nameInput = $('name-input');
const chat = new ChatView();

let unread = 0;

function start() {
  nameInput.value = rememberedName();
  addEventListener('hashchange', () => location.reload());
  // Loaded late, so that a page without the library can still say so, and nobody waits for it to see the
  // page.
  const library = load();
  if (serverId) join(library);
  else setUpHosting(library);
  library.catch(error => {
    console.error('the package of tunnel-wasm did not load: `cargo xtask build` makes it', error);
    document.body.dataset.view = 'landing';
    $('host-button').disabled = true;
    $('host-error').textContent = 'A part of this page did not load. Check that you are online, and load it again.';
  });
}

async function load() {
  await (await import('../pkg/tunnel_wasm.js')).default();
  const [room, view] = await Promise.all([import('./room.js'), import('./room-view.js')]);
  return { ...room, ...view };
}

async function join(library) {
  document.body.dataset.view = 'room';
  $('invite').hidden = true;
  const { GuestRoom, ...view } = await library;
  const room = new GuestRoom(relayUrl, nameInput.value, serverId);
  await room.prepare();
  const shelf = new Shelf(false, room.store);
  await shelf.ready;
  enter(room, view, shelf);
}

function setUpHosting(library) {
  document.body.dataset.view = 'landing';
  $('host-form').addEventListener('submit', event => {
    event.preventDefault();
    open();
  });
  // This tab was reloaded while it hosted a room: its guests wait.
  if (remembered('hosting')) open();
  async function open() {
    const button = $('host-button');
    button.disabled = true;
    button.textContent = 'Opening…';
    $('host-error').textContent = '';
    const { HostRoom, ...view } = await library;
    const room = new HostRoom(relayUrl, chosenName());
    await room.prepare();
    const shelf = new Shelf(true, room.store);
    await shelf.ready;
    try {
      await room.open();
    } catch (error) {
      console.error(error);
      $('host-error').textContent = `The room could not be opened. ${view.explain(error.code).filter(Boolean).join('. ')}`;
      button.disabled = false;
      button.textContent = 'Host a room';
      return;
    }
    const isBack = remembered('hosting');
    remember('hosting', true);
    enter(room, view, shelf);
    if (isBack) chat.event('The room is open again, as it was');
  }
}

/** Shows the room. A host's is open by now, a guest's connects. */
function enter(room, view, shelf) {
  new FilesView(shelf);
  $('name-slot').append($('name-field'));
  document.body.dataset.view = 'room';
  view.setUpTabs();
  view.setUpCopy();
  view.openTab(room.isHost ? 'room' : 'chat');

  const refresh = () => {
    view.showState(room.state, room.isHost);
    view.showEncryption(room.sockets, relayUrl);
    view.showPeople(room.people, room.me, room.state);
    explainEmptyChat(room);
  };
  chat.owns(room.me);
  const tellResumption = watchInterruptions(room);
  room.addEventListener('state', ({ detail }) => {
    refresh();
    tellResumption(detail.phase);
    if (detail.phase !== 'closed') return;
    chat.lost();
    view.openTab('chat');
  });
  room.addEventListener('people', () => {
    tellComings(room, view);
    refresh();
  });
  room.addEventListener('said', ({ detail }) => {
    if (!chat.said(detail)) return;
    view.mark('chat');
    countUnread();
  });
  room.addEventListener('files', ({ detail: { socket, person } }) => {
    shelf.attach(socket, person);
    refresh();
  });

  setUpComposer(text => room.say(text));
  setUpFiles(shelf, view);
  shelf.show();
  nameInput.addEventListener('change', () => room.rename((nameInput.value = chosenName())));
  setUpLeaving(room);
  $('reconnect-button').addEventListener('click', () => (room.isHost ? location.reload() : room.open()));

  if (room.isHost) {
    const link = new URL(location.pathname, location.origin);
    if (parameters.has('relay')) link.searchParams.set('relay', relayUrl);
    link.hash = room.serverId;
    view.showInvite(link.href);
    for (const said of room.history) chat.said(said);
    tellComings(room, view);
    refresh();
    $('copy-button').focus(); // the button that was pressed is gone
  } else {
    room.open();
  }
}

/** A host's leaving ends the room for everybody, so it is asked first. */
function setUpLeaving(room) {
  const ask = $('ask-close');
  $('leave-button').addEventListener('click', () => (room.isHost ? ask.showModal() : room.leave()));
  $('keep-room').addEventListener('click', () => ask.close());
  $('close-room').addEventListener('click', () => {
    remember('hosting', undefined);
    ask.close();
    room.leave();
  });
  if (room.isHost) $('leave-button').textContent = 'Close room';
}

/** Notes in the chat that the connection is back, after how long, and that nothing is missing. */
function watchInterruptions(room) {
  let since = room.wasIn ? performance.timeOrigin : 0;
  return phase => {
    if (phase === 'reconnecting' || phase === 'away') since ||= performance.timeOrigin + performance.now();
    if (phase === 'closed') since = 0;
    if (phase !== 'open' || !since) return;
    const seconds = (performance.timeOrigin + performance.now() - since) / 1000;
    since = 0;
    chat.event(`Back after ${formatDuration(seconds)}, nothing lost`);
  };
}

function explainEmptyChat({ isHost, people, state: { phase } }) {
  if (phase === 'connecting') chat.explain('Connecting to the host…', '');
  else if (phase === 'away') chat.explain('The host is away', 'You are back in by yourself when it is.');
  else if (phase === 'closed') chat.explain('', '');
  else if (isHost && people.length < 2)
    chat.explain('Waiting for guests', 'Send the link. Whoever opens it can chat with you here.');
  else chat.explain('You are connected', 'Say hello, or drop a file in.');
  $('chat-empty').classList.toggle('blank', phase === 'closed');
}

let here = null;

/** Notes in the chat who came and went since the last list of people. */
function tellComings(room, view) {
  const now = new Map(room.people.map(({ id, name }) => [id, name]));
  const before = here;
  here = now.size > 0 ? now : null;
  if (!before || !here) return;
  for (const [id, name] of now) {
    if (id === room.me || before.get(id) === name) continue;
    chat.event(before.has(id) ? `${before.get(id)} is now ${name}` : `${name} joined`);
    view.mark('chat');
  }
  for (const [id, name] of before) if (!now.has(id)) chat.event(`${name} left`);
}

function setUpFiles(shelf, view) {
  const share = files => {
    for (const file of files) shelf.add(file);
    if (files.length > 0 && matchMedia('(max-width: 759px)').matches) view.openTab('files');
  };
  $('file-input').addEventListener('change', ({ target }) => {
    share([...target.files]);
    target.value = ''; // so that the same file can be chosen again
  });

  const noted = new Set();
  shelf.addEventListener('change', ({ detail: { id, name, mine, from } }) => {
    if (noted.has(id)) return;
    noted.add(id);
    chat.event(`${mine ? 'You' : from} shared ${name}`);
    if (!mine) view.mark('files');
  });

  const carriesFiles = event => event.dataTransfer?.types.includes('Files');
  let depth = 0; // dragenter and dragleave come for each element on the way
  const hover = change => event => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + change);
    $('drop').classList.toggle('shown', depth > 0);
  };
  addEventListener('dragenter', hover(1));
  addEventListener('dragleave', hover(-1));
  addEventListener('dragover', hover(0));
  addEventListener('drop', event => {
    hover(-Infinity)(event);
    if (carriesFiles(event)) share([...event.dataTransfer.files]);
  });
}

function countUnread() {
  if (!document.hidden) return;
  unread++;
  document.title = `(${unread}) Tunnel`;
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  unread = 0;
  document.title = 'Tunnel';
});

/** The name in the field; one made up when it is empty. */
function chosenName() {
  const name = cleanLine(nameInput.value, 32) || randomName();
  nameInput.value = name;
  try {
    sessionStorage.setItem('name', name);
  } catch {
    // Storage may be turned off: the name then lives as long as the page.
  }
  return name;
}

/** A tab's own name survives a reload; two tabs of one person are two people here. */
function rememberedName() {
  try {
    return sessionStorage.getItem('name') || randomName();
  } catch {
    return randomName();
  }
}

start();
