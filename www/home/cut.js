/**
 * A network that can be cut, for this document only: the class that the library takes for its links when it is loaded. It ends
 * the links that are there, and sends new ones to a port where nobody is.
 */
const links = new Set();
let isCut = false;

/** Browsers refuse to dial it. */
const NOWHERE = 'ws://127.0.0.1:9/';

globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(isCut ? NOWHERE : url, protocols);
    links.add(this);
    this.addEventListener('close', () => links.delete(this));
  }
};

export function setCut(wanted) {
  isCut = wanted;
  if (isCut) for (const link of links) link.close();
  // The library dials at once when the browser says so, instead of after a pause.
  else dispatchEvent(new Event('online'));
}
