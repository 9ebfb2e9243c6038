import { resolve } from 'node:path'

/** Turbopack follows links within its root only, which is the project unless it is told otherwise. */
const { ROOT } = process.env
export default ROOT ? { turbopack: { root: resolve(import.meta.dirname, ROOT) } } : {}
