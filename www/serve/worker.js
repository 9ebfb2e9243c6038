/**
 * Fetches sites through tunnels: `/serve/site/SERVER_ID/path` is the path at port 80 of that server. A page of a site is
 * controlled by this worker, so that what it loads from the root of its site (`/style.css`) comes from there, too.
 */
import init from '../pkg/tunnel_wasm.js';
import { fetchThrough } from '../pkg/serve.js';

const relayUrl = new URL(location.href).searchParams.get('relay');
const SITES = new URL('site/', location.href).href;

/** The time for which a request waits for a tab that is being reloaded, and the time between two attempts, in milliseconds. */
const PATIENCE = 5000;
const AGAIN_AFTER = 300;
/** Errors that a reloaded tab brings about. */
const AWAY = ['server-not-found', 'peer-reloaded', 'going-away', 'peer-gone', 'port-closed', 'closed', 'abnormal', 'timeout'];

addEventListener('install', () => skipWaiting());
addEventListener('activate', event => event.waitUntil(clients.claim()));

let initialised;

/** Server ID and path of an address below `site/`. */
function split(url) {
  if (!url.startsWith(SITES)) return undefined;
  const [, serverId, path] = /^([a-z2-7]{56})(\/.*)$/.exec(url.slice(SITES.length)) ?? [];
  return serverId && { serverId, path };
}

/** Returns the site's ID, or undefined. The address itself says it, or that of the page that loads it. */
async function siteOf({ request, clientId }) {
  const own = split(request.url);
  if (own) return own;
  const { origin, pathname, search } = new URL(request.url);
  const client = origin === location.origin && request.mode !== 'navigate' && (await clients.get(clientId));
  const page = client && split(client.url);
  return page && { serverId: page.serverId, path: pathname + search };
}

async function answer(event) {
  const { request } = event;
  const site = await siteOf(event);
  if (!site) return fetch(request);
  const { method, headers, signal } = request;
  try {
    initialised ??= init().catch(error => {
      initialised = undefined;
      throw error;
    });
    await initialised;
    const body = method === 'GET' || method === 'HEAD' ? undefined : await request.arrayBuffer();
    const url = `${relayUrl}/${site.serverId}/80${site.path}`;
    const redirect = request.redirect === 'follow' ? 'follow' : 'manual';
    const asked = { method, headers, body, signal, redirect };
    const response = await ask(url, asked);
    return redirected(response, site) ?? goingOn(response, url, asked);
  } catch (error) {
    if (signal.aborted) return Response.error();
    return away(error);
  }
}

/** Asks the tab that serves; if that is only being reloaded, again. */
async function ask(url, asked) {
  for (const end = Date.now() + PATIENCE; ; ) {
    try {
      return await fetchThrough(url, asked);
    } catch (error) {
      if (asked.body || asked.signal.aborted || !AWAY.includes(error.code) || Date.now() > end) throw error;
      await new Promise(resolve => setTimeout(resolve, AGAIN_AFTER));
    }
  }
}

/** The same response, whose body goes on behind its last byte when the tab is reloaded meanwhile: by a range of the same file. */
function goingOn(response, url, asked) {
  const tag = response.headers.get('etag');
  const [, first = 0, last = ''] = /^bytes (\d+)-(\d+)/.exec(response.headers.get('content-range')) ?? [];
  if (!response.body || !tag) return response;
  let reader = response.body.getReader();
  let next = Number(first);
  const end = next + Number(response.headers.get('content-length'));
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = await reader.read().catch(async error => {
        if (next === end) return { done: true };
        const headers = new Headers(asked.headers);
        headers.set('range', `bytes=${next}-${last}`);
        const rest = await ask(url, { ...asked, headers });
        if (rest.status !== 206 || rest.headers.get('etag') !== tag) throw error;
        reader = rest.body.getReader();
        return reader.read();
      });
      if (done) return controller.close();
      next += value.length;
      return controller.enqueue(value);
    },
    cancel: reason => reader.cancel(reason),
  });
  return new Response(body, response);
}

/** A redirection within the site, for the browser to follow: undefined for any other response. */
function redirected({ status, headers }, { serverId, path }) {
  const location = headers.get('location');
  if (![301, 302, 303, 307, 308].includes(status) || location === null) return undefined;
  const root = 'https://site.invalid';
  const to = new URL(location, root + path);
  return to.origin === root ? Response.redirect(SITES + serverId + to.pathname + to.search, status) : Response.redirect(to, status);
}

/** The tab that serves is not there: a page that says so, and tries again. */
function away({ code, message }) {
  const text = code === 'server-not-found' || code === 'peer-reloaded' ? 'The tab that serves this site is closed.' : message;
  const escaped = text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
  const html = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">
<title>Not there</title><style>body { font: 17px/1.6 system-ui, sans-serif; max-width: 640px; margin: 60px auto; padding: 0 20px; color-scheme: light dark }</style>
<h1>The site is not there now</h1><p>${escaped}</p><p>This page tries again every five seconds.</p>`;
  return new Response(html, { status: 502, headers: { 'content-type': 'text/html; charset=utf-8' } });
}

addEventListener('fetch', event => {
  // Requests of no site at all are the browser's affair.
  if (split(event.request.url) || event.request.url.startsWith(location.origin)) event.respondWith(answer(event));
});
