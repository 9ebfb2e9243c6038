/**
 * The start page: this document serves, an iframe with the page `guest.html` connects, and the network between them can be cut.
 * The lines of the server are the visitor's to edit.
 */
import { showSamples } from './samples.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const proof = $('proof');

const LINES = `const server = await ForwardingServerWebSocket
  .newThrough('RELAY')

server.listen(1337, socket => {
  socket.onmessage = ({ data }) => {
    socket.send(\`you said \${data}\`)
  }
})`;

/** The package as the edited lines get it: with the server that is there already, so that its ID stays. */
class Lines {
  #server;
  #library;
  #listeners = [];

  constructor(library, server) {
    this.#library = library;
    this.#server = server;
  }

  /** Runs the lines as a module; throws what they throw. */
  async run(text) {
    const names = Object.keys(this.#library).filter(name => name !== 'default');
    const source = `export default async ({ ${names.join(', ')} }) => {\n${text}\n}`;
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    try {
      const { default: lines } = await import(url);
      for (const listener of this.#listeners.splice(0)) listener.close();
      const listen = (...given) => {
        const listener = this.#server.listen(...given);
        this.#listeners.push(listener);
        return listener;
      };
      const newThrough = async () => ({ listen, serverId: this.#server.serverId, url: this.#server.url });
      await lines({ ...this.#library, ForwardingServerWebSocket: { newThrough } });
      // The old lines serve whoever is connected: it comes again, to the new ones.
      for (const client of [...this.#server.clients]) client.close(4000, 'the lines of the server have changed');
    } finally {
      URL.revokeObjectURL(url);
    }
  }
}

async function start() {
  showSamples(document.querySelector('.tabs'), $('samples'), relayUrl);
  $('code').value = LINES.replace('RELAY', relayUrl);
  try {
    const library = await import('../pkg/tunnel_wasm.js');
    await library.default();
    const server = await library.ForwardingServerWebSocket.newThrough(relayUrl);
    $('server-id').textContent = server.serverId;
    $('server-id').title = server.serverId;
    const lines = new Lines(library, server);
    await lines.run($('code').value);
    watchCode(lines);
    $('guest').src = `home/guest.html#${server.url}/1337`;
  } catch (error) {
    console.error(error);
    fail(`It does not run here now: ${error.message}`);
  }
}

function fail(text) {
  proof.dataset.state = 'failed';
  $('story').textContent = text;
}

function watchCode(lines) {
  let timer;
  $('code').addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      try {
        await lines.run($('code').value);
        $('code-error').textContent = '';
      } catch (error) {
        $('code-error').textContent = `${error.name}: ${error.message}`;
      }
    }, 400);
  });
}

/** The time at which the network was cut, and what the second page had counted by then. */
let cut = null;
/** The second page's last report. */
let report = null;

$('cut').addEventListener('click', () => {
  const isCut = proof.dataset.state !== 'cut';
  $('guest').contentWindow.postMessage({ cut: isCut }, location.origin);
  $('cut').setAttribute('aria-checked', `${isCut}`);
  $('cut').textContent = isCut ? 'Mend it' : 'Cut the network';
  if (isCut) {
    cut = { at: performance.now(), sent: report.sent, isMended: false };
    proof.dataset.state = 'cut';
    $('story').textContent = 'The second page goes on writing.';
  } else {
    cut.isMended = true;
    cut.queued = report.sent - cut.sent;
    cut.mark = report.sent;
    $('story').textContent = 'Dialling again…';
  }
});

addEventListener('message', ({ data, source }) => {
  if (source !== $('guest').contentWindow) return;
  if (data.problem) return fail(data.problem);
  report = data;
  show(data);
  if (proof.dataset.state === 'starting') {
    proof.dataset.state = 'open';
    $('cut').disabled = false;
    $('story').textContent = 'Everything between the two goes through the relay.';
  }
  if (proof.dataset.state === 'cut' && !cut.isMended) {
    $('story').textContent = `${data.sent - cut.sent} messages wait`;
  } else if (cut?.isMended && data.answered >= cut.mark) {
    const seconds = ((performance.now() - cut.at) / 1000).toFixed(1);
    proof.dataset.state = 'mended';
    $('story').textContent = `Back after ${seconds} s: ${cut.queued} messages, ${data.lost === 0 ? 'none lost' : `${data.lost} lost`}.`;
    cut = null;
  }
});

function show({ roundTrip, sent, answered, reconnects, encrypted }) {
  const facts = {
    roundTrip: roundTrip === null ? '–' : `${roundTrip.toFixed(1)} ms`,
    messages: `${answered}`,
    waiting: `${sent - answered}`,
    reconnects: `${reconnects} ×`,
    encrypted: encrypted ? 'tab to tab' : 'no',
  };
  for (const [name, text] of Object.entries(facts)) {
    const place = document.querySelector(`[data-fact="${name}"]`);
    if (place.textContent !== text) place.textContent = text;
  }
}

start();
