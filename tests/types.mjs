// Compiles tests/types, the samples of README.md and docs/guide, and the examples of the declarations with `tsc --strict`, as in a project
// that has installed the package: `node types.mjs FOLDER`.

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { samples } from './samples.mjs'

const folder = process.argv[2]
const root = join(import.meta.dirname, '..')
rmSync(folder, { recursive: true, force: true })
mkdirSync(join(folder, 'node_modules'), { recursive: true })
symlinkSync(join(root, 'pkg'), join(folder, 'node_modules/tunnel-wasm'), 'dir')
// Packages that the samples for frameworks import.
for (const [name, from] of [['react', '@types/react'], ['vue', 'vue']]) {
  symlinkSync(join(root, 'docs/node_modules', from), join(folder, 'node_modules', name), 'dir')
}
cpSync(join(root, 'tests/types'), folder, { recursive: true })
writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }')

// What is declared is described, but for what the platform has overloaded.
const isDeclared = line => /^(export |static |readonly |[a-z]\w*\??[:(])/i.test(line) && !line.endsWith(',')
const isPlain = line => /^(private|protected|addEventListener)/.test(line)
for (const file of ['tunnel_wasm.d.ts', 'tunnel_livecode.d.ts', 'serve.d.ts']) {
  const declarations = readFileSync(join(root, 'pkg', file), 'utf8').split('\n').map(line => line.trim())
  const isDescribed = n => declarations[n - 1].endsWith('*/')
  const bare = declarations.filter((line, n) => isDeclared(line) && !isPlain(line) && !isDescribed(n))
  if (bare.length) throw new Error(`${file} declares without a description:\n${bare.join('\n')}`)
}

const documents = ['README.md', 'docs/reloads.md', ...readdirSync(join(root, 'docs/guide')).map(name => `docs/guide/${name}`)]
let count = 0
for (const document of documents) {
  for (const { language, code, line } of samples(join(root, document))) {
    if (!['js', 'ts', 'tsx'].includes(language)) continue
    const ending = language === 'tsx' ? 'tsx' : 'ts'
    writeFileSync(join(folder, `${document.replaceAll('/', '-')}-line-${line}.${ending}`), code)
    count++
  }
}
if (count < 35) throw new Error(`README.md and docs/guide have ${count} samples only`)

// The examples in the declarations, each in a function of its own that knows a server, a socket and what the example leaves out.
const PRELUDE = `import init, {
  ForwardingServerWebSocket, type NodeJSLivecodingClient, PeerToPeerWebSocket, type ListenOptions, type ServerOptions, TunnelError,
  getLinks, observe,
} from 'tunnel-wasm'
import { fetchThrough, serve } from 'tunnel-wasm/serve'
declare const server: ForwardingServerWebSocket, socket: PeerToPeerWebSocket, livecode: NodeJSLivecodingClient
declare const relay: string, url: string, serverId: string, name: string, friends: Set<string>
declare function greet(socket: PeerToPeerWebSocket): void
declare function openRoom(path: string): Promise<{ say(data: unknown): void }>
declare function newGame(): object
declare function show(data: unknown): void
declare function showThatNobodyIsThere(): void
export {}
`
let examples = 0
for (const file of readdirSync(join(root, 'js')).filter(name => name.endsWith('.d.ts'))) {
  const text = readFileSync(join(root, 'js', file), 'utf8')
  for (const [comment] of text.matchAll(/\/\*\*.*?\*\//gs)) {
    const [, example] = /@example\n(.*?)\n *(?:\*\/|\* @)/s.exec(comment) ?? []
    if (example === undefined) continue
    const code = example.split('\n').map(line => line.replace(/^ *\* ?/, ''))
    const imports = code.filter(line => line.startsWith('import '))
    // An example may import what others leave out.
    const isImported = line => imports.some(each => each.includes(` ${/^declare function (\w+)/.exec(line)?.[1]} `))
    const prelude = PRELUDE.split('\n').filter(line => !isImported(line))
    const rest = code.filter(line => !line.startsWith('import '))
    const option = /^\w+: /.test(code[0]) ? [`const options: ServerOptions & ListenOptions = {`, ...rest, '}'] : rest
    writeFileSync(join(folder, `example-${++examples}-in-${file.replaceAll('.', '-')}.ts`), `${[...imports, ...prelude].join('\n')}\nasync function example() {\n${option.join('\n')}\n}\n`)
  }
}
if (examples < 20) throw new Error(`the declarations have ${examples} examples only`)

const common = { strict: true, noEmit: true, target: 'es2022', lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'], types: [] }
const stricter = { noImplicitOverride: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true }
const settings = { ...common, ...stricter, skipLibCheck: false, verbatimModuleSyntax: true, moduleDetection: 'force', jsx: 'react-jsx' }
for (const [module, moduleResolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  const compilerOptions = { ...settings, module, moduleResolution }
  const project = join(folder, `tsconfig.${moduleResolution}.json`)
  writeFileSync(project, JSON.stringify({ compilerOptions, include: ['*.ts', '*.tsx'] }))
  const tsc = join(root, 'tests/node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [tsc, '--project', project, '--pretty', 'false'], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
console.log(`${count} samples of README.md and docs/guide, ${examples} examples of the declarations, and tests/types, compile`)
