// The code that runs beside injected instructions, in their realm: the dispatcher, and the globals that instructions find.
//
// Instructions may change every built-in object. What the dispatcher needs is therefore taken before any of them runs, tables have
// no prototype, and neither methods nor iterators of built-in objects are called.
(function (emit, random, run, emitBytes, globals) {
  'use strict';

  // Things that a call has the host do. 8 is the engine's: where an interrupted call was.
  const SEND = 0, RETURNED = 1, THREW = 2, LOG = 3, TIMER = 4, CLOSE = 5, ANSWER = 6, RUNNING = 7, UNKNOWN = 9,
    SETTLED = 10, TUNNEL = 11, PORT = 12, SEND_BYTES = 13;
  // Tasks that the host gives.
  const RUN = 0, ADD = 1, EVAL = 2, CLOSED = 3, FIRE = 4, RESUME = 5, LIST = 6, SOURCE = 7, ROLL_BACK = 8, REMOVE = 9,
    GLOBALS = 10, SOURCES = 11, SERVED = 12, SERVED_BYTES = 13;

  const MIN_INTERVAL = 20, MAX_NAMES = 200, MAX_PREVIEW = 200, MAX_PORTS = 64;
  // Of the operator: `resume` has them.
  let maxInstructions = 0, maxVersions = 1, maxSources = 0, maxTimers = 0;

  const { apply, ownKeys, construct } = Reflect;
  const { create, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { floor, min, max } = Math;
  const text = String, number = Number;
  const unbound = (f) => (self, ...given) => apply(f, self, given);
  const sourceOf = unbound(Function.prototype.toString);
  const matches = (pattern) => (string) => apply(regExpExec, pattern, [string]);
  const regExpExec = RegExp.prototype.exec;
  const slice = (string, from, to) => apply(stringSlice, string, [from, to]);
  const stringSlice = String.prototype.slice;
  const then = unbound(Promise.prototype.then);
  const isPromise = (it) => apply(hasInstance, PromiseClass, [it]);
  const isError = (it) => apply(hasInstance, ErrorClass, [it]);
  const hasInstance = Function.prototype[Symbol.hasInstance];
  const PromiseClass = Promise, ErrorClass = Error, TypeErrorClass = TypeError, RangeErrorClass = RangeError;
  const Bytes = Uint8Array, Buffer = ArrayBuffer, { isView } = Buffer;
  const ofView = (name) => getOwnPropertyDescriptor(getPrototypeOf(Bytes.prototype), name).get;
  const viewBuffer = ofView('buffer'), viewOffset = ofView('byteOffset'), viewLength = ofView('byteLength');
  const global = globalThis;

  const table = () => create(null);
  const has = (object, key) => getOwnPropertyDescriptor(object, key) !== undefined;
  const append = (list, item) => { defineProperty(list, list.length, { __proto__: null, value: item, writable: true, enumerable: true, configurable: true }); };
  const expose = (name, value) => defineProperty(global, name, { __proto__: null, value, writable: true, enumerable: false, configurable: true });
  // Arrays made here have no prototype either, so that an index that is missing is not looked for in one.
  const list = () => { const made = []; Object_setPrototypeOf(made, null); return made; };
  const Object_setPrototypeOf = Object.setPrototypeOf;

  const instructions = table();
  const sockets = table();
  const timers = table();
  /** By port: the function that gets its sockets. */
  const ports = table();
  let instructionCount = 0, sourceLength = 0, timerCount = 0, lastTimer = 0, portCount = 0, serverId = '';

  // Links

  const ids = new WeakMap();
  const idOf = unbound(WeakMap.prototype.get);
  const setId = unbound(WeakMap.prototype.set);
  /** By socket: the server IDs whose keys its peer has shown to have. */
  const proven = new WeakMap();

  class WebSocket {
    constructor(id, about) {
      setId(ids, this, id);
      const connection = { remoteAddress: text(about.address), remotePort: 0 };
      this.readyState = 1;
      this.bufferedAmount = 0;
      this._events = table();
      this._socket = connection;
      this.upgradeReq = { connection, socket: connection, headers: about.headers, url: text(about.url) };
    }
    on(name, listener) {
      if (typeof listener !== 'function') throw new TypeErrorClass('a listener must be a function');
      const kept = this._events[name] ??= list();
      append(kept, { __proto__: null, listener, once: false });
      return this;
    }
    addListener(name, listener) { return this.on(name, listener); }
    once(name, listener) {
      this.on(name, listener);
      const kept = this._events[name];
      kept[kept.length - 1].once = true;
      return this;
    }
    off(name, listener) {
      const kept = this._events[name], left = list();
      if (!kept) return this;
      let done = false;
      for (let i = kept.length - 1; i >= 0; i--) if (!done && kept[i].listener === listener) { done = true; kept[i].gone = true; }
      for (let i = 0; i < kept.length; i++) if (!kept[i].gone) append(left, kept[i]);
      this._events[name] = left;
      return this;
    }
    removeListener(name, listener) { return this.off(name, listener); }
    removeAllListeners(name) {
      if (name === undefined) this._events = table(); else delete this._events[name];
      return this;
    }
    listenerCount(name) { return this._events[name] ? this._events[name].length : 0; }
    emit(name, ...given) {
      const kept = this._events[name];
      if (!kept || kept.length === 0) {
        if (name === 'error') throw given[0];
        return false;
      }
      for (let i = 0, all = kept, length = kept.length; i < length; i++) {
        if (all[i].gone) continue;
        if (all[i].once) this.off(name, all[i].listener);
        apply(all[i].listener, this, given);
      }
      return true;
    }
    send(data, options, done) {
      if (typeof options === 'function') done = options;
      const id = idOf(ids, this);
      if (this.readyState !== 1 || sockets[id] !== this) {
        const error = new ErrorClass('not opened');
        if (typeof done !== 'function') throw error;
        done(error);
        return;
      }
      emit(SEND, id, text(data));
      if (typeof done === 'function') done();
    }
    close(code, reason) {
      const id = idOf(ids, this);
      if (this.readyState !== 1 || sockets[id] !== this) return;
      this.readyState = 2;
      emit(CLOSE, id, stringify([code === undefined ? 1000 : floor(number(code)), reason === undefined ? '' : text(reason)]));
    }
    terminate() { this.close(1001); }
    ping() {}
    prove(server) {
      const known = idOf(proven, this);
      const wanted = text(server);
      for (let i = 0; known && i < known.length; i++) if (known[i] === wanted) return true;
      return false;
    }
  }
  const states = table();
  states.CONNECTING = 0; states.OPEN = 1; states.CLOSING = 2; states.CLOSED = 3;
  for (const state of ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED']) {
    const constant = { __proto__: null, value: states[state], enumerable: true };
    defineProperty(WebSocket, state, constant);
    defineProperty(WebSocket.prototype, state, constant);
  }

  const socketOf = (id, about) => {
    const socket = sockets[id] ??= construct(WebSocket, [id, about]);
    setId(proven, socket, about.proven);
    return socket;
  };

  // Sockets of the tunnel server that the namespace is

  class ServedSocket extends WebSocket {
    constructor(id, about) {
      super(id, about);
      this.port = about.port;
      this.remoteId = about.remoteId;
      this.onmessage = null;
      this.onclose = null;
    }
    send(data) {
      const bytes = isView(data) ? new Bytes(apply(viewBuffer, data, []), apply(viewOffset, data, []), apply(viewLength, data, []))
        : apply(hasInstance, Buffer, [data]) ? new Bytes(data) : undefined;
      if (!bytes) return super.send(data);
      const id = idOf(ids, this);
      if (this.readyState !== 1 || sockets[id] !== this) throw new ErrorClass('not opened');
      emitBytes(SEND_BYTES, id, bytes);
    }
    prove(server) { return this.remoteId !== null && this.remoteId === text(server); }
  }

  /** Fires an event for listeners of both kinds; `given` begins with its name. */
  const tell = (socket, name, event, given) => {
    apply(socket.emit, socket, given);
    const handler = socket['on' + name];
    if (typeof handler === 'function') apply(handler, socket, [event]);
  };

  const serve = (id, command, bytes) => {
    const { about, event } = command;
    if (event === 'close') {
      const socket = sockets[id];
      if (!socket) return;
      delete sockets[id];
      socket.readyState = 3;
      const { code, reason, wasClean } = command;
      return tell(socket, 'close', { type: 'close', target: socket, code, reason, wasClean }, ['close', code, reason]);
    }
    let socket = sockets[id];
    if (!socket) {
      // It is new, or opened after the checkpoint to which everything went back.
      const handler = ports[about.port];
      if (!handler) return emit(CLOSE, id, '[1001,"nobody listens to the port any more"]');
      socket = sockets[id] = construct(ServedSocket, [id, about]);
      apply(handler, undefined, [socket]);
    }
    socket.bufferedAmount = about.bufferedAmount;
    if (event !== 'message') return;
    const data = bytes === undefined || bytes === null ? command.data : bytes;
    tell(socket, 'message', { type: 'message', target: socket, data }, ['message', data]);
  };

  // Globals

  expose('global', global);
  // Not from the name of an instance, which a `toString` in it would run.
  const show = (value) => {
    try {
      if (typeof value === 'string') return value;
      if (isError(value)) return text(value.stack ? value + '\n' + value.stack : value);
      if (typeof value === 'object' && value !== null && !isPromise(value)) return stringify(value) ?? text(value);
      return typeof value === 'function' ? sourceOf(value) : text(value);
    } catch {
      return '[cannot be shown]';
    }
  };
  const log = (level) => (...given) => {
    let line = '';
    for (let i = 0; i < given.length; i++) line += (i ? ' ' : '') + show(given[i]);
    emit(LOG, 0, level + ' ' + line);
  };
  expose('console', {
    log: log('log'), info: log('info'), debug: log('debug'), warn: log('warn'), error: log('error'), trace: log('debug'),
  });
  Math.random = () => random();
  expose('serve', (port, handler) => {
    const wanted = number(port);
    if (wanted !== floor(wanted) || wanted < 0 || wanted > 65535) throw new RangeErrorClass('a port is a number from 0 to 65535');
    const had = ports[wanted] !== undefined;
    if (handler === null) {
      if (had) { delete ports[wanted]; portCount--; emit(PORT, wanted, ''); }
      return serverId;
    }
    if (typeof handler !== 'function') throw new TypeErrorClass('serve(port, socket => …) takes a function; null stops');
    if (!had && portCount >= MAX_PORTS) throw new RangeErrorClass('there are ' + MAX_PORTS + ' ports already');
    if (!had) { portCount++; emit(PORT, wanted, '1'); }
    ports[wanted] = handler;
    return serverId;
  });
  globals({ random, expose, isError });

  const startTimer = (f, after, repeats, given) => {
    if (typeof f !== 'function') throw new TypeErrorClass('a timer takes a function');
    if (timerCount >= maxTimers) throw new RangeErrorClass('there are ' + maxTimers + ' timers already');
    after = min(max(number(after) || 0, repeats ? MIN_INTERVAL : 1), 2147483647);
    const id = ++lastTimer;
    timers[id] = { __proto__: null, f, after, repeats, given };
    timerCount++;
    emit(TIMER, id, text(after));
    return id;
  };
  const clearTimer = (id) => {
    if (typeof id !== 'number' || !timers[id]) return;
    delete timers[id];
    timerCount--;
    emit(TIMER, id, '');
  };
  expose('setTimeout', (f, after, ...given) => startTimer(f, after, false, given));
  expose('setInterval', (f, after, ...given) => startTimer(f, after, true, given));
  expose('clearTimeout', clearTimer);
  expose('clearInterval', clearTimer);
  const resolved = Promise.resolve();
  expose('queueMicrotask', (f) => { then(resolved, () => { f(); }); });

  // In steps of 1 ms, as all clocks here.
  const now = Date.now, started = now();
  expose('performance', { now: () => now() - started, timeOrigin: started });
  // Finalizers run in whatever call collects garbage: one caller's code in another's time.
  for (const name of ['FinalizationRegistry', 'SharedArrayBuffer', 'Atomics', 'gc', 'print', 'navigator']) delete global[name];

  // Instructions

  const endsInRequest = matches(/^\s*(?:async\s+)?(?:function\b\s*\*?\s*[^\s(]*\s*)?\(([^()]*,)?\s*req\s*,?\s*\)|^\s*(?:async\s+)?req\s*=>/);
  const tunnelNames = ['initialize', 'create server credential', 'install server', 'connect to server', 'forward to client', 'forward to server'];

  /** The version of an instruction that runs. */
  const current = (instruction) => instruction.versions[instruction.versions.length - 1];

  const compile = (name, version, body) => run('(' + body + '\n)', name + ' ' + version);

  const tellTunnel = () => {
    let any = false;
    for (let i = 0; i < tunnelNames.length; i++) any ||= instructions[tunnelNames[i]] !== undefined;
    emit(TUNNEL, 0, any ? '1' : '0');
  };

  const add = (id, name, body) => {
    const known = instructions[name];
    const version = known ? known.last + 1 : 1;
    const f = compile(name, version, body);
    // As in 2017: what is no function takes the name, and cannot be run.
    if (typeof f !== 'function') {
      remove(name);
      return;
    }
    if (!known && instructionCount >= maxInstructions) throw new RangeErrorClass('there are ' + maxInstructions + ' instructions already');
    const drop = known ? max(0, known.versions.length + 1 - maxVersions) : 0;
    let dropped = 0;
    for (let i = 0; i < drop; i++) dropped += known.versions[i].body.length;
    if (sourceLength - dropped + body.length > maxSources) throw new RangeErrorClass('sources of ' + maxSources + ' characters are kept already');
    let instruction = known;
    if (!instruction) {
      instruction = { __proto__: null, versions: list(), last: 0, calls: 0, errors: 0, lastError: '' };
      instructions[name] = instruction;
      instructionCount++;
    }
    const versions = list();
    for (let i = drop; i < instruction.versions.length; i++) append(versions, instruction.versions[i]);
    append(versions, { __proto__: null, version, f, body, takesRequest: !!endsInRequest(sourceOf(f)), length: f.length });
    instruction.versions = versions;
    instruction.last = version;
    sourceLength += body.length - dropped;
  };

  const remove = (name) => {
    const known = instructions[name];
    if (!known) return false;
    for (let i = 0; i < known.versions.length; i++) sourceLength -= known.versions[i].body.length;
    delete instructions[name];
    instructionCount--;
    return true;
  };

  const find = (name, version) => {
    const known = instructions[name];
    if (!known) throw new RangeErrorClass('there is no instruction of this name');
    if (version === undefined || version === null) return current(known);
    for (let i = 0; i < known.versions.length; i++) if (known.versions[i].version === number(version)) return known.versions[i];
    throw new RangeErrorClass('there is no such version; the last ' + maxVersions + ' are kept');
  };

  const parametersFor = (version, given, request) => {
    if (!version.takesRequest) return given === null || given === undefined ? [] : given;
    const made = [], count = version.length - 1;
    for (let i = 0; i < count; i++) append(made, isArray(given) && has(given, i) ? given[i] : undefined);
    append(made, request);
    return made;
  };

  // An error that was thrown, as texts. Reading it may run instructions' code, under the call's limits.
  const explain = (thrown) => {
    const told = table();
    told.name = 'thrown'; told.message = ''; told.stack = '';
    try {
      if (thrown === null) { told.name = 'InternalError'; told.message = 'out of memory'; }
      else if (isError(thrown)) {
        told.name = text(thrown.name);
        told.message = text(thrown.message);
        told.stack = thrown.stack === undefined ? '' : text(thrown.stack);
      } else told.message = show(thrown);
    } catch {
      told.message = 'an error that throws when it is read';
    }
    return quote(told);
  };
  // `stringify` would ask a `toJSON` that an instruction has put into a prototype.
  const quote = (told) => {
    let made = '{', first = true;
    for (const key in told) {
      made += (first ? '' : ',') + stringifyText(key) + ':' + (typeof told[key] === 'number' || typeof told[key] === 'boolean' ? text(told[key]) : stringifyText(told[key]));
      first = false;
    }
    return made + '}';
  };
  const stringifyText = (string) => {
    let made = '"', from = 0;
    for (let i = 0; i < string.length; i++) {
      const code = apply(charCodeAt, string, [i]);
      const alone = code >= 0xd800 && code <= 0xdfff && !(code < 0xdc00 && isLow(string, i + 1)) && !(code >= 0xdc00 && isHigh(string, i - 1));
      if (code >= 0x20 && code !== 0x22 && code !== 0x5c && !alone) continue;
      made += slice(string, from, i) + (alone ? '\\ufffd' : '\\u00' + '0123456789abcdef'[code >> 4] + '0123456789abcdef'[code & 15]);
      from = i + 1;
    }
    return made + slice(string, from, string.length) + '"';
  };
  const charCodeAt = String.prototype.charCodeAt;
  const isLow = (string, i) => { const code = i < string.length ? apply(charCodeAt, string, [i]) : 0; return code >= 0xdc00 && code <= 0xdfff; };
  const isHigh = (string, i) => { const code = i >= 0 ? apply(charCodeAt, string, [i]) : 0; return code >= 0xd800 && code <= 0xdbff; };

  // A value for the machine at the other end: as JSON if it has such a form, and as a person reads it.
  const describe = (value) => {
    let json;
    try { json = stringify(value); } catch { json = undefined; }
    return '{"returned":' + (typeof json === 'string' ? json : 'null') + ',"printed":' + stringifyText(show(value)) + '}';
  };
  const answer = (id, number, value) => {
    if (!isPromise(value)) return emit(SETTLED, id, number + ' ' + describe(value));
    then(value, (settled) => { emit(SETTLED, id, number + ' ' + describe(settled)); }, (thrown) => { emit(SETTLED, id, number + ' {"threw":' + explain(thrown) + '}'); });
  };

  const execute = (id, command) => {
    const instruction = instructions[command.name];
    if (!instruction) return emit(UNKNOWN, id, '');
    const socket = socketOf(id, command.about), version = current(instruction);
    instruction.calls++;
    emit(RUNNING, id, '');
    let result, shown;
    try {
      result = apply(version.f, socket, parametersFor(version, command.parameters, socket.upgradeReq));
      shown = text(result);
    } catch (thrown) {
      instruction.errors++;
      instruction.lastError = explain(thrown);
      emit(THREW, id, instruction.lastError);
      return;
    }
    emit(RETURNED, id, shown);
    if (command.answer !== null) answer(id, command.answer, result);
  };

  const evaluate = (id, command) => {
    expose('ws', socketOf(id, command.about));
    const result = run(text(command.parameters.body), 'eval');
    if (command.answer !== null) answer(id, command.answer, result);
  };

  const overview = () => {
    let made = '[', first = true;
    for (const name in instructions) {
      const it = instructions[name], told = table();
      told.name = name; told.version = current(it).version; told.versions = it.versions.length; told.length = current(it).body.length;
      told.calls = it.calls; told.errors = it.errors; told.lastError = it.lastError;
      made += (first ? '' : ',') + quote(told);
      first = false;
    }
    return made + ']';
  };

  const sources = () => {
    let made = '[', first = true;
    for (const name in instructions) {
      const told = table();
      told.name = name; told.body = current(instructions[name]).body;
      made += (first ? '' : ',') + quote(told);
      first = false;
    }
    return made + ']';
  };

  // One level of names below a path. Getters are not called.
  const names = (path) => {
    let at = global;
    for (let i = 0; isArray(path) && i < path.length; i++) {
      const found = (typeof at === 'object' && at !== null) || typeof at === 'function' ? getOwnPropertyDescriptor(at, path[i]) : undefined;
      if (!found || found.get || found.set) throw new RangeErrorClass('there is no such value');
      at = found.value;
    }
    let made = '[', count = 0;
    const keys = (typeof at === 'object' && at !== null) || typeof at === 'function' ? ownKeys(at) : [];
    for (let i = 0; i < keys.length && count < MAX_NAMES; i++) {
      if (typeof keys[i] !== 'string') continue;
      const found = getOwnPropertyDescriptor(at, keys[i]), told = table();
      if (!found || (at === global && !found.enumerable)) continue;
      told.name = keys[i];
      if (found.get || found.set) { told.type = 'getter'; told.preview = ''; }
      else {
        const value = found.value;
        told.type = value === null ? 'null' : isArray(value) ? 'array' : typeof value;
        told.preview = typeof value === 'function' ? slice(sourceOf(value), 0, MAX_PREVIEW)
          : typeof value === 'object' && value !== null ? (isArray(value) ? 'length ' + value.length : '')
          : slice(text(value), 0, MAX_PREVIEW);
      }
      made += (count ? ',' : '') + quote(told);
      count++;
    }
    return made + ']';
  };

  const close = (id, code, reason) => {
    const socket = sockets[id];
    if (!socket) return;
    delete sockets[id];
    socket.readyState = 3;
    tell(socket, 'close', { type: 'close', target: socket, code, reason, wasClean: code === 1000 }, ['close', code, reason]);
  };

  // After an image was brought back: its timers start anew, and links that are gone close.
  // When listeners cannot end in time, they are not asked.
  const resume = ({ open, isSilent, limits, server }) => {
    maxInstructions = limits.instructions;
    maxVersions = max(1, limits.versions);
    maxSources = limits.sources;
    maxTimers = limits.timers;
    serverId = server;
    for (const port in ports) emit(PORT, number(port), '1');
    for (const id in timers) emit(TIMER, number(id), text(timers[id].after));
    const isOpen = table();
    for (let i = 0; i < open.length; i++) isOpen[open[i]] = true;
    for (const id in sockets) {
      if (isOpen[id]) continue;
      if (isSilent) delete sockets[id];
      else try { close(id, 1006, ''); } catch (thrown) { emit(THREW, 0, explain(thrown)); }
    }
    tellTunnel();
  };

  const fire = (id) => {
    const timer = timers[id];
    if (!timer) return;
    if (timer.repeats) emit(TIMER, id, text(timer.after));
    else { delete timers[id]; timerCount--; }
    apply(timer.f, undefined, timer.given);
  };

  return function dispatch(op, id, given, bytes) {
    try {
      const command = given === '' ? table() : parse(given);
      const named = (typeof command.parameters === 'object' && command.parameters !== null) ? command.parameters : table();
      const own = (key) => has(named, key) ? named[key] : undefined;
      if (op === RUN) return execute(id, command);
      if (op === EVAL) return evaluate(id, { __proto__: null, about: command.about, answer: command.answer, parameters: { __proto__: null, body: own('body') } });
      if (op === CLOSED) return close(id, 1000, '');
      if (op === FIRE) return fire(id);
      if (op === RESUME) return resume(command);
      if (op === SERVED || op === SERVED_BYTES) return serve(id, command, bytes);
      if (op === ADD) add(id, text(own('instructionToAdd')), text(own('body')));
      else if (op === ROLL_BACK) { const found = find(text(own('name')), own('version')); add(id, text(own('name')), found.body); }
      else if (op === REMOVE) { if (!remove(text(own('name')))) throw new RangeErrorClass('there is no instruction of this name'); }
      if (op === ADD || op === ROLL_BACK || op === REMOVE) {
        const known = instructions[text(own(op === ADD ? 'instructionToAdd' : 'name'))];
        tellTunnel();
        return emit(ANSWER, id, known ? '{"version":' + text(current(known).version) + '}' : '{}');
      }
      if (op === LIST) return emit(ANSWER, id, overview());
      if (op === SOURCE) {
        const found = find(text(own('name')), own('version')), told = table();
        told.name = text(own('name')); told.version = found.version; told.source = found.body;
        return emit(ANSWER, id, quote(told));
      }
      if (op === SOURCES) return emit(ANSWER, id, sources());
      if (op === GLOBALS) return emit(ANSWER, id, names(own('path')));
    } catch (thrown) {
      emit(THREW, id, explain(thrown));
    }
  };
})
