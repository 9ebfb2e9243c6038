// The code that runs beside injected instructions, in their realm: the dispatcher, and the globals that instructions find.
//
// Instructions may change every built-in object. What the dispatcher needs is therefore taken before any of them runs, tables have
// no prototype, and neither methods nor iterators of built-in objects are called.
(function (emit, random, run) {
  'use strict';

  // Things that a call has the host do. 8 is the engine's: where an interrupted call was.
  const SEND = 0, RETURNED = 1, THREW = 2, LOG = 3, TIMER = 4, CLOSE = 5, ANSWER = 6, RUNNING = 7, UNKNOWN = 9,
    SETTLED = 10, TUNNEL = 11;
  // Tasks that the host gives.
  const RUN = 0, ADD = 1, EVAL = 2, CLOSED = 3, FIRE = 4, RESUME = 5, LIST = 6, SOURCE = 7, ROLL_BACK = 8, REMOVE = 9,
    GLOBALS = 10, SOURCES = 11;

  const MAX_INSTRUCTIONS = 256, MAX_VERSIONS = 16, MAX_SOURCES = 1 << 20, MAX_TIMERS = 64, MIN_INTERVAL = 20;
  const MAX_NAMES = 200, MAX_PREVIEW = 200;

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
  const Bytes = Uint8Array;
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
  let instructionCount = 0, sourceLength = 0, timerCount = 0, lastTimer = 0;

  // Links

  const ids = new WeakMap();
  const idOf = unbound(WeakMap.prototype.get);
  const setId = unbound(WeakMap.prototype.set);

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
  }
  const states = table();
  states.CONNECTING = 0; states.OPEN = 1; states.CLOSING = 2; states.CLOSED = 3;
  for (const state of ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED']) {
    const constant = { __proto__: null, value: states[state], enumerable: true };
    defineProperty(WebSocket, state, constant);
    defineProperty(WebSocket.prototype, state, constant);
  }

  const socketOf = (id, about) => sockets[id] ??= construct(WebSocket, [id, about]);

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
  const byteLength = getOwnPropertyDescriptor(getPrototypeOf(Bytes.prototype), 'byteLength').get;
  const viewBuffer = getOwnPropertyDescriptor(getPrototypeOf(Bytes.prototype), 'buffer').get;
  const viewOffset = getOwnPropertyDescriptor(getPrototypeOf(Bytes.prototype), 'byteOffset').get;
  const hex = (digits) => {
    let made = '';
    for (let i = 0; i < digits; i++) made += '0123456789abcdef'[floor(random() * 16)];
    return made;
  };
  expose('crypto', {
    getRandomValues(array) {
      const length = apply(byteLength, array, []);
      if (length > 65536) throw new RangeErrorClass('at most 65536 bytes at once');
      const bytes = new Bytes(apply(viewBuffer, array, []), apply(viewOffset, array, []), length);
      for (let i = 0; i < length; i++) bytes[i] = floor(random() * 256);
      return array;
    },
    randomUUID: () => hex(8) + '-' + hex(4) + '-4' + hex(3) + '-' + '89ab'[floor(random() * 4)] + hex(3) + '-' + hex(12),
  });

  // Encodings: QuickJS has none of its own.
  const encode = (string) => {
    const bytes = [];
    for (let i = 0; i < string.length; i++) {
      let code = apply(codePointAt, string, [i]);
      if (code > 0xffff) i++;
      else if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
      if (code < 0x80) append(bytes, code);
      else {
        const more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        append(bytes, (0xff << 7 - more & 0xff) | code >> 6 * more);
        for (let k = more - 1; k >= 0; k--) append(bytes, 0x80 | code >> 6 * k & 0x3f);
      }
    }
    return new Bytes(bytes);
  };
  const codePointAt = String.prototype.codePointAt, fromCodePoint = String.fromCodePoint;
  const decode = (view, fatal) => {
    const buffer = view instanceof ArrayBuffer ? view : apply(viewBuffer, view, []);
    const bytes = view instanceof ArrayBuffer ? new Bytes(view) : new Bytes(buffer, apply(viewOffset, view, []), apply(byteLength, view, []));
    let made = '';
    for (let i = 0; i < bytes.length;) {
      const first = bytes[i++];
      const more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : -1;
      let code = more === 0 ? first : first & 0x3f >> more, k = 0;
      while (k < more && i < bytes.length && (bytes[i] & 0xc0) === 0x80) {
        const low = k === 0 ? first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80 : 0x80;
        const high = k === 0 ? first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf : 0xbf;
        if (bytes[i] < low || bytes[i] > high) break;
        code = code << 6 | bytes[i++] & 0x3f;
        k++;
      }
      if (k !== more) {
        if (fatal) throw new TypeErrorClass('the bytes are no UTF-8');
        code = 0xfffd;
      }
      made += fromCodePoint(code);
    }
    return made;
  };
  expose('TextEncoder', class TextEncoder {
    get encoding() { return 'utf-8'; }
    encode(string = '') { return encode(text(string)); }
  });
  expose('TextDecoder', class TextDecoder {
    #fatal; #keepsMark;
    constructor(label = 'utf-8', { fatal = false, ignoreBOM = false } = {}) {
      if (!matches(/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i)(text(label))) throw new RangeErrorClass('only UTF-8 is known');
      this.#fatal = !!fatal; this.#keepsMark = !!ignoreBOM;
    }
    get encoding() { return 'utf-8'; }
    decode(view = new Bytes(0)) {
      const made = decode(view, this.#fatal);
      return !this.#keepsMark && made[0] === '\ufeff' ? slice(made, 1) : made;
    }
  });
  const MapClass = Map, SetClass = Set, DateClass = Date, RegExpClass = RegExp, Buffer = ArrayBuffer;
  expose('structuredClone', (value) => {
    const known = new MapClass();
    const clone = (it) => {
      if (typeof it === 'function' || typeof it === 'symbol') throw new TypeErrorClass('functions and symbols cannot be cloned');
      if (typeof it !== 'object' || it === null) return it;
      if (known.has(it)) return known.get(it);
      const keep = (made) => { known.set(it, made); return made; };
      if (it instanceof DateClass) return keep(new DateClass(+it));
      if (it instanceof RegExpClass) return keep(new RegExpClass(it.source, it.flags));
      if (it instanceof Buffer) return keep(it.slice(0));
      if (Buffer.isView(it)) {
        if (it instanceof DataView) return keep(new DataView(clone(it.buffer), it.byteOffset, it.byteLength));
        return keep(new it.constructor(clone(it.buffer), it.byteOffset, it.length));
      }
      if (it instanceof MapClass) { const made = keep(new MapClass()); it.forEach((v, k) => made.set(clone(k), clone(v))); return made; }
      if (it instanceof SetClass) { const made = keep(new SetClass()); it.forEach((v) => made.add(clone(v))); return made; }
      if (isError(it)) return keep(Object.assign(new ErrorClass(it.message), { name: it.name, stack: it.stack }));
      const made = keep(isArray(it) ? new Array(it.length) : {});
      for (const key of Object.keys(it)) made[key] = clone(it[key]);
      return made;
    };
    return clone(value);
  });

  const startTimer = (f, after, repeats, given) => {
    if (typeof f !== 'function') throw new TypeErrorClass('a timer takes a function');
    if (timerCount >= MAX_TIMERS) throw new RangeErrorClass('there are ' + MAX_TIMERS + ' timers already');
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
    if (!known && instructionCount >= MAX_INSTRUCTIONS) throw new RangeErrorClass('there are ' + MAX_INSTRUCTIONS + ' instructions already');
    const oldest = known && known.versions.length >= MAX_VERSIONS ? known.versions[0].body.length : 0;
    if (sourceLength - oldest + body.length > MAX_SOURCES) throw new RangeErrorClass('sources of ' + MAX_SOURCES + ' characters are kept already');
    let instruction = known;
    if (!instruction) {
      instruction = { __proto__: null, versions: list(), last: 0, calls: 0, errors: 0, lastError: '' };
      instructions[name] = instruction;
      instructionCount++;
    }
    const versions = list();
    for (let i = oldest ? 1 : 0; i < instruction.versions.length; i++) append(versions, instruction.versions[i]);
    append(versions, { __proto__: null, version, f, body, takesRequest: !!endsInRequest(sourceOf(f)), length: f.length });
    instruction.versions = versions;
    instruction.last = version;
    sourceLength += body.length - oldest;
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
    throw new RangeErrorClass('there is no such version; the last ' + MAX_VERSIONS + ' are kept');
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
    socket.emit('close', code, reason);
  };

  // After an image was brought back: its timers start anew, and links that are gone close.
  // When listeners cannot end in time, they are not asked.
  const resume = (open, isSilent) => {
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

  return function dispatch(op, id, given) {
    try {
      const command = given === '' ? table() : parse(given);
      const named = (typeof command.parameters === 'object' && command.parameters !== null) ? command.parameters : table();
      const own = (key) => has(named, key) ? named[key] : undefined;
      if (op === RUN) return execute(id, command);
      if (op === EVAL) return evaluate(id, { __proto__: null, about: command.about, answer: command.answer, parameters: { __proto__: null, body: own('body') } });
      if (op === CLOSED) return close(id, 1000, '');
      if (op === FIRE) return fire(id);
      if (op === RESUME) return resume(command.open, command.isSilent);
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
