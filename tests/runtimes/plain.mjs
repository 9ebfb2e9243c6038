// The package in a runtime that is no browser, in the form that is asked for: `plain.mjs FORM RELAY`.

import { readFileSync } from 'node:fs'
import { same, talk } from './talk.mjs'

const [form, relay] = process.argv.slice(2)
const folder = new URL('node_modules/tunnel-wasm/', import.meta.url)
const library = await import(form === 'inline' ? 'tunnel-wasm' : new URL('tunnel_wasm.js', folder).href)
await library.default(form === 'inline' ? undefined : { module_or_path: readFileSync(new URL('tunnel_wasm_bg.wasm', folder)) })
await talk(library, relay)

const options = { identity: 'name' }
const named = await library.ForwardingServerWebSocket.newThrough(relay, options).catch(({ code }) => code)
same(named, 'no-identity', 'a name where nothing is kept')

const { bun, deno, node } = process.versions
const started = performance.now()
process.on('exit', () => console.log(`it ended ${Math.round(performance.now() - started)} ms later`))
console.log(`talked in ${bun ? 'Bun' : deno ? 'Deno' : 'Node.js'} ${bun ?? deno ?? node}`)
