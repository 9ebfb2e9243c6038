/** The network of the game: the host's tab is the server and decides everything; players say where they want to go. */
import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';
import { randomId, remember, remembered } from '../room/format.js';
import { toSvg } from '../room/qr.js';
import { draw, Game, list, MOST_PLAYERS, TICKS_A_SECOND } from './game.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');
const PORT = 30;
/** Bytes that may wait for a player who is slow: beyond, states are left out for them. */
const BEHIND = 16_384;

/** Close codes of this page (4000 to 4999 are the application's). */
const CODES = { noMove: 4400, elsewhere: 4409 };

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function show(state) {
  draw($('board'), state);
  list($('players'), state);
}

/** Calls `steer` with where the arrow keys point. */
function watchKeys(steer) {
  const held = new Set();
  const change = ({ key, type }) => {
    if (!KEYS[key]) return;
    if (type === 'keydown') held.add(key);
    else held.delete(key);
    steer([...held].map(each => KEYS[each]).reduce(([x, y], [dx, dy]) => [x + dx, y + dy], [0, 0]));
  };
  for (const type of ['keydown', 'keyup']) addEventListener(type, change);
}

/** Its ID stays when this tab is reloaded; a second board in this browser gets another one. */
async function hostServer() {
  try {
    return await ForwardingServerWebSocket.newThrough(relayUrl, { identity: 'play' });
  } catch (error) {
    if (error.code !== 'identity-in-use' && error.code !== 'no-identity') throw error;
    return ForwardingServerWebSocket.newThrough(relayUrl);
  }
}

async function host() {
  document.body.dataset.role = 'host';
  const sockets = new Map();
  const server = await hostServer();
  const game = new Game(server.parked);
  if (server.identity) server.parked = game.all; // as it is when this page is left
  server.listen(PORT, socket => {
    const player = game.join(socket.path);
    sockets.get(player.id)?.close(CODES.elsewhere, 'you play in another tab');
    sockets.set(player.id, socket);
    socket.onmessage = ({ data }) => {
      try {
        game.steer(player, JSON.parse(data));
      } catch {
        socket.close(CODES.noMove, 'not a move');
      }
    };
    socket.onclose = () => {
      if (sockets.get(player.id) !== socket) return;
      game.leave(player);
      sockets.delete(player.id);
    };
    socket.send(JSON.stringify({ you: player.id }));
  }, { accept: ({ path }) => game.find(path) !== undefined || game.all.players.length < MOST_PLAYERS });

  const link = Object.assign(new URL(location.href), { hash: server.serverId }).href;
  $('link').href = $('link').textContent = link;
  $('qr').replaceChildren(toSvg(link, 'QR code of the link'));
  document.body.dataset.state = 'open';

  // Paths begin with a slash: nobody else is this player.
  const own = 'this keyboard';
  if (game.find(own)) game.join(own);
  watchKeys(move => game.steer(game.join(own), move));
  const roundTripOf = id => {
    const time = sockets.get(id)?.getStats().roundTripTime ?? null;
    return time && Math.round(time);
  };
  setInterval(() => {
    game.tick();
    const state = game.state(roundTripOf);
    show(state);
    const text = JSON.stringify(state);
    for (const socket of sockets.values()) if (socket.bufferedAmount < BEHIND) socket.send(text);
  }, 1000 / TICKS_A_SECOND);
}

function play(serverId) {
  document.body.dataset.role = 'player';
  const who = remembered(`player ${serverId}`) ?? randomId();
  remember(`player ${serverId}`, who);
  let socket;
  let going = [0, 0];
  const steer = move => {
    going = move;
    if (socket.readyState === 1) socket.send(JSON.stringify(move));
  };
  const say = (state, text) => {
    document.body.dataset.state = state;
    $('message').textContent = text;
  };
  const connect = () => {
    // The path says who this is, also to a board that was reloaded; it is encrypted.
    socket = new PeerToPeerWebSocket(`${relayUrl}/${serverId}/${PORT}/${who}`, [], { redial: true });
    socket.onopen = socket.onreopened = () => {
      say('open', '');
      steer(going);
    };
    socket.onreconnecting = () => say('away', 'Reconnecting…');
    socket.onreconnected = () => say('open', '');
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (!message.you) return show(message);
      document.body.dataset.player = message.you;
      $('pad').style.setProperty('--hue', (message.you * 137) % 360);
      return undefined;
    };
    socket.onclose = ({ code, reason }) => {
      if (code === CODES.elsewhere) return say('closed', 'You play in another tab.');
      if (reason.startsWith('refused')) return say('closed', `${MOST_PLAYERS} play already. Load this page again later.`);
      say('away', 'The board is away. You are back in by yourself when it is.');
      return setTimeout(connect, 1000);
    };
  };
  connect();
  watchKeys(steer);
  const pad = $('pad');
  const drag = event => {
    const { left, top, width, height } = pad.getBoundingClientRect();
    const move = [(event.clientX - left - width / 2) / 60, (event.clientY - top - height / 2) / 60];
    pad.firstElementChild.style.transform = `translate(${move.map(part => `${Math.max(-1, Math.min(1, part)) * 60}px`)})`;
    steer(move);
  };
  const release = () => {
    pad.firstElementChild.style.transform = '';
    steer([0, 0]);
  };
  pad.addEventListener('pointerdown', event => {
    pad.setPointerCapture(event.pointerId);
    drag(event);
  });
  pad.addEventListener('pointermove', event => pad.hasPointerCapture(event.pointerId) && drag(event));
  for (const type of ['pointerup', 'pointercancel']) pad.addEventListener(type, release);
}

addEventListener('hashchange', () => location.reload());
try {
  await init();
  const serverId = location.hash.slice(1);
  if (serverId) play(serverId);
  else await host();
} catch (error) {
  console.error(error);
  document.body.dataset.state = 'closed';
  $('message').textContent = `The game could not be opened: ${error.message}`;
}
