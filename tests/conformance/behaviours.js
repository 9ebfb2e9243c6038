// The other side of a conformance test, by the path and query that a client asked for. Written against what
// the sockets of both servers have: `send`, `close`, `binaryType` and `on*`.

/** Logs of sockets, by the name that their clients chose. */
const logs = new Map()

const bytesOf = data => (typeof data === 'string' ? data : Array.from(new Uint8Array(data)))

const logOf = name => {
  if (!logs.has(name)) logs.set(name, Promise.withResolvers?.() ?? withResolvers())
  return logs.get(name)
}

const withResolvers = () => {
  const ends = {}
  ends.promise = new Promise((resolve, reject) => Object.assign(ends, { resolve, reject }))
  return ends
}

const BEHAVIOURS = {
  '/echo': socket => {
    socket.onmessage = ({ data }) => socket.send(data)
  },
  // Takes all and says nothing.
  '/absorb': () => {},
  // Sends so many numbered texts at once.
  '/count': (socket, query) => {
    for (let n = 0; n < Number(query.get('n')); n++) socket.send(`${n}`)
  },
  // Sends binary messages of one byte.
  '/bytes': (socket, query) => {
    for (let n = 0; n < Number(query.get('n')); n++) socket.send(new Uint8Array([n]))
  },
  // Does what each message says: { send: [text or bytes…], close: [code, reason] }.
  '/obey': socket => {
    socket.onmessage = ({ data }) => {
      const { send = [], close } = JSON.parse(data)
      for (const message of send) socket.send(typeof message === 'string' ? message : new Uint8Array(message))
      if (close) socket.close(...close)
    }
  },
  // Keeps what it hears, and how it ends.
  '/log': (socket, query) => {
    const heard = []
    socket.onmessage = ({ data }) => heard.push(bytesOf(data))
    socket.onclose = ({ code, reason, wasClean }) => logOf(query.get('name')).resolve({ heard, code, reason, wasClean })
  },
  // Says that.
  '/read': async (socket, query) => {
    socket.send(JSON.stringify(await logOf(query.get('name')).promise))
  },
}

/** The decision before a socket opens: `refuse`, `hold` or `open`. */
export const decide = path => (path === '/refuse' ? 'refuse' : path === '/hold' ? 'hold' : 'open')

export const chooseProtocol = (query, offered) => (query.has('protocol') ? query.get('protocol') || undefined : offered[0])

/** Behaves towards an open socket. */
export const behave = (socket, target) => {
  const { pathname, searchParams } = new URL(target, 'ws://server/')
  socket.binaryType = 'arraybuffer'
  return BEHAVIOURS[pathname]?.(socket, searchParams)
}
