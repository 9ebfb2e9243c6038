// Serves the package and the pages over https, with a certificate of the moment.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [, , ...mounts] = process.argv
const folders = mounts.map(mount => mount.split('='))
const TYPES = { html: 'text/html', js: 'text/javascript', wasm: 'application/wasm' }

const folder = mkdtempSync(join(tmpdir(), 'https-'))
const [key, cert] = ['key', 'cert'].map(name => join(folder, name))
const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=localhost', '-keyout', key, '-out', cert]
execFileSync('openssl', request, { stdio: 'ignore' })
const options = { key: readFileSync(key), cert: readFileSync(cert) }
rmSync(folder, { recursive: true })

const server = createServer(options, ({ url }, response) => {
  const [prefix, root] = folders.find(([prefix]) => url.startsWith(`${prefix}/`)) ?? []
  try {
    const path = join(root, url.slice(prefix.length))
    const body = readFileSync(path)
    response.writeHead(200, { 'content-type': TYPES[path.split('.').at(-1)] ?? 'text/plain' }).end(body)
  } catch {
    response.writeHead(404).end()
  }
})
server.listen(0, '127.0.0.1', () => console.log(`listening on https://localhost:${server.address().port}`))
