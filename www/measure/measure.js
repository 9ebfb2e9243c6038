/** Measures sockets between this page and `echo.html`, and a native WebSocket to the relay. */
import init, { PeerToPeerWebSocket } from '../pkg/tunnel_wasm.js';
import { copy } from '../room/copy.js';
import { pingSocket } from './ping.js';

const $ = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const relayUrl = parameters.get('relay') ?? location.origin.replace(/^http/, 'ws');

/** The number of first echoes and round trips that are measured, and the time for which bytes are sent, in milliseconds. */
const FIRSTS = 9;
const ROUND_TRIPS = 300;
const SENDING = 2000;
/** Bytes of a message, and most bytes that wait in the socket while it is filled. */
const PIECE = 65_536;
const AHEAD = 1_048_576;

const next = (target, type) => new Promise((resolve, reject) => {
  target.addEventListener(type, resolve, { once: true });
  target.addEventListener('close', ({ reason }) => reject(new Error(`a socket ended: ${reason}`)), { once: true });
});

const sorted = values => [...values].sort((a, b) => a - b);
const median = values => sorted(values)[values.length >> 1];
const percentile99 = values => sorted(values)[Math.floor(values.length * 0.99)];
const milliseconds = value => `${value.toFixed(value < 10 ? 2 : 1)} ms`;

/** The URL of the server in the second page. */
const served = new Promise((resolve, reject) => {
  addEventListener('message', ({ data, source }) => {
    if (source !== $('echo').contentWindow) return;
    if (data.url) resolve(data.url);
    else reject(new Error(data.problem));
  });
});

async function timed(run) {
  const started = performance.now();
  await run();
  return performance.now() - started;
}

/** Measures the time from `open` to the first message back, for some sockets in turn. */
async function firstEchoes(open) {
  const times = [];
  for (let n = 0; n < FIRSTS; n++) {
    let socket;
    times.push(await timed(async () => {
      socket = await open();
      await socket.echo();
    }));
    socket.close();
  }
  return median(times);
}

async function roundTrips(socket, tell) {
  const times = [];
  for (let n = 0; n < ROUND_TRIPS; n++) {
    times.push(await timed(() => socket.echo()));
    if (n % 50 === 0) tell(`${n} of ${ROUND_TRIPS} round trips`);
  }
  return times;
}

/** A socket to the second page that has its messages sent back. */
async function tunnelSocket(url) {
  const socket = new PeerToPeerWebSocket(`${url}/7`);
  socket.binaryType = 'arraybuffer';
  await next(socket, 'open');
  const message = new Uint8Array(64);
  return {
    echo: async () => {
      socket.send(message);
      await next(socket, 'message');
    },
    close: () => socket.close(),
  };
}

/** Megabytes a second to the second page: what it has counted at the end, and the time until it says so. */
async function throughput(url, tell) {
  const socket = new PeerToPeerWebSocket(`${url}/9`);
  await next(socket, 'open');
  const piece = new Uint8Array(PIECE);
  const started = performance.now();
  for (let lap = 0; performance.now() - started < SENDING; lap++) {
    while (socket.bufferedAmount < AHEAD) socket.send(piece);
    await new Promise(resolve => setTimeout(resolve));
    if (lap % 50 === 0) tell('sending…');
  }
  socket.send('how many?');
  const { data } = await next(socket, 'message');
  const seconds = (performance.now() - started) / 1000;
  socket.close();
  return Number(data) / 1e6 / seconds;
}

async function measure() {
  const show = (row, text) => {
    document.querySelector(`[data-row="${row}"]`).textContent = text;
  };
  const tell = text => {
    $('progress').textContent = text;
  };
  $('results').dataset.state = 'running';
  $('run').disabled = true;
  try {
    const url = await served;
    tell('first echoes');
    show('first', milliseconds(await firstEchoes(() => tunnelSocket(url))));
    show('nativeFirst', milliseconds(await firstEchoes(() => pingSocket(relayUrl))));
    const socket = await tunnelSocket(url);
    const times = await roundTrips(socket, tell);
    socket.close();
    show('median', milliseconds(median(times)));
    show('worst', milliseconds(percentile99(times)));
    const native = await pingSocket(relayUrl);
    const nativeTimes = await roundTrips(native, tell);
    native.close();
    show('nativeMedian', milliseconds(median(nativeTimes)));
    show('nativeWorst', milliseconds(percentile99(nativeTimes)));
    show('throughput', `${(await throughput(url, tell)).toFixed(0)} MB/s`);
    tell('Done. All figures were taken in this page, just now.');
    $('results').dataset.state = 'done';
    $('copy').hidden = false;
  } catch (error) {
    console.error(error);
    tell(`It could not be measured: ${error.message}`);
    $('results').dataset.state = 'failed';
  }
  $('run').disabled = false;
}

function markdown() {
  const rows = [...document.querySelectorAll('table tr')].map(row => [...row.children].map(cell => cell.textContent));
  const lines = rows.map(cells => `| ${cells.join(' | ')} |`);
  lines.splice(1, 0, '|---|---|---|');
  return `${lines.join('\n')}\n\n${navigator.userAgent}, ${navigator.hardwareConcurrency} processors, ${new Date().toISOString().slice(0, 10)}\n`;
}

$('run').addEventListener('click', measure);
$('copy').addEventListener('click', async () => {
  $('markdown').textContent = markdown();
  if (await copy($('markdown').textContent)) $('copy').textContent = 'Copied';
  else $('markdown').hidden = false;
});

$('echo').src = `echo.html#${encodeURIComponent(relayUrl)}`;
await init();
$('run').disabled = false;
