'use client'

import { useEffect, useState } from 'react'
import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from 'tunnel-wasm'

export default function Tunnel() {
  const [said, say] = useState('nothing')
  useEffect(() => {
    const talk = async () => {
      await init()
      const server = await ForwardingServerWebSocket.newThrough(new URLSearchParams(location.search).get('relay'))
      server.listen(7, socket => {
        socket.onmessage = ({ data }) => socket.send(`you said ${data}`)
      })
      const socket = new PeerToPeerWebSocket(`${server.url}/7`)
      socket.onmessage = ({ data }) => say(data)
      await socket.opened
      socket.send('hello')
    }
    talk().catch(error => say(`${error}`))
  }, [])
  return <p>{said}</p>
}
