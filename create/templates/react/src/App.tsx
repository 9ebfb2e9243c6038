import { useEffect, useState, type FormEvent } from 'react'
import { openRoom, type Room } from './room'

export function App() {
  const [state, setState] = useState('Starting …')
  const [link, setLink] = useState('')
  const [lines, setLines] = useState<string[]>([])
  const [text, setText] = useState('')
  const [room, setRoom] = useState<Room>()

  // An effect that connects gives up and closes in its clean-up. StrictMode runs it twice: the second room waits until the first is closed.
  useEffect(() => {
    const gone = new AbortController()
    const { signal } = gone
    const view = {
      line: (words: string) => signal.aborted || setLines(lines => [...lines, words]),
      state: (words: string) => signal.aborted || setState(words),
      link: (url: string) => signal.aborted || setLink(url),
    }
    const opening = openRoom(view, signal)
    opening.then(room => signal.aborted || setRoom(room), error => signal.aborted || setState(String(error)))
    return () => {
      gone.abort()
      opening.then(room => room.close(), () => {})
    }
  }, [])

  function send(event: FormEvent) {
    event.preventDefault()
    room?.say(text)
    setText('')
  }

  return (
    <>
      <h1>Two tabs</h1>
      <p id="state" role="status">{state}</p>
      {link && <p><a id="link" href={link} target="_blank">Join this room</a></p>}
      <ul id="lines">{lines.map((line, index) => <li key={index}>{line}</li>)}</ul>
      <form id="form" onSubmit={send}>
        <input id="text" aria-label="Message" autoComplete="off" required value={text} onChange={event => setText(event.target.value)} />
        <button disabled={!room}>Send</button>
      </form>
    </>
  )
}
