/**
 * SHA-256 (FIPS 180-4) that takes its input piece by piece: WebCrypto digests whole buffers only, and only in
 * secure contexts, while a file of gigabytes arrives in chunks and a relay on the local network is often
 * plain HTTP.
 */

const BLOCK = 64;

/** The first 32 bits of the fractional part of `root`. */
const fraction = root => ((root - Math.floor(root)) * 2 ** 32) | 0;

const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) {
  if (PRIMES.every(prime => n % prime !== 0)) PRIMES.push(n);
}
const K = Int32Array.from(PRIMES, prime => fraction(Math.cbrt(prime)));
const INITIAL = PRIMES.slice(0, 8).map(prime => fraction(Math.sqrt(prime)));

export class Sha256 {
  #state = Int32Array.from(INITIAL);
  #schedule = new Int32Array(64);
  #pending = new Uint8Array(BLOCK);
  #length = 0;

  /** Takes in `bytes`, a Uint8Array of any length. */
  update(bytes) {
    let at = 0;
    const filled = this.#length % BLOCK;
    this.#length += bytes.length;
    if (filled > 0) {
      at = Math.min(BLOCK - filled, bytes.length);
      this.#pending.set(bytes.subarray(0, at), filled);
      if (filled + at < BLOCK) return;
      this.#compress(this.#pending, 0);
    }
    for (; at + BLOCK <= bytes.length; at += BLOCK) this.#compress(bytes, at);
    this.#pending.set(bytes.subarray(at));
  }

  /** The digest in hexadecimal. Nothing may be taken in afterwards. */
  finish() {
    const bits = this.#length * 8;
    const filled = this.#length % BLOCK;
    const tail = new Uint8Array(filled < 56 ? BLOCK : 2 * BLOCK);
    tail.set(this.#pending.subarray(0, filled));
    tail[filled] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(tail.length - 4, bits >>> 0);
    for (let at = 0; at < tail.length; at += BLOCK) this.#compress(tail, at);
    return Array.from(this.#state, word => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  #compress(bytes, start) {
    const w = this.#schedule;
    for (let i = 0, at = start; i < 16; i++, at += 4) {
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    const state = this.#state;
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}
