import { openRoom } from './room'

const find = <T extends HTMLElement>(selector: string) => document.querySelector<T>(selector)!
const state = find('#state')
const link = find<HTMLAnchorElement>('#link')
const text = find<HTMLInputElement>('#text')

try {
  const room = await openRoom({
    line(words) {
      const line = document.createElement('li')
      line.textContent = words
      find('#lines').append(line)
    },
    state: words => (state.textContent = words),
    link(url) {
      link.href = url
      link.hidden = false
    },
  })
  find('#form').onsubmit = event => {
    event.preventDefault()
    room.say(text.value)
    text.value = ''
  }
} catch (error) {
  state.textContent = String(error)
}
