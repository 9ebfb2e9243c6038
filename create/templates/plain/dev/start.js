// `npm run dev`: the relay, which serves the page and the package, too, and two tabs.

import { startRelay } from './relay.js'
import { openTabs } from './tabs.js'

const relay = await startRelay('--www', 'public', '--www', '/tunnel-wasm=node_modules/tunnel-wasm')
await openTabs(`${relay.replace('ws', 'http')}/`)
