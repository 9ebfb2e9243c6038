/**
 * A site of files: `siteOf(files)` returns a handler for `serve`. Files are read when they are asked for, and in parts, so that a
 * video of any size is one.
 */

const TYPES = {
  html: 'text/html', htm: 'text/html', css: 'text/css', js: 'text/javascript', mjs: 'text/javascript', json: 'application/json',
  txt: 'text/plain', md: 'text/plain', svg: 'image/svg+xml', png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif',
  webp: 'image/webp', avif: 'image/avif', ico: 'image/x-icon', wasm: 'application/wasm', pdf: 'application/pdf', mp4: 'video/mp4',
  webm: 'video/webm', mp3: 'audio/mpeg', ogg: 'audio/ogg', wav: 'audio/wav', woff2: 'font/woff2', xml: 'text/xml',
};

function typeOf(path, file) {
  const type = TYPES[path.slice(path.lastIndexOf('.') + 1).toLowerCase()] ?? (file.type || 'application/octet-stream');
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}

const escaped = text => text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);

/** A page of its own: the site's handler has nothing else to show. */
function page(title, body, status = 200) {
  const html = `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title>
<style>body { font: 17px/1.6 system-ui, sans-serif; max-width: 720px; margin: 40px auto; padding: 0 20px; color-scheme: light dark }</style>
<h1>${escaped(title)}</h1>${body}`;
  return new Response(html, { status, headers: { 'content-type': 'text/html; charset=utf-8' } });
}

/** Names in a folder: files, and folders with a slash behind them. */
function list(files, folder) {
  const names = new Set();
  for (const path of files.keys()) {
    if (path.startsWith(folder)) names.add(path.slice(folder.length).replace(/\/.*/, '/'));
  }
  return [...names].sort();
}

/** One range of bytes (RFC 9110, 14.2): `[first, end]`, or undefined for the whole. */
function rangeOf(header, size) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const [first, last] = match.slice(1).map(text => (text === '' ? undefined : Number(text)));
  if (first === undefined) return [Math.max(0, size - last), size];
  return [first, Math.min(size, (last ?? size - 1) + 1)];
}

function send(path, file, request) {
  const etag = `"${file.size}-${file.lastModified}"`;
  const headers = { 'content-type': typeOf(path, file), 'accept-ranges': 'bytes', 'cache-control': 'no-cache', etag };
  const range = rangeOf(request.headers.get('range'), file.size);
  if (!range) return new Response(file, { headers: { ...headers, 'content-length': `${file.size}` } });
  const [first, end] = range;
  if (first >= end) return new Response(null, { status: 416, headers: { 'content-range': `bytes */${file.size}` } });
  headers['content-range'] = `bytes ${first}-${end - 1}/${file.size}`;
  headers['content-length'] = `${end - first}`;
  return new Response(file.slice(first, end), { status: 206, headers });
}

/** `files` maps paths without a slash before them to `File`s. */
export function siteOf(files) {
  return request => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Response('This site has files only.\n', { status: 405, headers: { allow: 'GET, HEAD' } });
    }
    let path;
    try {
      path = decodeURIComponent(new URL(request.url).pathname).slice(1);
    } catch {
      return page('400', '<p>This address is not valid.</p>', 400);
    }
    const file = files.get(path);
    if (file) return send(path, file, request);
    const folder = path === '' || path.endsWith('/') ? path : `${path}/`;
    const names = list(files, folder);
    if (!names.length) return page('404', '<p>There is no such file in this site.</p>', 404);
    // A relative link in the folder's page needs the slash.
    if (folder !== path) return new Response(null, { status: 301, headers: { location: `${encodeURIComponent(path.split('/').at(-1))}/` } });
    const index = files.get(`${folder}index.html`);
    if (index) return send('index.html', index, request);
    const links = names.map(name => `<li><a href="${encodeURIComponent(name).replace('%2F', '/')}">${escaped(name)}</a></li>`);
    return page(folder || 'Files', `<ul>${links.join('')}</ul>`);
  };
}

/** Reads files of an input: their paths in the folder that was chosen. */
export function filesOf(input) {
  return new Map([...input.files].map(file => [(file.webkitRelativePath || file.name).replace(/^[^/]*\/(?=.)/, ''), file]));
}

/** Reads what was dropped: one folder is the site, several things are files of it. */
export async function filesOfDrop(dataTransfer) {
  const entries = [...dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean);
  const files = new Map();
  const read = async (entry, path) => {
    if (entry.isFile) return void files.set(path, await new Promise((resolve, reject) => entry.file(resolve, reject)));
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const child of some) await read(child, path ? `${path}/${child.name}` : child.name);
    }
  };
  const [only] = entries;
  if (entries.length === 1 && only.isDirectory) await read(only, '');
  else for (const entry of entries) await read(entry, entry.name);
  return files;
}
