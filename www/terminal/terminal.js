/** A terminal for a stream of bytes, such as `tunnel listen` gives it: what is typed goes there, what comes is shown. */
import { Terminal } from '../pkg/bundles/terminal.js';
import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');

/** The subprotocol of streams: an empty message ends its direction. */
const STREAM = 'tunnel.stream.v1';
/** The name under which this browser keeps its key, by which the other machine knows it. */
const IDENTITY = 'terminal';

const encoder = new TextEncoder();
/** A pty that nobody has told a size has that of the first terminals. */
const terminal = new Terminal({
  cols: 80,
  rows: 24,
  fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace',
  fontSize: 14,
  minimumContrastRatio: 4.5,
  theme: { background: '#14171a', foreground: '#e9ebee', cursor: '#5fd0c3' },
});
let socket;

function say(state, text) {
  document.body.dataset.state = state;
  $('message').textContent = text;
}

/** The ID of this browser's key is that of a server under it. */
async function ownId() {
  const server = await ForwardingServerWebSocket.newThrough(relayUrl, { identity: IDENTITY });
  const { serverId } = server;
  server.close();
  await server.closed;
  return serverId;
}

/** Shows what comes, no faster than it is drawn: a long output waits at the other machine. */
async function show(from) {
  for await (const data of from) {
    const bytes = typeof data === 'string' ? encoder.encode(data) : new Uint8Array(data);
    // The other side has ended; when this one has, too, the socket closes.
    if (!bytes.length) return from.send(bytes);
    await new Promise(done => terminal.write(bytes, done));
  }
}

function connect(target) {
  const [, id, port] = /^([a-z2-7]{56})\/(\d{1,5})$/.exec(target) ?? [];
  if (!id) return say('failed', 'Expected what tunnel listen prints: 56 characters, a slash and a port.');
  socket?.close();
  terminal.reset();
  say('connecting', 'Connecting…');
  let opened;
  try {
    opened = PeerToPeerWebSocket.toPort(Number(port), id, relayUrl, { identity: IDENTITY, protocols: [STREAM] });
  } catch (error) {
    return say('failed', error.message);
  }
  socket = opened;
  opened.binaryType = 'arraybuffer';
  opened.onopen = () => {
    location.hash = target;
    say('open', 'Connected, and encrypted as far as that machine.');
    terminal.focus();
  };
  opened.addEventListener('reconnecting', () => say('away', 'The connection is lost: seeking it. What you type waits.'));
  opened.addEventListener('reconnected', () => say('open', 'Connected again. Nothing is lost.'));
  opened.onclose = ({ code, reason }) => {
    if (socket !== opened) return;
    say('closed', code === 1000 ? 'The shell has ended.' : `The connection has ended: ${reason || code}`);
  };
  // `onclose` says why it ended.
  return show(opened).catch(() => {});
}

function send(bytes) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(bytes);
}

terminal.open($('screen'));
terminal.onData(text => send(encoder.encode(text)));
// Reports of the mouse, whose characters are bytes.
terminal.onBinary(text => send(Uint8Array.from(text, character => character.charCodeAt(0))));
$('form').addEventListener('submit', event => {
  event.preventDefault();
  connect($('target').value.trim());
});
try {
  await init();
  $('listen').textContent = `TUNNEL_RELAY=${relayUrl} tunnel listen 23 --to 127.0.0.1:2323 --identity shell --allow ${await ownId()}`;
  $('connect').disabled = false;
  say('ready', '');
  const target = location.hash.slice(1);
  if (target) {
    $('target').value = target;
    connect(target);
  }
} catch (error) {
  const elsewhere = error.code === 'identity-in-use';
  say('failed', elsewhere ? 'Another tab of this browser is the terminal.' : `This cannot begin: ${error.message}`);
}
