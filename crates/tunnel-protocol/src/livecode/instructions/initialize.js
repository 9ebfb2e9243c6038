function initialize(delimiter) {
  const tunnel = global['tunnel.v1'] || (global['tunnel.v1'] = {
    delimiter: typeof delimiter === 'string' && delimiter !== '' ? delimiter : ' ',
    servers: new Map(),
    absent: new Set(),
    channels: new Map(),
    clients: new WeakMap(),
    seats: new WeakMap(),
    lastServer: 0,
    lastChannel: 0,
  });

  tunnel.text = (value) => value !== null && typeof value === 'object' ? '[object Object]' : String(value);

  tunnel.send = (socket, text) => {
    if (!socket || socket.readyState !== 1 || socket.bufferedAmount > 16777216) return 0;
    try {
      socket.send(text, () => {});
      return 1;
    } catch (error) {
      return 0;
    }
  };

  tunnel.answer = (socket, value) => {
    tunnel.send(socket, String(value));
    return value;
  };

  tunnel.forward = (socket, from, data) =>
    tunnel.send(socket, 'from:data: ' + from + tunnel.delimiter + tunnel.text(data));

  tunnel.note = (channel, data) => {
    if (typeof data === 'string' && data.startsWith('tunnel.v1:')) channel.session = true;
  };

  tunnel.leave = (channel, socket, from) => {
    if (!tunnel.channels.delete(channel.id)) return;
    channel.server.channels.delete(channel);
    if (tunnel.clients.get(channel.socket) === channel) tunnel.clients.delete(channel.socket);
    if (channel.session) tunnel.forward(socket, from, 'tunnel.v1:BQ5/');
  };

  tunnel.vacate = (server) => {
    server.socket = null;
    for (const channel of Array.from(server.channels)) tunnel.leave(channel, channel.socket, server.id);
    tunnel.absent.add(server.id);
    for (const id of tunnel.absent) {
      if (tunnel.absent.size <= 4096) break;
      tunnel.absent.delete(id);
      tunnel.servers.delete(id);
    }
  };

  tunnel.seatsOf = (socket) => {
    let seats = tunnel.seats.get(socket);
    if (!seats) {
      tunnel.seats.set(socket, (seats = new Set()));
      socket.once('close', () => {
        const channel = tunnel.clients.get(socket);
        if (channel) tunnel.leave(channel, channel.server.socket, channel.id);
        for (const server of seats) if (server.socket === socket) tunnel.vacate(server);
      });
    }
    return seats;
  };

  const sockets = Object.getPrototypeOf(this);
  if (!sockets.emit.survives) {
    const emit = sockets.emit;
    sockets.emit = function (event) {
      if (event === 'error' && this.listenerCount('error') === 0) return false;
      try {
        return emit.apply(this, arguments);
      } catch (error) {
        if (event !== 'message') throw error;
        console.error('a message could not be handled: ' + (error && error.message));
        return true;
      }
    };
    sockets.emit.survives = true;
  }

  return 'initialized';
}
