// One tab of a pair: the server, which echoes and counts, or the client, which measures. Both kinds of socket have the
// same interface, so the same code does it.

const { via, role, name, relay, serverId, at } = Object.fromEntries(new URLSearchParams(location.search));
const forwarder = `ws://${location.host}`;
const channel = new BroadcastChannel('bench');

/** Time for which a page is left alone after init(), as one whose user takes a while to connect. */
const REST_MS = 300;
/** Number of connections of a page after its first. */
const LATER = 5;
/** The pause before each of them: Chromium opens no second WebSocket to an address within 10 ms. */
const PAUSE_MS = 50;
const WARM_UP_ECHOES = 100;
const ECHOES = 1000;
const WARM_UP_MS = 300;
const THROUGHPUT_MS = 1200;
/** A sender does not get further ahead than this, in bytes and in messages. */
const AHEAD = 1024 * 1024;
const MESSAGES_AHEAD = 4096;

const next = (target, type) =>
  new Promise((resolve, reject) => {
    target.addEventListener(type, resolve, { once: true });
    target.addEventListener('close', ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`)));
  });

// ---- The two kinds

/** The package in a folder of the server's. */
async function tunnel(folder) {
  const started = performance.now();
  const { default: init, ForwardingServerWebSocket, PeerToPeerWebSocket } = await import(`/${folder}/tunnel_wasm.js`);
  await init();
  const initMs = performance.now() - started;
  return {
    initMs,
    connect: () => PeerToPeerWebSocket.toPort(7, serverId, relay),
    async serve(handle) {
      const server = await ForwardingServerWebSocket.newThrough(relay);
      server.listen(7, handle);
      return server.serverId;
    },
  };
}

async function native() {
  return {
    initMs: 0,
    connect: () => new WebSocket(`${forwarder}/client`),
    /** All sockets that will be needed: Chromium opens them one by one, so later ones would delay the client's. */
    async serve(handle) {
      for (let i = 0; i < 2 + LATER; i++) {
        const socket = new WebSocket(`${forwarder}/server`);
        handle(socket);
        await next(socket, 'open');
      }
    },
  };
}

// ---- The server

function serveOne(socket) {
  socket.binaryType = 'arraybuffer';
  let count;
  socket.onmessage = ({ data }) => {
    if (data === 'count') {
      count = { messages: 0, bytes: 0 };
    } else if (data === 'end') {
      socket.send(JSON.stringify(count));
      count = undefined;
    } else if (count) {
      count.messages++;
      count.bytes += data.byteLength;
    } else {
      socket.send(data);
    }
  };
}

// ---- The client

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

const median = values => values.sort((a, b) => a - b)[values.length >> 1];

async function firstEcho(connect, payload) {
  const started = performance.now();
  const socket = connect();
  socket.binaryType = 'arraybuffer';
  await next(socket, 'open');
  socket.send(payload);
  await next(socket, 'message');
  return { socket, ms: performance.now() - started };
}

async function close(socket) {
  const closed = next(socket, 'close');
  socket.close();
  await closed;
}

function roundTrips(socket, payload, count) {
  return new Promise(resolve => {
    const times = [];
    let sent;
    const send = () => {
      sent = performance.now();
      socket.send(payload);
    };
    socket.onmessage = () => {
      times.push(performance.now() - sent);
      if (times.length < count) return send();
      socket.onmessage = null;
      resolve(times.sort((a, b) => a - b));
    };
    send();
  });
}

/** Sends for so long, never too far ahead, until the server has counted everything. */
async function throughput(socket, payload, milliseconds) {
  const batch = Math.max(1, 4096 / payload.length);
  const ahead = Math.min(AHEAD, MESSAGES_AHEAD * payload.length);
  socket.send('count');
  const started = performance.now();
  while (performance.now() - started < milliseconds) {
    while (socket.bufferedAmount < ahead) for (let i = 0; i < batch; i++) socket.send(payload);
    await pause(1);
  }
  socket.send('end');
  const { messages, bytes } = JSON.parse((await next(socket, 'message')).data);
  const seconds = (performance.now() - started) / 1000;
  return { messagesPerSecond: messages / seconds, megabytesPerSecond: bytes / 1e6 / seconds };
}

async function measure({ connect, initMs }) {
  const small = crypto.getRandomValues(new Uint8Array(64));
  const large = crypto.getRandomValues(new Uint8Array(65536));
  if (at === 'once') {
    const { socket, ms } = await firstEcho(connect, small);
    await close(socket);
    return { initMs, promptEchoMs: ms };
  }
  await pause(REST_MS);
  const { socket, ms: firstEchoMs } = await firstEcho(connect, small);
  const later = [];
  for (let i = 0; i < LATER; i++) {
    await pause(PAUSE_MS);
    const another = await firstEcho(connect, small);
    later.push(another.ms);
    await close(another.socket);
  }
  await roundTrips(socket, small, WARM_UP_ECHOES);
  const times = await roundTrips(socket, small, ECHOES);
  await throughput(socket, large, WARM_UP_MS);
  const bulk = await throughput(socket, large, THROUGHPUT_MS);
  await throughput(socket, small, WARM_UP_MS);
  const many = await throughput(socket, small, THROUGHPUT_MS);
  await close(socket);
  return {
    firstEchoMs,
    laterEchoMs: median(later),
    roundTripP50Ms: times[ECHOES * 0.5],
    roundTripP99Ms: times[ECHOES * 0.99],
    bulkMegabytesPerSecond: bulk.megabytesPerSecond,
    smallMessagesPerSecond: many.messagesPerSecond,
  };
}

const KINDS = { tunnel: () => tunnel('pkg'), against: () => tunnel('against'), forwarder: native };

async function run() {
  const kind = await KINDS[via]();
  if (role === 'client') {
    channel.postMessage({ name, result: await measure(kind) });
    return window.close();
  }
  channel.addEventListener('message', ({ data }) => data.close === name && window.close());
  channel.postMessage({ name, serverId: await kind.serve(serveOne) });
}

run().catch(error => channel.postMessage({ name, error: `${via}, ${role}: ${error.message}` }));
