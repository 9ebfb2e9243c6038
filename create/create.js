#!/usr/bin/env node
// `npm create tunnel-wasm`: makes a project of one of the folders in templates/, and installs what it needs.

import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, 'package.json'), 'utf8'))

/** The folders that make up each template: a later one replaces files of an earlier one. */
const TEMPLATES = {
  plain: ['common', 'plain'],
  vite: ['common', 'with-vite', 'vite'],
  react: ['common', 'with-vite', 'react'],
}

const HELP = `Makes a project in which two browser tabs talk.

  npm create tunnel-wasm [FOLDER] -- [--template NAME] [--from FOLDER] [--no-install]

  --template NAME   plain (no bundler), vite (with TypeScript; the default) or react (the same with React)
  --from FOLDER     takes tunnel-wasm and its relay from packed files, as \`cargo xtask dist\` makes them
  --no-install      does not run npm install
`

/** A mistake of whoever runs this: only its text is shown. */
class Mistake extends Error {}

/** Options and folder; asks for what is missing where somebody sits at a terminal. */
async function readArguments() {
  let given
  try {
    given = parseArgs({
      allowPositionals: true,
      options: {
        template: { type: 'string', short: 't' },
        from: { type: 'string' },
        'no-install': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new Mistake(`${error.message}\n\n${HELP}`)
  }
  const { values, positionals } = given
  if (values.help) return { help: true }
  if (positionals.length > 1) throw new Mistake(`one folder, not ${positionals.length}: ${positionals.join(', ')}`)
  let [folder] = positionals
  let { template } = values
  if (folder === undefined) {
    if (!process.stdin.isTTY) throw new Mistake('name the folder of the project: npm create tunnel-wasm my-app')
    const terminal = createInterface({ input: process.stdin, output: process.stdout })
    folder = (await terminal.question('Folder of the project (tunnel-app): ')).trim() || 'tunnel-app'
    template ??= (await terminal.question(`Template: ${Object.keys(TEMPLATES).join(', ')} (vite): `)).trim() || undefined
    terminal.close()
  }
  return { folder, template: template ?? 'vite', from: values.from, install: !values['no-install'] }
}

/** Fails unless a project can be made in the folder. */
function check(folder, template) {
  if (!Object.hasOwn(TEMPLATES, template)) {
    throw new Mistake(`there is no template "${template}": take ${Object.keys(TEMPLATES).join(', ')}`)
  }
  const name = basename(folder)
  if (!/^[a-z0-9][a-z0-9._-]{0,213}$/.test(name) || name === 'node_modules') {
    throw new Mistake(`"${name}" can't be the name of an npm package: use small letters, digits, - and _, as in my-app`)
  }
  let content
  try {
    content = readdirSync(folder)
  } catch (error) {
    if (error.code === 'ENOENT') return
    if (error.code === 'ENOTDIR') throw new Mistake(`${folder} is a file, or below one: take another name`)
    throw new Mistake(`${folder} can't be read: ${error.message}`)
  }
  if (content.some(entry => entry !== '.git')) {
    throw new Mistake(`${folder} is not empty, and nothing in it is overwritten: take another name, or empty it`)
  }
}

/** The packed files of the packages that the project needs: `{name: file}`. */
function packedIn(folder) {
  const packed = {}
  let files
  try {
    files = readdirSync(folder)
  } catch (error) {
    throw new Mistake(`--from ${folder}: it can't be read: ${error.message}`)
  }
  const platform = `tunnel-relay-${process.platform}-${process.arch}`
  for (const name of ['tunnel-wasm', 'tunnel-relay', platform]) {
    const file = `${name}-${version}.tgz`
    if (!files.includes(file)) throw new Mistake(`--from ${folder}: there is no ${file} in it; \`cargo xtask dist\` makes it`)
    packed[name] = file
  }
  return packed
}

/** Writes the project's files. */
function write(folder, template, from) {
  const packed = from === undefined ? {} : packedIn(from)
  mkdirSync(folder, { recursive: true })
  for (const part of TEMPLATES[template]) cpSync(join(import.meta.dirname, 'templates', part), folder, { recursive: true })
  // npm packs no file that is called .gitignore.
  renameSync(join(folder, 'gitignore'), join(folder, '.gitignore'))

  const manifestFile = join(folder, 'package.json')
  const manifest = { name: basename(folder), ...JSON.parse(readFileSync(manifestFile, 'utf8')) }
  manifest.dependencies = { 'tunnel-wasm': `^${version}`, ...manifest.dependencies }
  manifest.devDependencies = { ...manifest.devDependencies, 'tunnel-relay': `^${version}` }
  for (const [name, file] of Object.entries(packed)) {
    mkdirSync(join(folder, 'packages'), { recursive: true })
    copyFileSync(join(from, file), join(folder, 'packages', file))
    const list = name === 'tunnel-wasm' ? manifest.dependencies : manifest.devDependencies
    list[name] = `file:packages/${file}`
  }
  writeFileSync(manifestFile, `${JSON.stringify(manifest, null, 2)}\n`)
}

/** Runs `npm install` in the project. */
function install(folder, from) {
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const options = { cwd: folder, stdio: 'inherit', shell: process.platform === 'win32' }
  const { status, error } = spawnSync(npm, ['install', '--no-audit', '--no-fund'], options)
  if (status === 0) return
  const reason = error ? `npm can't be started: ${error.message}` : 'npm install failed: it says above why'
  const published = from === undefined ? ' If it has not found tunnel-wasm, give `--from` the folder of its packed files.' : ''
  throw new Mistake(`${reason}. The project is in ${folder}; with a network, run \`npm install\` there.${published}`)
}

async function main() {
  const { help, folder: named, template, from, install: wanted } = await readArguments()
  if (help) {
    console.log(HELP)
    return
  }
  const folder = resolve(named)
  check(folder, template)
  try {
    write(folder, template, from)
  } catch (error) {
    if (error instanceof Mistake || !error.code) throw error
    throw new Mistake(`the project can't be written to ${folder}: ${error.message}`)
  }
  if (wanted) install(folder, from)
  const here = relative(process.cwd(), folder)
  const steps = [...(here ? [`cd ${here}`] : []), ...(wanted ? [] : ['npm install']), 'npm run dev']
  console.log(`\nA project (${template}) is in ${folder}. Two tabs talk after:\n\n  ${steps.join('\n  ')}\n`)
}

main().catch(error => {
  console.error(`error: ${error instanceof Mistake ? error.message : error.stack}`)
  process.exitCode = 1
})
