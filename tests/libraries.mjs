// Bundles the samples of docs/libraries.md for the tabs of a test: `node libraries.mjs FOLDER`.

import * as esbuild from 'esbuild'
import { samples } from './samples.mjs'

const outdir = process.argv[2]
const modules = new Map()
for (const { name, code } of samples(new URL('../docs/libraries.md', import.meta.url))) if (name) modules.set(name, code)

const samplesPlugin = {
  name: 'samples',
  setup(build) {
    build.onResolve({ filter: /^sample:/ }, ({ path }) => ({ path: path.slice(7), namespace: 'sample' }))
    const resolveDir = import.meta.dirname
    build.onLoad({ filter: /.*/, namespace: 'sample' }, ({ path }) => ({ contents: modules.get(path), resolveDir }))
    // The tab has the package already.
    build.onResolve({ filter: /^tunnel-wasm$/ }, () => ({ path: '/pkg/tunnel_wasm.js', external: true }))
    // aedes is written for Node.
    build.onResolve({ filter: /^node:(events|buffer)$/ }, ({ path, ...from }) => build.resolve(path.slice(5), from))
    build.onResolve({ filter: /^(node:)?stream$/ }, ({ path, ...from }) => build.resolve('readable-stream', from))
    const forNode = { path: 'mqtt/node.js', namespace: 'sample' }
    build.onResolve({ filter: /^((node:)?(util|crypto)|assert)$/ }, () => forNode)
  },
}
const entryPoints = [...modules.keys()]
  .filter(name => /\/(client|server)\.js$/.test(name))
  .map(name => ({ in: `sample:${name}`, out: name.replace(/\.js$/, '') }))
const options = { outdir, bundle: true, format: 'esm', target: 'es2022', logLevel: 'warning', plugins: [samplesPlugin] }
const isForNode = ({ out }) => out === 'mqtt/server'
await esbuild.build({ ...options, entryPoints: entryPoints.filter(entry => !isForNode(entry)) })
await esbuild.build({ ...options, entryPoints: entryPoints.filter(isForNode), inject: ['sample:mqtt/globals.js'] })
