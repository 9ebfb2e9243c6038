// Compiles tests/types and the samples of README.md and docs/guide with `tsc --strict`, as in a project that has installed the package:
// `node types.mjs FOLDER`.

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { samples } from './samples.mjs'

const folder = process.argv[2]
const root = join(import.meta.dirname, '..')
rmSync(folder, { recursive: true, force: true })
mkdirSync(join(folder, 'node_modules'), { recursive: true })
symlinkSync(join(root, 'pkg'), join(folder, 'node_modules/tunnel-wasm'), 'dir')
cpSync(join(root, 'tests/types'), folder, { recursive: true })
writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }')

// What is declared is described, but for what the platform has overloaded.
const declarations = readFileSync(join(root, 'pkg/tunnel_wasm.d.ts'), 'utf8').split('\n').map(line => line.trim())
const isDeclared = line => /^(export |static |readonly |[a-z]\w*\??[:(])/i.test(line) && !line.endsWith(',')
const isPlain = line => /^(private|protected|addEventListener)/.test(line)
const bare = declarations.filter((line, n) => isDeclared(line) && !isPlain(line) && !declarations[n - 1].endsWith('*/'))
if (bare.length) throw new Error(`declared without a description:\n${bare.join('\n')}`)

const documents = ['README.md', 'docs/reloads.md', ...readdirSync(join(root, 'docs/guide')).map(name => `docs/guide/${name}`)]
let count = 0
for (const document of documents) {
  for (const { language, code, line } of samples(join(root, document))) {
    if (language !== 'js' && language !== 'ts') continue
    writeFileSync(join(folder, `${document.replaceAll('/', '-')}-line-${line}.ts`), code)
    count++
  }
}
if (count < 20) throw new Error(`README.md and docs/guide have ${count} samples only`)

const common = { strict: true, noEmit: true, target: 'es2022', lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'], types: [] }
const stricter = { noImplicitOverride: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true }
const settings = { ...common, ...stricter, skipLibCheck: false, verbatimModuleSyntax: true, moduleDetection: 'force' }
for (const [module, moduleResolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  const compilerOptions = { ...settings, module, moduleResolution }
  const project = join(folder, `tsconfig.${moduleResolution}.json`)
  writeFileSync(project, JSON.stringify({ compilerOptions, include: ['*.ts'] }))
  const tsc = join(root, 'tests/node_modules/typescript/bin/tsc')
  const { status } = spawnSync(process.execPath, [tsc, '--project', project, '--pretty', 'false'], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
}
console.log(`${count} samples of README.md and docs/guide, and tests/types, compile`)
