// The documents as pages: `cargo xtask site`.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { defineConfig } from 'vitepress'

const docs = join(import.meta.dirname, '..')
const root = join(docs, '..')
const REPOSITORY = 'https://github.com/tunnel-wasm/tunnel-wasm'

/** The first heading of a document. */
const title = file => /^# (.*)$/m.exec(readFileSync(join(docs, file), 'utf8'))?.[1] ?? file
const page = file => ({ text: title(file), link: `/${file.replace(/(index)?\.md$/, '')}` })
const group = (text, ...files) => ({ text, items: files.map(page) })

/** The reference of the Rust crate, where `cargo xtask site` puts it beside the pages. */
const rust = process.env.TUNNEL_DOCS_RUST ? [{ text: 'Rust crate', link: '/rust/tunnel_wasm/index.html', target: '_self' }] : []

/** The pages of the types, which typedoc has made of the package. */
function api() {
  const list = folder => readdirSync(join(docs, 'api', folder)).sort()
  if (!existsSync(join(docs, 'api'))) throw new Error('docs/api is missing: `cargo xtask site` makes it')
  const modules = list('').filter(name => !name.includes('.'))
  const kinds = modules.map(module => ({
    text: module === 'tunnel_wasm' ? 'tunnel-wasm' : `tunnel-wasm/${module}`,
    collapsed: true,
    items: list(module)
      .filter(kind => !kind.includes('.'))
      .flatMap(kind => list(join(module, kind)).map(file => ({ text: file.replace('.md', ''), link: `/api/${module}/${kind}/${file.replace('.md', '')}` }))),
  }))
  return { text: 'Reference', items: [page('errors.md'), { text: 'API', link: '/api/' }, ...kinds, ...rust] }
}

const sidebar = [
  group('Begin', 'guide/start.md', 'guide/tutorial.md', 'guide/frameworks.md', 'guide/bundlers.md', 'guide/workers.md'),
  group('Use', 'guide/connection.md', 'reloads.md', 'guide/messages.md', 'guide/identity.md', 'guide/http.md', 'guide/inspect.md', 'guide/security.md'),
  group('Build', 'guide/documents.md', 'guide/games.md', 'libraries.md', 'native.md', 'guide/rust.md', 'guide/livecoding.md'),
  group('Decide', 'guide/comparison.md', 'guide/moving.md', 'BENCHMARKS.md', 'SIZE.md', 'CONFORMANCE.md'),
  group('Run', 'guide/deploy.md', 'OPERATING.md', 'troubleshooting.md', 'guide/faq.md'),
  api(),
  group('Inside', 'PROTOCOL.md', 'SECURITY.md', 'CRYPTO.md'),
]

/** The anchor of a heading as GitHub makes it, so that links work in both. */
const slugify = heading => heading.trim().toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-')

/** Links out of docs/ lead to the repository. */
function linksToRepository(markdown) {
  markdown.core.ruler.after('inline', 'links-to-repository', ({ tokens, env }) => {
    for (const token of tokens.flatMap(({ children }) => children ?? [])) {
      const href = token.type === 'link_open' ? token.attrGet('href') : null
      if (!href || /^([a-z]+:|#|\/)/.test(href)) continue
      const [path, hash] = href.split('#')
      const file = relative(root, join(dirname(env.path), path)).replaceAll(sep, '/')
      if (file.startsWith('docs/') && file.endsWith('.md')) continue
      if (!existsSync(join(root, file))) throw new Error(`${relative(root, env.path)} links to ${href}, which is not there`)
      token.attrSet('href', `${REPOSITORY}/blob/main/${file}${hash ? `#${hash}` : ''}`)
    }
  })
}

export default defineConfig({
  title: 'tunnel-wasm',
  description: 'Sockets between web browsers: the documents',
  base: '/docs/',
  outDir: join(root, 'site/docs'),
  cacheDir: join(docs, 'node_modules/.vitepress'),
  srcExclude: ['guide/README.md', 'node_modules/**'],
  markdown: { config: linksToRepository, anchor: { slugify } },
  head: [['link', { rel: 'icon', href: '/favicon.svg' }]],
  // Indexes for programs that read: the pages, and the guide in one file.
  buildEnd({ outDir, pages }) {
    const guide = pages.filter(file => file.startsWith('guide/'))
    const list = pages.map(file => `- [${title(file)}](/docs/${file.replace(/\.md$/, '.html')})`).sort()
    writeFileSync(join(outDir, 'llms.txt'), `# Documents of tunnel-wasm\n\n${list.join('\n')}\n`)
    const text = guide.map(file => readFileSync(join(docs, file), 'utf8')).join('\n\n')
    writeFileSync(join(outDir, 'llms-full.txt'), text)
  },
  themeConfig: {
    siteTitle: 'tunnel-wasm',
    nav: [
      { text: 'Site', link: '/../', target: '_self' },
      { text: 'Tutorial', link: '/guide/tutorial' },
      { text: 'API', link: '/api/' },
      { text: 'Errors', link: '/errors' },
    ],
    sidebar,
    outline: [2, 3],
    search: { provider: 'local' },
    editLink: { pattern: `${REPOSITORY}/edit/main/docs/:path` },
    socialLinks: [{ icon: 'github', link: REPOSITORY }],
  },
})
