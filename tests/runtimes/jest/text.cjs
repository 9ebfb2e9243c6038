// What Jest's jsdom lacks, though Node.js has it.

const { TextDecoder, TextEncoder } = require('node:util')
Object.assign(globalThis, { TextDecoder, TextEncoder })
