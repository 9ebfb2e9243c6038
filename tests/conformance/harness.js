// The means with which the cases are written. A file exports `cases`: functions of `{ WebSocket, name, url }`, by what they show.
// A case has to return the same for the platform's class and for ours.

const LIMIT = 10_000

export const task = () => new Promise(resolve => setTimeout(resolve))

export const next = (target, type) =>
  new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

// An open socket, whose binary messages are ArrayBuffers.
export const open = (WebSocket, url, protocols) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, protocols)
  socket.binaryType = 'arraybuffer'
  socket.addEventListener('open', () => resolve(socket))
  socket.addEventListener('close', ({ code, reason }) => reject(new Error(`closed instead of open: ${code} ${reason}`)))
})

// Closes a socket that may be in any state, and waits until it has ended.
export const end = async socket => {
  if (socket.readyState === 3) return
  const closed = next(socket, 'close')
  socket.close()
  await closed
}

// So many messages, as [kind, content].
export const messages = (socket, count) => new Promise(resolve => {
  const heard = []
  const listener = async ({ data }) => {
    heard.push(await shown(data))
    if (heard.length < count) return
    socket.removeEventListener('message', listener)
    resolve(heard)
  }
  socket.addEventListener('message', listener)
})

const shown = async data => {
  if (typeof data === 'string') return ['text', data]
  if (data instanceof Blob) return ['Blob', ...new Uint8Array(await data.arrayBuffer())]
  return [data.constructor.name, ...new Uint8Array(data)]
}

const text = value => JSON.stringify(value, (key, item) => (item === undefined ? 'undefined' : item))

export const same = (actual, expected, what = 'differs') => {
  if (text(actual) === text(expected)) return
  throw new Error(`${what}: ${text(actual)} instead of ${text(expected)}`)
}

export const isTrue = (value, what) => same(value, true, what)

// The name of what an action throws; DOMExceptions have to be real ones, with their old codes.
export const thrown = action => {
  const codes = { SyntaxError: 12, InvalidAccessError: 15, InvalidStateError: 11, DataCloneError: 25 }
  try {
    action()
    return 'nothing'
  } catch (error) {
    if (error instanceof DOMException) same(error.code, codes[error.name], error.name)
    return error instanceof DOMException ? `DOMException ${error.name}` : (error?.name ?? `${error}`)
  }
}

// The properties of a member that WebIDL decides on.
export const described = (holder, key) => {
  const { value, get, set, ...rest } = Object.getOwnPropertyDescriptor(holder, key) ?? {}
  const of = member => (typeof member === 'function' ? [member.name, member.length, 'prototype' in member] : typeof member)
  return { ...rest, value: of(value), get: of(get), set: of(set) }
}

const within = (promise, limit) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${limit} ms`)), limit)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// Runs all cases of the files with a class; returns what each returned, or how it failed, by name.
export const run = async (files, subject, limit = LIMIT) => {
  const results = {}
  for (const [file, { cases }] of Object.entries(files)) {
    for (const [what, check] of Object.entries(cases)) {
      const result = await within((async () => check(subject))(), limit).then(
        value => ({ value: value ?? null }),
        error => ({ error: `${error?.name}: ${error?.message}`, stack: `${error?.stack}` }),
      )
      results[`${file}: ${what}`] = result
    }
  }
  return results
}
