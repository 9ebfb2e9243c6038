/** The page that serves: takes files, hosts a server, and shows who asks for what. */
import { filesOf, filesOfDrop, siteOf } from './site.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const site = $('site');

/** The number of requests that the log shows. */
const SHOWN = 100;

let server;

/** An address that opens the site, in a page that has a service worker for it. */
function linkTo(serverId) {
  const link = new URL('visit.html', location.href);
  if (parameters.has('relay')) link.searchParams.set('relay', relayUrl);
  link.hash = serverId;
  return link.href;
}

async function host(files) {
  if (!files.size) return;
  site.dataset.state = 'starting';
  $('problem').textContent = '';
  try {
    const [{ default: init, ForwardingServerWebSocket }, { serve }] = await Promise.all([
      import('../pkg/tunnel_wasm.js'),
      import('../pkg/serve.js'),
    ]);
    await init();
    server = await ForwardingServerWebSocket.newThrough(relayUrl);
    const answer = siteOf(files);
    serve(server, 80, request => {
      const response = answer(request);
      log(request, response);
      return response;
    });
    server.addEventListener('reconnecting', () => (site.dataset.state = 'reconnecting'));
    server.addEventListener('reconnected', () => (site.dataset.state = 'open'));
    server.addEventListener('close', () => (site.dataset.state = 'closed'));
    $('link').href = $('link').textContent = linkTo(server.serverId);
    const bytes = [...files.values()].reduce((sum, file) => sum + file.size, 0);
    $('summary').textContent = `${files.size} ${files.size === 1 ? 'file' : 'files'}, ${(bytes / 1e6).toFixed(1)} MB`;
    site.dataset.state = 'open';
  } catch (error) {
    console.error(error);
    site.dataset.state = 'failed';
    $('problem').textContent = `The site could not be opened: ${error.message}`;
  }
}

function log(request, { status, headers }) {
  const line = document.createElement('li');
  const { pathname } = new URL(request.url);
  for (const text of [status, decodeURI(pathname), headers.get('content-range') ?? '']) {
    line.append(Object.assign(document.createElement('span'), { textContent: text }));
  }
  line.classList.toggle('bad', status >= 400);
  $('log').prepend(line);
  while ($('log').childElementCount > SHOWN) $('log').lastElementChild.remove();
}

for (const id of ['folder', 'files']) $(id).addEventListener('change', ({ target }) => host(filesOf(target)));
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
  await navigator.clipboard.writeText($('link').href);
  $('copy').textContent = 'Copied';
  setTimeout(() => ($('copy').textContent = 'Copy'), 1500);
});
$('stop').addEventListener('click', async () => {
  await server.close();
  $('log').replaceChildren();
  site.dataset.state = 'empty';
});
