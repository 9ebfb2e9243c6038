// The code in our documents: what they show is what runs.

import { readFileSync } from 'node:fs'

/** The fenced blocks of a Markdown file: `{language, name, code, line}`, with the name that stands after the language. */
export function samples(path) {
  const found = []
  let block
  for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
    const [, language, name] = /^```(\w*) ?(.*)$/.exec(line) ?? []
    if (language === undefined) block?.code.push(line)
    else if (block) block = undefined
    else found.push((block = { language, name, code: [], line: index + 2 }))
  }
  return found.map(block => ({ ...block, code: `${block.code.join('\n')}\n` }))
}
