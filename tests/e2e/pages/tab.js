// Globals for the scripts of the tests in their tab: the classes of the package, and these helpers.

globalThis.library = import('/pkg/tunnel_wasm.js').then(async module => {
  const { memory } = await module.default()
  globalThis.wasmMemory = memory
  Object.assign(globalThis, module)
})

// A module in the page's own scope: Firefox has another one for the scripts of tests.
globalThis.load = path => import(path)

// The next event of this type.
globalThis.next = (target, type) => new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

// All events of a socket as they come: ['open'], ['message', data], ['error'], ['close', code, reason, wasClean].
globalThis.record = socket => {
  const events = []
  socket.addEventListener('open', () => events.push(['open']))
  socket.addEventListener('message', event => events.push(['message', event.data]))
  socket.addEventListener('error', () => events.push(['error']))
  socket.addEventListener('close', event => events.push(['close', event.code, event.reason, event.wasClean]))
  return events
}

// An open socket; throws what the socket's close says if it does not open.
globalThis.opened = socket => new Promise((resolve, reject) => {
  socket.addEventListener('open', () => resolve(socket), { once: true })
  socket.addEventListener('close', event => reject(new Error(`closed before open: ${event.code} ${event.reason}`)))
})

globalThis.sha256 = async blobOrBuffer => {
  const buffer = blobOrBuffer instanceof Blob ? await blobOrBuffer.arrayBuffer() : blobOrBuffer
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', buffer))
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('')
}

// So many bytes that look like chance but are the same each time.
globalThis.noise = length => {
  const words = new Uint32Array(Math.ceil(length / 4))
  let state = 0x9e3779b9
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return new Uint8Array(words.buffer, 0, length)
}
