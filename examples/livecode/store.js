// Values under keys, and peers that hear of each change: settings of a game, presence, a small shared document.
//
//   import store from './store.js'
//   const relay = await NodeJSLivecodingClient.configureServerAt(relayUrl, credential)
//   for (const [name, source] of Object.entries(store)) await relay.addInstruction(name, source)
//
// Everybody:
//
//   const peer = await NodeJSLivecodingClient.connectTo(relayUrl)
//   peer.onmessage = ({ data }) => { const { key, value, version } = JSON.parse(data) }  // a value that is gone is null
//   await peer.invoke('watch values', 'game/')                // all keys that begin so; its answer has those that are there
//   await peer.invoke('put value', 'game/level', { map: 3 })
//   await peer.invoke('put value', 'game/level', { map: 4 }, 7)  // only if its version is 7 still: else it throws
//
// Anybody may change any key. Where that is too much, compare `this` with whom an instruction of your own has let in.

export const title = 'Key-value store with watchers';

export default {
  'put value': function putValue(key, value, expected) {
    const store = (global.store ??= { values: new Map(), watchers: new Map(), version: 0, size: 0 });
    if (typeof key !== 'string' || key === '' || key.length > 100) throw new TypeError('a key has 1 to 100 characters');
    const json = JSON.stringify(value ?? null);
    if (json.length > 4096) throw new RangeError('a value has 4096 characters as JSON at most');
    const old = store.values.get(key);
    if (expected !== undefined && expected !== (old?.version ?? 0)) {
      throw new Error(`'${key}' has the version ${old?.version ?? 0}, and not ${expected}: read it again`);
    }
    const size = store.size - (old ? key.length + old.json.length : 0) + (json === 'null' ? 0 : key.length + json.length);
    if (size > 500_000 || (!old && store.values.size >= 2000)) throw new RangeError('the store is full: 2000 values, 500000 characters');
    store.size = size;
    const version = ++store.version;
    if (json === 'null') store.values.delete(key);
    else store.values.set(key, { json, version });
    const text = `{"key":${JSON.stringify(key)},"value":${json},"version":${version}}`;
    for (const [socket, prefix] of store.watchers) {
      if (key.startsWith(prefix) && socket.readyState === 1) socket.send(text);
    }
    return version;
  },

  'get value': function getValue(key) {
    const found = global.store && store.values.get(key);
    return found ? `{"value":${found.json},"version":${found.version}}` : '{"value":null,"version":0}';
  },

  'watch values': function watchValues(prefix) {
    const store = (global.store ??= { values: new Map(), watchers: new Map(), version: 0, size: 0 });
    if (typeof prefix !== 'string' || prefix.length > 100) throw new TypeError('a prefix has 0 to 100 characters');
    if (!store.watchers.has(this)) {
      if (store.watchers.size >= 500) throw new RangeError('500 watch already');
      this.on('close', () => store.watchers.delete(this));
    }
    store.watchers.set(this, prefix);
    const found = Array.from(store.values).filter(([key]) => key.startsWith(prefix));
    return `{${found.map(([key, { json }]) => `${JSON.stringify(key)}:${json}`).join()}}`;
  },
};
