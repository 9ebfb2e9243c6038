// Globals that instructions know from browsers and QuickJS-NG does not have: `crypto`, encodings, `structuredClone`.
//
// Called once, by `prelude.js`, before any instruction can have changed a built-in object.
(function (tools) {
  'use strict';

  const { random, expose, isError } = tools;
  const { apply } = Reflect;
  const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { isArray } = Array;
  const { floor } = Math;
  const text = String;
  const Bytes = Uint8Array, Buffer = ArrayBuffer, ErrorClass = Error, TypeErrorClass = TypeError, RangeErrorClass = RangeError;
  const regExpExec = RegExp.prototype.exec, stringSlice = String.prototype.slice;
  const matches = (pattern) => (string) => apply(regExpExec, pattern, [string]);
  const slice = (string, from, to) => apply(stringSlice, string, [from, to]);
  const append = (list, item) => { defineProperty(list, list.length, { __proto__: null, value: item, writable: true, enumerable: true, configurable: true }); };
  const ofView = (name) => getOwnPropertyDescriptor(getPrototypeOf(Bytes.prototype), name).get;
  const viewBuffer = ofView('buffer'), viewOffset = ofView('byteOffset'), byteLength = ofView('byteLength');

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
  const MapClass = Map, SetClass = Set, DateClass = Date, RegExpClass = RegExp;
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
})
