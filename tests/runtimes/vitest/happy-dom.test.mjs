// @vitest-environment happy-dom

import init, * as library from 'tunnel-wasm'
import { expect, test } from 'vitest'
import { talk } from '../talk.mjs'

test('a server and its clients talk in happy-dom', async () => {
  expect(document.body).toBeDefined()
  await init()
  await talk(library, process.env.RELAY)
}, 60_000)
