function connectToServer(serverId, port) {
  const tunnel = global['tunnel.v1'];
  const server = tunnel.servers.get(tunnel.text(serverId));
  const number = tunnel.text(port);
  if (!server || !/^(0|[1-9][0-9]{0,4})$/.test(number) || number > 65535 || this.readyState !== 1) {
    return tunnel.answer(this, 0);
  }
  const address = String((this._socket && this._socket.remoteAddress) || 'unknown');
  const channel = { id: String(++tunnel.lastChannel), socket: this, server, session: false };
  const notification = [channel.id, number, address].join(tunnel.delimiter);
  if (!tunnel.send(server.socket, 'connected:atPort:for: ' + notification)) return tunnel.answer(this, 0);
  const earlier = tunnel.clients.get(this);
  if (earlier) tunnel.leave(earlier, earlier.server.socket, earlier.id);
  tunnel.channels.set(channel.id, channel);
  server.channels.add(channel);
  tunnel.clients.set(this, channel);
  tunnel.seatsOf(this);
  return tunnel.answer(this, 1);
}
