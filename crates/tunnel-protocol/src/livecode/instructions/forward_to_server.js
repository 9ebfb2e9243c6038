function forwardToServer(serverId, data) {
  const tunnel = global['tunnel.v1'];
  const channel = tunnel.clients.get(this);
  if (!channel || channel.server.id !== tunnel.text(serverId)) return tunnel.answer(this, 0);
  tunnel.note(channel, data);
  return tunnel.answer(this, tunnel.forward(channel.server.socket, channel.id, data));
}
