// Changes that the tests make to the platform underneath the library.

const { send } = WebSocket.prototype
const said = new Set()

WebSocket.prototype.send = function (data) {
  said.add(this)
  send.call(this, data)
}

/** Ends every connection that something was sent over, as a network does that goes away; the library may dial again. */
export const cut = () => {
  for (const socket of said) socket.close()
  said.clear()
}

/** Returns whether a page or worker of this origin holds the identity of this name. */
export const isHeld = async name => {
  const { held } = await navigator.locks.query()
  return held.some(lock => lock.name.endsWith(` ${name}`))
}

/** True if there is storage of this tab: workers have none. */
export const hasTabStorage = () => 'sessionStorage' in globalThis
