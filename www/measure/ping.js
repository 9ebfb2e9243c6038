/**
 * A native WebSocket to the relay that sends PING and waits for PONG (docs/PROTOCOL.md, 1.2 and 1.3): the only messages that a
 * relay answers by itself.
 */
const HELLO = Uint8Array.of(0x81, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0);
const PONG = 0x0d;
const WELCOME = 0x82;

/** A PING of 13 bytes. */
const PING = Uint8Array.of(0x0c, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8);

export async function pingSocket(relayUrl) {
  const socket = new WebSocket(relayUrl, 'tunnel.v1');
  socket.binaryType = 'arraybuffer';
  const frame = type => new Promise((resolve, reject) => {
    socket.addEventListener('close', ({ code }) => reject(new Error(`the relay closed a WebSocket with ${code}`)), { once: true });
    socket.addEventListener('message', function listen({ data }) {
      if (new Uint8Array(data)[0] !== type) return;
      socket.removeEventListener('message', listen);
      resolve();
    });
  });
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error('the relay does not answer'));
  });
  const welcome = frame(WELCOME);
  socket.send(HELLO);
  await welcome;
  return {
    echo: () => {
      const pong = frame(PONG);
      socket.send(PING);
      return pong;
    },
    close: () => socket.close(),
  };
}
