// The network between the page and its relays, as a test wants it: cut, or slow. The library dials through `wireTo`.

/** By relay: its network. */
const networks = new Map();

/** The relay of a link's URL, or of a tunnel URL with this server ID: what a network is known by. */
export function relayOf(url, serverId) {
  const { protocol, host, pathname } = new URL(url);
  const path = serverId ? pathname.split(`/${serverId}/`)[0] : pathname;
  return `${protocol}//${host}${path.replace(/\/$/, '')}`;
}

export function networkOf(relay) {
  if (!networks.has(relay)) networks.set(relay, new Network());
  return networks.get(relay);
}

/** Takes back what was done to any of them. */
export function mendAll() {
  for (const network of networks.values()) {
    network.setDelay(0);
    if (network.isCut) network.mend();
  }
}

class Network {
  isCut = false;
  /** One way, in milliseconds. */
  delay = 0;
  /** Links through it that can be delayed, and those that were dialled before the inspector was there. */
  wires = new Set();
  others = new Set();

  cut() {
    this.isCut = true;
    for (const wire of [...this.wires]) wire.cut();
    for (const link of [...this.others]) link.close();
  }

  mend() {
    this.isCut = false;
    // The library dials at once when the browser says so, instead of after a pause.
    dispatchEvent(new Event('online'));
  }

  /** Messages that are on their way arrive before those that are sent later, also if the delay shrinks. */
  setDelay(milliseconds) {
    this.delay = milliseconds;
    // They are dialled again, through a wire; sockets resume.
    if (milliseconds) for (const link of [...this.others]) link.close();
  }
}

let Wire;

/** Makes the WebSocket of a link. `Native` is the platform's class. */
export function wireTo(url, protocols, Native) {
  Wire ??= wireClass(Native);
  return new Wire(networkOf(relayOf(url)), url, protocols);
}

export const isWire = socket => Wire !== undefined && socket instanceof Wire;

const wireClass = Native =>
  class extends Native {
    #network;
    #isDead = false;
    /** The time at which the last message of each direction is due. */
    #sentUntil = 0;
    #receivedUntil = 0;
    #arriving = 0;

    constructor(network, url, protocols) {
      super(url, protocols);
      this.#network = network;
      network.wires.add(this);
      // These are the first listeners: what they stop, the library does not see.
      super.addEventListener('message', event => this.#receive(event));
      super.addEventListener('close', event => this.#end(event));
      if (network.isCut) super.close();
    }

    send(data) {
      const wait = this.#due(this.#sentUntil);
      if (!wait) return super.send(data);
      this.#sentUntil = performance.now() + wait;
      setTimeout(() => {
        if (this.readyState === Native.OPEN && !this.#isDead) super.send(data);
      }, wait);
    }

    /** Ends as a cable that is pulled out: nothing that is on its way arrives. */
    cut() {
      this.#isDead = true;
      this.#network.wires.delete(this);
      this.dispatchEvent(new CloseEvent('close', { code: 1006, wasClean: false }));
      super.close();
    }

    #due(until) {
      return Math.max(this.#network.delay, until - performance.now(), 0);
    }

    #receive(event) {
      if (!event.isTrusted) return;
      if (this.#isDead) return event.stopImmediatePropagation();
      const wait = this.#due(this.#receivedUntil);
      if (!wait) return;
      event.stopImmediatePropagation();
      this.#receivedUntil = performance.now() + wait;
      this.#arriving++;
      const { data, origin } = event;
      setTimeout(() => {
        this.#arriving--;
        if (!this.#isDead) this.dispatchEvent(new MessageEvent('message', { data, origin }));
      }, wait);
    }

    /** A close comes after the messages before it. */
    #end(event) {
      if (!event.isTrusted) return;
      this.#network.wires.delete(this);
      if (this.#isDead) return event.stopImmediatePropagation();
      if (!this.#arriving) return;
      event.stopImmediatePropagation();
      const { code, reason, wasClean } = event;
      const wait = this.#due(this.#receivedUntil);
      setTimeout(() => this.dispatchEvent(new CloseEvent('close', { code, reason, wasClean })), wait);
    }
  };
