// The other contestant of `cargo xtask bench`: a plain WebSocket forwarder. It also serves the pages of the
// benchmark, and prints what they report, one line each.
//
// usage: node forwarder.mjs [FOLDER OF ANOTHER BUILD OF THE PACKAGE]

import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const here = fileURLToPath(new URL('.', import.meta.url));
const folders = { bench: here, pkg: join(here, '../../pkg'), against: process.argv[2] ?? here };
const types = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

// Isolated pages have a clock that is exact to 5 µs; others have one of 100 µs.
const headers = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

const server = createServer(async (request, response) => {
  if (request.method === 'POST') {
    let body = '';
    for await (const part of request) body += part;
    console.log(body);
    return response.writeHead(204).end();
  }
  const [, folder, ...rest] = normalize(new URL(request.url, 'http://localhost').pathname).split('/');
  const file = createReadStream(join(folders[folder] ?? here, ...rest));
  file.on('open', () => response.writeHead(200, { ...headers, 'Content-Type': types[extname(file.path)] ?? 'text/plain' }));
  file.on('error', () => response.writeHead(404).end());
  file.pipe(response);
});

/** Sockets that wait for a partner: those that came to `/server`, and those that came to `/client`. */
const waiting = { '/server': [], '/client': [] };

function forward(from, to) {
  from.on('message', (data, isBinary) => to.send(data, { binary: isBinary }));
  from.on('close', () => to.close());
  from.resume();
}

new WebSocketServer({ server }).on('connection', (socket, { url }) => {
  const [same, other] = url === '/server' ? ['/server', '/client'] : ['/client', '/server'];
  socket._socket.setNoDelay(true);
  socket.on('error', () => {});
  const partner = waiting[other].shift();
  if (partner) {
    forward(socket, partner);
    forward(partner, socket);
    return;
  }
  // Messages of a client stay meanwhile in the operating system's buffers; a server waits to be spoken to.
  if (same === '/client') socket.pause();
  waiting[same].push(socket);
  socket.on('close', () => {
    waiting[same] = waiting[same].filter((other) => other !== socket);
  });
});

server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
