function installServer(serverId, credential) {
  const tunnel = global['tunnel.v1'];
  const server = tunnel.servers.get(tunnel.text(serverId));
  if (!server || server.credential !== credential || this.readyState !== 1) return tunnel.answer(this, 0);
  if (server.socket !== this) {
    const seats = tunnel.seatsOf(this);
    if (seats.size >= 256 && !seats.has(server)) return tunnel.answer(this, 0);
    tunnel.vacate(server);
    tunnel.absent.delete(server.id);
    server.socket = this;
    seats.add(server);
  }
  return tunnel.answer(this, 1);
}
