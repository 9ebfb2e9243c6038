// The package as an ECMAScript module.

import init, * as library from 'tunnel-wasm'
import { talk } from '../talk.mjs'

test('a server and its clients talk in Jest as ECMAScript modules', async () => {
  await init()
  await talk(library, process.env.RELAY)
})
