/** The page that serves: takes files, hosts a server, and shows who asks for what. A tab that is reloaded serves on. */
import { copy } from '../room/copy.js';
import { formatBytes, randomId, remember, remembered } from '../room/format.js';
import { Store } from '../room/store.js';
import { filesOf, filesOfDrop, siteOf } from './site.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const site = $('site');

/** The number of requests that the log shows. */
const SHOWN = 100;

let server;
let store;

/** An address that opens the site, in a page that has a service worker for it. */
function linkTo(serverId) {
  const link = new URL('visit.html', location.href);
  if (parameters.has('relay')) link.searchParams.set('relay', relayUrl);
  link.hash = serverId;
  return link.href;
}

/** Serves again what this tab served before it was reloaded. */
async function goOn(name) {
  site.dataset.state = 'starting';
  store = new Store(`site: ${name}`);
  const files = await store.get('files');
  if (files) return host(files, name, true);
  site.dataset.state = 'empty';
  $('problem').textContent = 'This tab was reloaded, and its files had not been kept. Choose them again: the link stays the same.';
}

/** Serves files. Each site has an ID of its own, by its name: an old link never shows what somebody else is given. */
async function host(files, name = remembered('site') ?? randomId(), isKept = false) {
  if (!files.size) return;
  site.dataset.state = 'starting';
  $('problem').textContent = '';
  try {
    const [{ default: init, ForwardingServerWebSocket }, { serve }] = await Promise.all([
      import('../pkg/tunnel_wasm.js'),
      import('../pkg/serve.js'),
    ]);
    await init();
    server = await ForwardingServerWebSocket.newThrough(relayUrl, { identity: name }).catch(error => {
      if (error.code !== 'no-identity') throw error;
      return ForwardingServerWebSocket.newThrough(relayUrl);
    });
    const answer = siteOf(files);
    const lines = server.parked ?? [];
    serve(server, 80, request => {
      const response = answer(request);
      log(lines, [response.status, pathOf(request), response.headers.get('content-range') ?? '']);
      return response;
    });
    show(lines);
    if (server.identity) {
      server.parked = lines;
      remember('site', name);
    }
    keep(files, name, isKept);
    server.addEventListener('reconnecting', () => (site.dataset.state = 'reconnecting'));
    server.addEventListener('reconnected', () => (site.dataset.state = 'open'));
    server.addEventListener('close', () => (site.dataset.state = 'closed'));
    $('link').href = $('link').textContent = linkTo(server.serverId);
    const bytes = [...files.values()].reduce((sum, file) => sum + file.size, 0);
    $('summary').textContent = `${files.size} ${files.size === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}`;
    site.dataset.state = 'open';
  } catch (error) {
    console.error(error);
    site.dataset.state = 'failed';
    $('problem').textContent = `The site could not be opened: ${error.message}`;
    if (error.code !== 'identity-in-use') return;
    remember('site', undefined);
    store = undefined;
    $('problem').textContent = 'This is a copy of a tab, which serves its files already. Choose some to serve others from here.';
  }
}

/** Keeps the files for when this tab is reloaded. The browser copies them, which takes a while if they are large. */
async function keep(files, name, isKept) {
  $('kept').textContent = 'Do not reload it yet: the files are being copied into this browser.';
  store ??= new Store(server.identity && `site: ${name}`);
  $('kept').textContent = isKept || (await store.put('files', [], files))
    ? 'You may reload it: the files stay in this browser until you stop, or for days if you close the tab.'
    : 'Do not reload it: the files cannot be copied into this browser.';
}

/** The path as a person reads it; not all that is asked for can be decoded. */
function pathOf({ url }) {
  const { pathname } = new URL(url);
  try {
    return decodeURI(pathname);
  } catch {
    return pathname;
  }
}

function log(lines, line) {
  lines.unshift(line);
  lines.splice(SHOWN);
  show(lines);
}

function show(lines) {
  const items = lines.map(line => {
    const item = document.createElement('li');
    item.append(...line.map(text => Object.assign(document.createElement('span'), { textContent: text })));
    item.classList.toggle('bad', line[0] >= 400);
    return item;
  });
  $('log').replaceChildren(...items);
}

for (const id of ['folder', 'files']) {
  $(id).addEventListener('change', ({ target }) => {
    host(filesOf(target));
    // The same may be chosen again.
    target.value = '';
  });
}
site.addEventListener('dragover', event => {
  event.preventDefault();
  site.classList.add('over');
});
site.addEventListener('dragleave', () => site.classList.remove('over'));
site.addEventListener('drop', async event => {
  event.preventDefault();
  site.classList.remove('over');
  host(await filesOfDrop(event.dataTransfer));
});
$('copy').addEventListener('click', async () => {
  if (!(await copy($('link').href))) return getSelection().selectAllChildren($('link'));
  $('copy').textContent = 'Copied';
  setTimeout(() => ($('copy').textContent = 'Copy'), 1500);
});
$('stop').addEventListener('click', async () => {
  remember('site', undefined);
  store.clear();
  store = undefined;
  await server.close();
  $('log').replaceChildren();
  site.dataset.state = 'empty';
});
if (remembered('site')) goOn(remembered('site'));
