/** Livecoding the relay: puts the connection, the story and the workspace together. */
import init from '../pkg/tunnel_wasm.js';
import { $, setText } from '../room/dom.js';
import { Relay } from './relay.js';

const STATES = {
  locked: 'Not connected', connecting: 'Connecting…', open: 'Connected', away: 'Reconnecting…', refused: 'Not connected',
};

/** The panel of each view. */
const VIEWS = { story: 'steps-view', workspace: 'workspace' };

const url = new URLSearchParams(location.search).get('relay') ?? location.origin.replace(/^http/, 'ws');
const relay = new Relay(url);

/** Shows one of the two views; the address keeps which. */
function show(view, { focus = false, push = true } = {}) {
  document.body.dataset.view = view;
  for (const [name, panel] of Object.entries(VIEWS)) {
    const tab = $(`tab-${name}`);
    tab.setAttribute('aria-selected', `${name === view}`);
    tab.tabIndex = name === view ? 0 : -1;
    $(panel).hidden = name !== view;
    if (focus && name === view) tab.focus();
  }
  if (push) history.replaceState(history.state, '', view === 'story' ? location.pathname + location.search : `#${view}`);
  dispatchEvent(new Event('view'));
}

function showState() {
  document.body.dataset.state = relay.state;
  setText($('relay-state'), STATES[relay.state]);
  setText($('problem'), relay.state === 'refused' ? relay.problem : '');
  $('lock').hidden = relay.state === 'locked' || relay.state === 'refused';
  $('relay-state').title = relay.problem;
  // The form was away while it connected, and with it the focus.
  if (relay.state === 'refused' && document.activeElement === document.body) $('credential').focus();
}

async function start() {
  $('relay-url').textContent = url.replace(/^wss?:\/\//, '');
  const credential = Relay.credentialFor(url);
  if (!credential) document.documentElement.removeAttribute('data-knows');
  for (const name of Object.keys(VIEWS)) $(`tab-${name}`).addEventListener('click', () => show(name));
  $('bar').querySelector('.tabs').addEventListener('keydown', ({ key }) => {
    if (key === 'ArrowRight' || key === 'ArrowLeft') show(document.body.dataset.view === 'story' ? 'workspace' : 'story', { focus: true });
  });
  $('go-on').addEventListener('click', () => {
    show('workspace', { focus: true });
    scrollTo(0, 0);
  });
  relay.addEventListener('state', showState);
  $('unlock').addEventListener('submit', event => {
    event.preventDefault();
    relay.open($('credential').value);
    $('credential').value = '';
  });
  $('lock').addEventListener('click', () => {
    document.documentElement.removeAttribute('data-knows');
    relay.lock();
  });
  // A link with a credential that is opened in this tab while the page is there.
  addEventListener('hashchange', () => {
    if (location.hash.includes('credential=')) relay.open(Relay.credentialFor(url));
  });
  show(location.hash === '#workspace' ? 'workspace' : 'story', { push: false });
  await init();
  const [{ startStory }, { startWorkspace }] = await Promise.all([import('./story.js'), import('./workspace.js')]);
  await Promise.all([startStory(relay), startWorkspace(relay)]);
  showState();
  if (credential) await relay.open(credential);
}

try {
  await start();
} catch (error) {
  console.error(error);
  document.body.dataset.state = 'refused';
  const isBundle = /bundles/.test(`${error.message}`);
  $('problem').textContent = isBundle
    ? `The editor is not there: \`cargo xtask build\` makes it. (${error.message})`
    : `This page could not start: ${error.message}`;
}
