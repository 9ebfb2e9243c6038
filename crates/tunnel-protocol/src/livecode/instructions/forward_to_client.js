function forwardToClient(channelId, data) {
  const tunnel = global['tunnel.v1'];
  const channel = tunnel.channels.get(tunnel.text(channelId));
  if (!channel || channel.server.socket !== this) return tunnel.answer(this, 0);
  tunnel.note(channel, data);
  return tunnel.answer(this, tunnel.forward(channel.socket, channel.server.id, data));
}
