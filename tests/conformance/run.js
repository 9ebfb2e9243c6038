// Runs all cases, in a page or a worker.

import * as attributes from './attributes.js'
import * as binaryType from './binary-type.js'
import * as close from './close.js'
import * as closeEvent from './close-event.js'
import * as construct from './constructor.js'
import * as eventHandlers from './event-handlers.js'
import * as eventTarget from './event-target.js'
import * as events from './events.js'
import { run } from './harness.js'
import * as interfaces from './interface.js'
import { quirks } from './quirks.js'
import * as send from './send.js'
import * as streams from './streams.js'

const FILES = {
  'attributes.js': attributes,
  'binary-type.js': binaryType,
  'close.js': close,
  'close-event.js': closeEvent,
  'constructor.js': construct,
  'event-handlers.js': eventHandlers,
  'event-target.js': eventTarget,
  'events.js': events,
  'interface.js': interfaces,
  'send.js': send,
  'streams.js': streams,
}

/** The result of each case, for the platform's class with its server and for ours. */
export const compare = async (PeerToPeerWebSocket, urls) => {
  const subject = (WebSocket, name, base) => ({ WebSocket, name, url: path => `${base}${path}` })
  const expected = await run(FILES, subject(WebSocket, 'WebSocket', urls.native))
  const actual = await run(FILES, subject(PeerToPeerWebSocket, 'PeerToPeerWebSocket', urls.ours))
  const problems = quirks.filter(what => !expected[what]).map(what => `${what}: no such case`)
  for (const [what, native] of Object.entries(expected)) {
    const { value, error, stack } = actual[what]
    if (error) problems.push(`${what}: ${error}\n${stack}`)
    if (quirks.includes(what)) {
      if (!native.error) problems.push(`${what}: the platform's own passes, so it is no quirk`)
    } else if (native.error) {
      problems.push(`${what}: the platform's own: ${native.error}\n${native.stack}`)
    } else if (JSON.stringify(value) !== JSON.stringify(native.value)) {
      problems.push(`${what}: ${JSON.stringify(value)} instead of ${JSON.stringify(native.value)}`)
    }
  }
  return { count: Object.keys(expected).length, problems }
}
