// One side of a soak: it sends messages of all sizes as fast as the socket takes them, and checks all that comes.

import { Sha256 } from '/room/sha256.js'

const POOL = 1 << 22

// Messages are cut from this text: any offset in it, so that no two are alike.
const pool = noise(POOL)
const encoder = new TextEncoder()

// Numbers that follow from a seed (Mulberry32).
const diceOf = seed => below => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
}

class Soak {
  #socket
  #bytes
  #dice
  #sentHash = new Sha256()
  #receivedHash = new Sha256()
  #expected = 0
  #problem = null
  #waiting = []
  #closed
  #state = {
    sent: 0,
    received: 0,
    messagesSent: 0,
    messagesReceived: 0,
    reconnecting: 0,
    reconnected: 0,
    sentDigest: null,
    receivedDigest: null,
  }

  constructor(socket, bytes, seed) {
    this.#socket = socket
    this.#bytes = bytes
    this.#dice = diceOf(seed)
    socket.binaryType = 'arraybuffer'
    socket.addEventListener('message', event => this.#receive(event.data))
    for (const type of ['reconnecting', 'reconnected']) {
      socket.addEventListener(type, () => {
        this.#state[type]++
        this.#wake()
      })
    }
    socket.addEventListener('error', () => this.#fail('the socket fired an error'))
    this.#closed = next(socket, 'close').then(({ code, reason, wasClean }) => {
      const { sentDigest, receivedDigest } = this.#state
      if (code === 1000 && wasClean && sentDigest && receivedDigest) return
      this.#fail(`the socket was closed: ${code} ${reason}`)
    })
  }

  // Sends all; `finished` tells the end.
  async send() {
    const writer = this.#socket.writable.getWriter()
    const state = this.#state
    try {
      while (state.sent < this.#bytes) {
        const [message, bytes] = this.#make(state.messagesSent)
        this.#sentHash.update(bytes)
        await writer.write(message)
        state.sent += bytes.length
        state.messagesSent++
        this.#wake()
      }
      state.sentDigest = this.#sentHash.finish()
      await writer.write(`end ${state.messagesSent} ${state.sentDigest}`)
      this.#wake()
    } catch (error) {
      this.#fail(`sending failed: ${error}`)
    }
  }

  // The message of this number, and its bytes.
  #make(number) {
    const dice = this.#dice
    const kind = dice(16)
    if (kind < 2) {
      const filling = Array.from({ length: dice(2000) }, () => 'aä€🚇'.at(dice(4)))
      const text = `${number} ${filling.join('')}`
      return [text, encoder.encode(text)]
    }
    const limit = kind < 9 ? 4096 : kind < 14 ? 1 << 16 : kind < 15 || dice(8) ? 1 << 20 : 1 << 22
    const offset = dice(POOL - 4)
    const bytes = pool.slice(offset, offset + 4 + dice(Math.min(limit, POOL - 4 - offset)))
    new DataView(bytes.buffer).setUint32(0, number)
    return [bytes, bytes]
  }

  #receive(data) {
    const state = this.#state
    if (typeof data === 'string' && data.startsWith('end ')) {
      state.receivedDigest = this.#receivedHash.finish()
      const end = `end ${state.messagesReceived} ${state.receivedDigest}`
      if (data !== end) this.#fail(`the other side says "${data}", and this one has "${end}"`)
      return this.#wake()
    }
    const bytes = typeof data === 'string' ? encoder.encode(data) : new Uint8Array(data)
    const number = typeof data === 'string' ? parseInt(data, 10) : new DataView(data).getUint32(0)
    if (state.receivedDigest) return this.#fail(`message ${number} came after the end`)
    if (number !== this.#expected) this.#fail(`message ${number} came where ${this.#expected} was due`)
    this.#expected++
    this.#receivedHash.update(bytes)
    state.received += bytes.length
    state.messagesReceived++
    this.#wake()
  }

  #fail(problem) {
    this.#problem ??= `${problem}; ${JSON.stringify(this.#state)}`
    this.#wake()
  }

  #wake() {
    this.#waiting = this.#waiting.filter(({ isDue, resolve, reject }) => {
      if (this.#problem) reject(new Error(this.#problem))
      else if (isDue(this.#state)) resolve({ ...this.#state, stats: this.#socket.getStats() })
      else return true
      return false
    })
  }

  // The state once that is so; rejects once anything is wrong.
  #until(isDue) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ isDue, resolve, reject })
      this.#wake()
    })
  }

  // Once so many bytes have gone both ways, and the socket has come back so often.
  reaches({ bytes, reconnected }) {
    return this.#until(state => state.sent + state.received >= bytes && state.reconnected >= reconnected)
  }

  // Once all is sent and received, and each path that was cut has been found again.
  finished() {
    return this.#until(state => state.sentDigest && state.receivedDigest && state.reconnecting === state.reconnected)
  }

  // After that: closes the socket in order, or waits until the other side has done so.
  async end(closes) {
    if (closes) this.#socket.close(1000)
    await this.#closed
    if (this.#problem) throw new Error(this.#problem)
  }
}

globalThis.Soak = Soak
