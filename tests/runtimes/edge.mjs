// Imports the package where pages are rendered at the edge: it connects nobody there, but must not throw.

import { readFileSync } from 'node:fs'
import { EdgeVM } from '@edge-runtime/vm'
import { same } from './talk.mjs'

const code = readFileSync(new URL('node_modules/tunnel-wasm/tunnel_wasm.cjs', import.meta.url), 'utf8')
const names = new EdgeVM().evaluate(`(() => {
  const module = { exports: {} }
  ;((module, exports, require) => {${code}
  })(module, module.exports)
  const { PeerToPeerWebSocket } = module.exports
  let code
  try { new PeerToPeerWebSocket('wss://relay.example') } catch (error) { code = error.code }
  return [typeof module.exports.default, typeof PeerToPeerWebSocket, code]
})()`)
same(names, ['function', 'function', 'not-initialised'], 'what the edge sees')
console.log('imported')
