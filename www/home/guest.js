/** The second document of the start page: connects to the first, and tells it by `postMessage` how it goes. */
import { setCut } from './cut.js';

// Loaded after `cut.js`, whose class the library takes.
const { default: init, PeerToPeerWebSocket } = await import('../pkg/tunnel_wasm.js');

const $ = id => document.getElementById(id);
const url = location.hash.slice(1);

/** The time between the texts that it writes by itself, in milliseconds. */
const EVERY = 300;
/** The number of lines that are shown. */
const SHOWN = 40;

let socket;
let count = 0;
/** Messages that no answer has come to, with their lines, in order. */
const waiting = [];
let sent = 0;
let answered = 0;
/** Answers that were to another message than the next one. */
let lost = 0;

function connect() {
  socket = new PeerToPeerWebSocket(url);
  socket.onopen = () => {
    document.body.dataset.state = 'open';
    // Lines that were edited do not answer what the lines before them were told.
    sent -= waiting.splice(0).length;
  };
  socket.onmessage = ({ data }) => answer(`${data}`);
  socket.addEventListener('reconnecting', () => (document.body.dataset.state = 'reconnecting'));
  socket.addEventListener('reconnected', () => (document.body.dataset.state = 'open'));
  socket.onclose = ({ code, reason }) => {
    document.body.dataset.state = 'closed';
    // The server's lines were edited, or have an error just now.
    if (code === 4000 || reason.startsWith('port-closed')) setTimeout(connect, 200);
    else tell({ problem: `The socket ended: ${reason || code}` });
  };
}

function say(text) {
  if (socket.readyState !== 1) return;
  const line = document.createElement('li');
  line.className = 'waits';
  for (const content of [text, '…']) line.append(Object.assign(document.createElement('span'), { textContent: content }));
  const log = $('log');
  log.append(line);
  while (log.childElementCount > SHOWN) log.firstElementChild.remove();
  log.scrollTop = log.scrollHeight;
  waiting.push(line);
  sent++;
  socket.send(text);
}

function answer(text) {
  const line = waiting.shift();
  if (!line) return;
  answered++;
  const [own, echoed] = [line.textContent, text].map(words => words.match(/#\d+/)?.[0]);
  if (own && echoed && own !== echoed) lost++;
  line.className = '';
  line.lastElementChild.textContent = text;
}

function tell(message) {
  parent.postMessage(message, location.origin);
}

document.querySelector('form').addEventListener('submit', event => {
  event.preventDefault();
  if ($('say').value) say($('say').value);
  $('say').value = '';
});

addEventListener('message', ({ data, source }) => {
  if (source === parent && typeof data?.cut === 'boolean') setCut(data.cut);
});

await init();
connect();
setInterval(() => {
  say(`#${++count}`);
  const { roundTripTime, reconnects } = socket.getStats();
  tell({ sent, answered, lost, roundTrip: roundTripTime, reconnects, encrypted: socket.encrypted });
}, EVERY);
