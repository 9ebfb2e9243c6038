/** One side of the story's conversation, with the classes of 2017: no encryption, every word goes through the injected functions. */
import init, { ForwardingClientWebSocket, NodeJSTunnelingClient } from '../pkg/tunnel_wasm.js';
import { $, setText } from '../room/dom.js';

const PORT = 80;
/** Between two attempts, and between two messages, in milliseconds. */
const AGAIN = 1000;
const EVERY = 1000;
const SHOWN = 60;

const relayUrl = new URLSearchParams(location.search).get('relay') ?? location.origin.replace(/^http/, 'ws');
const pause = () => new Promise(resolve => setTimeout(resolve, AGAIN));

function say(state, text) {
  document.body.dataset.state = state;
  setText($('state').querySelector('span'), text);
}

function add(from, text) {
  const item = Object.assign(document.createElement('div'), { textContent: text });
  item.dataset.from = from;
  $('said').append(item);
  if ($('said').children.length > SHOWN) $('said').firstElementChild.remove();
  $('said').scrollTop = $('said').scrollHeight;
}

/** The reason for which it does not work yet, for people. */
const explain = error => (error.code === 'rejected' ? 'The relay does not know the six instructions: inject them.' : error.message);

/** The number that this tab had before it was reloaded, or before its relay restarted; else a new one. */
async function install(client) {
  const kept = JSON.parse(sessionStorage.getItem('live server') ?? 'null');
  if (kept) {
    try {
      await client.installServer(kept.serverId, kept.credential);
      return kept.serverId;
    } catch (error) {
      if (error.code !== 'bad-credential') throw error;
    }
  }
  const { serverId, credential } = await client.createServerCredential();
  await client.installServer(serverId, credential);
  sessionStorage.setItem('live server', JSON.stringify({ serverId, credential }));
  return serverId;
}

async function serve() {
  document.title = 'Tab A';
  for (;;) {
    let client;
    try {
      client = await NodeJSTunnelingClient.connectTo(relayUrl);
      const closed = new Promise(resolve => (client.onclose = resolve));
      client.ondata = ({ from, data }) => {
        add('them', `client ${from}: ${data}`);
        const answer = `you said ${data}`;
        add('us', answer);
        client.forwardToClient(from, answer).catch(error => error.code === 'peer-gone' || add('us', error.message));
      };
      const serverId = await install(client);
      say('open', `Serves as number ${serverId}`);
      parent.postMessage({ serverId }, location.origin);
      await closed;
      say('away', 'The relay is away. Tab A serves again by itself.');
    } catch (error) {
      say('away', explain(error));
      client?.closeConfigurator();
    }
    await pause();
  }
}

async function talk() {
  document.title = 'Tab B';
  $('form').hidden = false;
  let socket;
  let count = 0;
  const send = text => {
    if (socket?.readyState !== 1) return;
    add('us', text);
    socket.send(text);
  };
  $('form').addEventListener('submit', event => {
    event.preventDefault();
    send($('text').value || 'hello');
    $('text').value = '';
  });
  setInterval(() => send(`hello ${++count}`), EVERY);
  // Tab A got another number.
  addEventListener('hashchange', () => socket?.close());
  for (;;) {
    socket = ForwardingClientWebSocket.toPort(PORT, Number(location.hash.slice(1)), relayUrl);
    let problem;
    await new Promise(resolve => {
      socket.onopen = () => say('open', `Connected to server ${location.hash.slice(1)}`);
      socket.onmessage = ({ data }) => add('them', data);
      socket.onerror = ({ error }) => (problem = error);
      socket.onclose = resolve;
    });
    say('away', problem ? explain(problem) : 'The conversation was cut. Tab B goes on by itself.');
    await pause();
  }
}

try {
  await init();
  await (location.hash === '#a' ? serve() : talk());
} catch (error) {
  console.error(error);
  say('away', error.message);
}
