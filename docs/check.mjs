// Looks for links that lead nowhere in the pages that VitePress has made: `node check.mjs FOLDER`. Links to other pages of the site have to
// be in www/, and anchors on the page that they name. VitePress itself refuses links between documents that are not there.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const BASE = '/docs/'
const folder = process.argv[2]
const site = join(import.meta.dirname, '../www')
const pages = readdirSync(folder, { recursive: true }).filter(name => name.endsWith('.html') && !name.startsWith('rust'))
const read = new Map(pages.map(page => [page, readFileSync(join(folder, page), 'utf8')]))
const anchors = new Map([...read].map(([page, html]) => [page, new Set([...html.matchAll(/ (?:id|name)="([^"]+)"/g)].map(([, id]) => id))]))
const decoded = text => decodeURIComponent(text.replaceAll('&amp;', '&'))

const wrong = []
let count = 0
for (const [page, html] of read) {
  for (const [, given] of html.matchAll(/<(?:a|link|img|script)\s[^>]*?(?:href|src)="([^"]*)"/g)) {
    const { origin, pathname, hash } = new URL(given.replaceAll('&amp;', '&'), `https://site.invalid${BASE}${page}`)
    if (origin !== 'https://site.invalid') continue
    count++
    const say = why => wrong.push(`${page}: ${given}: ${why}`)
    const path = decoded(pathname)
    if (!path.startsWith(BASE)) {
      if (!existsSync(join(site, path))) say('not in www/')
      continue
    }
    if (path.startsWith(`${BASE}rust/`)) continue
    let target = path.slice(BASE.length)
    if (target === '' || target.endsWith('/')) target += 'index.html'
    else if (!/\.\w+$/.test(target)) target += '.html'
    if (!existsSync(join(folder, target))) say('no such file')
    else if (hash && anchors.has(target) && !anchors.get(target).has(decoded(hash.slice(1)))) say('no such heading')
  }
}
if (wrong.length) {
  console.error([...new Set(wrong)].join('\n'))
  console.error(`\n${wrong.length} links lead nowhere`)
  process.exit(1)
}
if (pages.length < 30 || count < 1000) throw new Error(`only ${count} links in ${pages.length} pages: is this the right folder?`)
console.log(`${count} links in ${pages.length} pages lead somewhere`)
