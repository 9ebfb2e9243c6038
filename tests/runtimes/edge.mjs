// Imports the package where pages are rendered at the edge: it connects nobody there, but must not throw.

import { readFileSync } from 'node:fs'
import { EdgeVM } from '@edge-runtime/vm'
import { same } from './talk.mjs'

const code = readFileSync(new URL('node_modules/tunnel-wasm/tunnel_wasm.cjs', import.meta.url), 'utf8')

/** What there is of the package, and what a socket throws, in a scope that `prepare` has changed. */
const seen = prepare => new EdgeVM().evaluate(`(() => {
  ${prepare}
  const module = { exports: {} }
  ;((module, exports, require) => {${code}
  })(module, module.exports)
  const { PeerToPeerWebSocket } = module.exports
  let code
  try { new PeerToPeerWebSocket('wss://relay.example') } catch (error) { code = error.code }
  return [typeof module.exports.default, typeof PeerToPeerWebSocket, code]
})()`)

const expected = ['function', 'function', 'not-initialised']
same(seen(''), expected, 'what the edge sees')
// As in Next.js, which says so of what Node.js has and the edge has not.
const stub = `Object.defineProperty(globalThis, 'MessageEvent', { get: () => function () { throw new Error('not here') } })`
same(seen(stub), expected, "what Next.js's edge sees")
console.log('imported')
