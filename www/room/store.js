/**
 * Things of a room that this browser keeps (IndexedDB), so that a tab that is reloaded goes on where it was: messages, files, and
 * the parts of files that have not arrived yet. `owner` is the room and the person: each has a database of its own, in which nobody
 * waits for what another tab writes. For an owner that is null, and where there is no storage, nothing is kept, and all else works.
 */
const STORES = ['history', 'files', 'parts'];
/** Rooms that nobody has opened for so long are thrown away, in milliseconds. */
const KEPT_FOR = 3 * 24 * 60 * 60_000;
/** Key of the list of all of them, and of when each was opened. */
const LIST = 'rooms kept here';

const settled = request =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Store {
  #database;
  #owner;

  constructor(owner) {
    this.#owner = owner;
    if (owner === null) this.#database = Promise.resolve();
    else this.#database = this.#open().catch(error => console.warn('nothing is kept when this tab is reloaded', error));
  }

  async #open() {
    noteOpened(this.#owner);
    const opening = indexedDB.open(this.#owner, 1);
    opening.onupgradeneeded = () => {
      for (const name of STORES) opening.result.createObjectStore(name);
    };
    const database = await settled(opening);
    // Another tab throws the room away.
    database.onversionchange = () => database.close();
    return database;
  }

  /** Runs a request on a store; undefined where nothing is kept. */
  async #do(name, mode, request) {
    const database = await this.#database;
    if (!database) return undefined;
    try {
      const transaction = database.transaction(name, mode);
      const result = settled(request(transaction.objectStore(name)));
      if (mode === 'readonly') return await result;
      // Only when the transaction is complete is the value there after a reload.
      result.catch(() => {});
      return await new Promise((resolve, reject) => {
        transaction.oncomplete = () => resolve(result);
        transaction.onabort = transaction.onerror = () => reject(transaction.error);
      });
    } catch (error) {
      // Such as a disk that is full.
      console.warn(error);
      return undefined;
    }
  }

  #range(...key) {
    return IDBKeyRange.bound(key, [...key, []]);
  }

  get(name, ...key) {
    return this.#do(name, 'readonly', store => store.get(key));
  }

  async all(name, ...key) {
    return (await this.#do(name, 'readonly', store => store.getAll(this.#range(...key)))) ?? [];
  }

  put(name, key, value) {
    return this.#do(name, 'readwrite', store => store.put(value, key));
  }

  delete(name, ...key) {
    return this.#do(name, 'readwrite', store => store.delete(this.#range(...key)));
  }

  /** Forgets all of this room. */
  async clear() {
    const database = await this.#database;
    database?.close();
    this.#database = undefined;
    if (this.#owner !== null) forget(this.#owner);
  }
}

/** Puts a room on the list, and throws those away that are on it for too long. */
function noteOpened(owner) {
  const rooms = JSON.parse(localStorage.getItem(LIST) ?? '{}');
  rooms[owner] = Date.now();
  localStorage.setItem(LIST, JSON.stringify(rooms));
  for (const [name, at] of Object.entries(rooms)) if (!(at > Date.now() - KEPT_FOR)) forget(name);
}

function forget(owner) {
  const rooms = JSON.parse(localStorage.getItem(LIST) ?? '{}');
  delete rooms[owner];
  localStorage.setItem(LIST, JSON.stringify(rooms));
  indexedDB.deleteDatabase(owner);
}
