#!/usr/bin/env node
// Runs a program, which is in a package of its own for each platform.
'use strict'
const { spawn } = require('node:child_process')
const platform = `${process.platform}-${process.arch}`
let binary
try {
  binary = require.resolve(`PACKAGE-${platform}/BINARY`)
} catch {
  console.error(
    `error: the package PACKAGE-${platform} is not installed: either there is none for this platform, or npm was told to ` +
      'leave out optional dependencies; the program can be built from its source, too'
  )
  process.exit(1)
}
const child = spawn(binary, process.argv.slice(2), { stdio: 'inherit' })
child.on('error', error => {
  console.error(`error: ${error.message}`)
  process.exit(1)
})
// A terminal sends Ctrl-C to both: the program decides when it ends.
process.on('SIGINT', () => {})
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code, signal) => (signal ? process.kill(process.pid, signal) : process.exit(code)))
