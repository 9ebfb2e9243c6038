// Keys that outlive a page: kept under a name in IndexedDB, where the engine can, without anybody ever seeing them.

import { unlessAborted } from './common.js';
import { TunnelError } from './page.js';

const DATABASE = 'tunnel-wasm';
const STORE = 'identities';

/** How long a page that is being left may keep its identities, in milliseconds: a reloaded one wants them back. */
export const HAND_OVER = 3000;

/** How long IndexedDB may take, in milliseconds: some never answer. */
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

/** Resolves with what unlocks. Where there are no Web Locks (an insecure context), nothing is locked. */
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
