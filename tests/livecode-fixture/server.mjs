// A livecoding server for tests: it runs JavaScript that whoever has the credential sends it.
//
// It is careless on purpose, as the original is: an instruction gets no request, nothing that an instruction throws
// is caught, the text `null` ends the process, and any subprotocol is accepted. Never run it where others can reach it.
//
// usage: node server.mjs [--port 0] [--credential SECRET]

import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { WebSocketServer } from 'ws';

const { port, credential } = parseArgs({
  options: { port: { type: 'string', default: '0' }, credential: { type: 'string', default: 'secret' } },
}).values;

const require = createRequire(import.meta.url);
const instructions = {};

function say(socket, words) {
  socket.send(`server: ${words}`);
}

function evaluate(source) {
  return (0, eval)(source);
}

const privileged = {
  'add instruction': (socket, { instructionToAdd, body }) => {
    say(socket, `adding instruction '${instructionToAdd}'`);
    const added = evaluate(`(${body})`);
    if (typeof added === 'function') instructions[instructionToAdd] = added;
  },
  eval: (socket, { body }) => {
    say(socket, 'evaluting code');
    new Function('ws', body)(socket);
  },
  require: (socket, parameters) => {
    say(socket, `received require for ${parameters.package}`);
    setImmediate(() => new Function('ws', parameters.then)(socket));
  },
  modules: (socket) => {
    say(socket, 'enumerating modules');
    socket.send(JSON.stringify(Object.keys(require.cache)));
  },
};

function runAdded(socket, name, parameters) {
  if (typeof instructions[name] !== 'function') {
    say(socket, `rejected command '${name}'`);
    return;
  }
  say(socket, `evaluating added instruction '${name}'`);
  say(socket, instructions[name].apply(socket, parameters));
}

function handle(socket, data) {
  let command;
  try {
    command = JSON.parse(data);
  } catch {
    say(socket, `rejected malformed command${data}`);
    return;
  }
  const { instruction, parameters } = command;
  say(socket, `received command '${instruction}'`);
  if (command.credential === credential && Object.hasOwn(privileged, instruction)) {
    privileged[instruction](socket, parameters);
  } else {
    runAdded(socket, instruction, parameters);
  }
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port) });
server.on('connection', (socket) => socket.on('message', (data) => handle(socket, data)));
server.on('listening', () => console.log(`listening on ws://127.0.0.1:${server.address().port}`));
