// `npm run dev`: the relay, Vite, and two tabs. With VITE_RELAY=wss://… in the environment, that relay instead of one of its own.

import { createServer } from 'vite'
import { startRelay } from './relay.js'
import { openTabs } from './tabs.js'

process.env.VITE_RELAY ??= await startRelay()
const vite = await createServer()
await vite.listen()
await openTabs(vite.resolvedUrls.local[0])
