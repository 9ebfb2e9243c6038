// The other contestant of `cargo xtask bench native`: TCP connections over plain WebSockets, one WebSocket for each.
//
// usage: node tcp-forwarder.mjs exit HOST:PORT    takes WebSockets, and connects to a TCP port for each
//        node tcp-forwarder.mjs entry URL         takes TCP connections, and opens a WebSocket for each

import { connect, createServer } from 'node:net';
import WebSocket, { createWebSocketStream, WebSocketServer } from 'ws';

const [, , role, to] = process.argv;
const plain = { perMessageDeflate: false };

function join(one, other) {
  one.pipe(other).pipe(one);
  for (const [stream, peer] of [[one, other], [other, one]]) {
    stream.on('error', () => {});
    stream.on('close', () => peer.destroy());
  }
}

if (role === 'exit') {
  const [host, port] = to.split(':');
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...plain });
  server.on('connection', socket => join(createWebSocketStream(socket), connect({ host, port, noDelay: true })));
  server.on('listening', () => console.log(`ws://127.0.0.1:${server.address().port}`));
} else {
  const server = createServer({ noDelay: true }, stream => join(stream, createWebSocketStream(new WebSocket(to, plain))));
  server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
}
