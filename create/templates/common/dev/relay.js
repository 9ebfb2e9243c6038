// The relay of `npm run dev`: the program in the npm package tunnel-relay.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Starts a relay on a free port, for this machine only. Resolves with its address, `ws://…`. It ends with this process. */
export async function startRelay(...options) {
  const program = fileURLToPath(import.meta.resolve('tunnel-relay/tunnel-relay.js'))
  const line = [program, 'serve', '--listen', '127.0.0.1:0', '--log', 'warn', ...options]
  const relay = spawn(process.execPath, line, { stdio: ['ignore', 'pipe', 'inherit'] })
  process.on('exit', () => relay.kill())
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit())
  relay.on('exit', () => {
    console.error('The relay has ended: it says above why.')
    process.exit(1)
  })
  const [listening] = await once(createInterface({ input: relay.stdout }), 'line')
  return listening.replace('listening on ', '')
}
