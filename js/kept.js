// State that outlives the page: keys, and what a server parks for the next page of its tab.
//
// Keys are kept under a name in IndexedDB, where the engine can, without anybody ever seeing them.

import { setTimeout, TunnelError, unlessAborted } from './page.js';

const DATABASE = 'tunnel-wasm';
const STORE = 'identities';

/** Time for which a page that is being left may keep its identities, in milliseconds: a reloaded page waits for them. */
export const HAND_OVER = 3000;

/** Time that IndexedDB may take, in milliseconds: some implementations never answer. */
const STORAGE_TIMEOUT = 10_000;

const X25519 = { name: 'X25519' };

/** By name: the promise of an identity that this page has taken. */
const taken = new Map();

/** By public key: what WebCrypto holds. */
const held = new Map();

/**
 * The key of this name, made when there is none, for as long as `release` is not called.
 *
 * One page at a time has it: two servers with one key would take the server ID from each other for ever. Who waits no longer
 * than for the signal leaves nothing behind.
 */
export async function takeIdentity(name, signal) {
  const taking = takeShared(name);
  try {
    return await unlessAborted(taking, signal);
  } catch (error) {
    if (signal?.aborted) taking.then(identity => identity.release()).catch(() => {});
    throw error;
  }
}

async function takeShared(name) {
  const found = taken.get(name) ?? { users: 0, promise: take(name) };
  taken.set(name, found);
  found.users++;
  const release = async () => {
    if (--found.users) return;
    taken.delete(name);
    (await found.promise).unlock();
  };
  try {
    const { secret, publicKey, privateKey } = (await found.promise).record;
    if (privateKey) held.set(`${publicKey}`, privateKey);
    return { name, key: secret ?? publicKey, protected: !!privateKey, release };
  } catch (error) {
    taken.delete(name);
    throw error;
  }
}

const unkept = (name, cause) =>
  new TunnelError(`the identity '${name}' cannot be kept in this page's IndexedDB: ${cause}`, { code: 'no-identity', cause });

async function take(name) {
  const unlock = await lock(name);
  try {
    // WebKitGTK does not give keys back that nobody may see, where there is no service for secrets.
    const record = (await read(name)) ?? (await keep(name, await generate())) ?? (await keep(name, secret()));
    return { record, unlock };
  } catch (cause) {
    unlock();
    throw unkept(name, cause);
  }
}

/** Resolves with what unlocks the name. Where there are no Web Locks (an insecure context), nothing is locked. */
function lock(name) {
  const locks = globalThis.navigator?.locks;
  if (!locks) return () => {};
  return new Promise((resolve, reject) => {
    const refused = cause => {
      if (cause?.name !== 'TimeoutError') return reject(unkept(name, cause));
      const message = `another page uses the identity '${name}': close that page, or choose another name`;
      reject(new TunnelError(message, { code: 'identity-in-use', cause }));
    };
    const held = () => new Promise(unlock => resolve(unlock));
    // Throws at once where storage is denied.
    locks.request(`${DATABASE} ${STORE} ${name}`, { signal: AbortSignal.timeout(HAND_OVER) }, held).catch(refused);
  });
}

async function generate() {
  try {
    const { publicKey, privateKey } = await crypto.subtle.generateKey(X25519, false, ['deriveBits']);
    return { privateKey, publicKey: new Uint8Array(await crypto.subtle.exportKey('raw', publicKey)) };
  } catch {
    return secret();
  }
}

const secret = () => ({ secret: crypto.getRandomValues(new Uint8Array(32)) });

async function read(name) {
  return transaction('readonly', store => store.get(name));
}

async function keep(name, record) {
  await transaction('readwrite', store => store.put(record, name));
  return read(name);
}

async function transaction(mode, request) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(request(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

const settled = request =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error('another page holds the database'));
    setTimeout(() => reject(new Error('it does not answer')), STORAGE_TIMEOUT)?.unref?.();
  });

/** The secret that a key which is held shares with `theirs`: 32 bytes, all zero, which no key shares, if there is none. */
export async function diffieHellman(ours, theirs) {
  const privateKey = held.get(`${ours}`);
  try {
    const key = await crypto.subtle.importKey('raw', theirs, X25519, false, []);
    return new Uint8Array(await crypto.subtle.deriveBits({ ...X25519, public: key }, privateKey, 256));
  } catch {
    // A point of low order.
    return new Uint8Array(32);
  }
}

/**
 * The data that a server parks: kept in the tab's own storage, which answers while the page is left, for so many milliseconds after
 * the server's end.
 */
export function park(name, timeout) {
  const key = `tunnel-wasm parked ${name}`;
  // Workers and runtimes without pages have no such storage, and throw at its name where it is denied.
  const storage = (() => {
    try {
      return globalThis.sessionStorage;
    } catch {
      return undefined;
    }
  })();
  let parked;
  try {
    const { until, value } = JSON.parse(storage.getItem(key));
    const left = until - Date.now();
    if (left > 0 && left <= timeout) parked = value;
  } catch {
    // There is nothing, or nothing of ours.
  }
  storage?.removeItem(key);
  const write = value => {
    // Functions and symbols are no JSON.
    if (JSON.stringify(value) === undefined) return storage?.removeItem(key);
    storage?.setItem(key, JSON.stringify({ until: Date.now() + timeout, value }));
  };
  const keep = () => {
    try {
      if (parked !== undefined) write(parked);
    } catch (error) {
      reportError(error);
    }
  };
  const target = globalThis.addEventListener ? globalThis : undefined;
  target?.addEventListener('pagehide', keep);
  return {
    value: () => parked,
    set(value) {
      // Throws what the application should hear now, not when the page is left.
      if (!storage) throw new TunnelError('nothing can be parked here: there is no sessionStorage', { code: 'no-identity' });
      write(value);
      parked = value;
    },
    end() {
      target?.removeEventListener('pagehide', keep);
      keep();
    },
  };
}
