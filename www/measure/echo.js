/** The page that sends everything back: port 7 does, and port 9 counts bytes and says how many when asked. */
import init, { ForwardingServerWebSocket } from '../pkg/tunnel_wasm.js';

const relayUrl = decodeURIComponent(location.hash.slice(1));
try {
  await init();
  const server = await ForwardingServerWebSocket.newThrough(relayUrl);
  server.listen(7, socket => {
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => socket.send(data);
  });
  server.listen(9, socket => {
    let count = 0;
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => {
      if (typeof data === 'string') socket.send(`${count}`);
      else count += data.byteLength;
    };
  });
  parent.postMessage({ url: server.url }, location.origin);
} catch (error) {
  parent.postMessage({ problem: error.message }, location.origin);
}
