function createServerCredential() {
  const tunnel = global['tunnel.v1'];
  const bytes = new Uint8Array(32);
  try {
    if (global.crypto && global.crypto.getRandomValues) {
      global.crypto.getRandomValues(bytes);
    } else {
      const crypto = process.getBuiltinModule
        ? process.getBuiltinModule('crypto')
        : (typeof require === 'function' ? require : global.require || process.mainModule.require)('crypto');
      crypto.randomFillSync(bytes);
    }
  } catch (error) {
    return tunnel.answer(this, 0);
  }
  const credential = Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
  const id = String(++tunnel.lastServer);
  const server = { id, credential, socket: null, channels: new Set() };
  tunnel.servers.set(id, server);
  tunnel.vacate(server);
  tunnel.send(this, id + ' ' + credential);
  return id;
}
