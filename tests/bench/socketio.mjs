// What `cargo xtask bench relay` compares the relay with: the two of a room forwarded to each other by Socket.IO.
//
// usage: node socketio.mjs

import { createServer } from 'node:http';
import { Server } from 'socket.io';

const server = createServer();
// Nobody of the benchmark answers its pings.
const io = new Server(server, { transports: ['websocket'], pingInterval: 600_000 });

io.on('connection', (socket) => {
  socket.on('join', (room) => {
    socket.join(`${room}`);
    socket.on('m', (data) => socket.to(`${room}`).emit('m', data));
    socket.emit('joined');
  });
});

server.on('connection', (connection) => connection.setNoDelay(true));
server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
