/** The files of a pad, as a Yjs document has them, and what becomes of them: a page to show, an archive. */
import { strToU8, Y, zipSync } from '../pkg/bundles/pad.js';
import { randomId } from '../room/format.js';

export const MAX_NAME = 60;

const FIRST = {
  'index.html': `<!doctype html>
<html lang="en">
  <title>Our page</title>
  <link rel="stylesheet" href="style.css">
  <h1>Hello, all of you</h1>
  <p>Everybody who has the link writes here, at the same time.</p>
  <button>Press me</button>
  <script src="app.js"></script>
</html>
`,
  'style.css': `body {
  margin: 2rem;
  font: 18px/1.5 system-ui, sans-serif;
  color: #1c1f23;
  background: #f5f4f0;
}
button { font: inherit; padding: .4em 1em; }
`,
  'app.js': `const button = document.querySelector('button')
let count = 0
button.onclick = () => {
  button.textContent = \`Pressed \${++count} times\`
}
`,
};

/** Files by an ID, so that one can be renamed while others write in it. */
export class Files extends EventTarget {
  #map;

  constructor(doc) {
    super();
    this.doc = doc;
    this.#map = doc.getMap('files');
    this.#map.observeDeep(() => this.dispatchEvent(new Event('change')));
  }

  /** Those that a new pad begins with. */
  begin() {
    if (this.#map.size) return;
    this.doc.transact(() => {
      for (const [name, text] of Object.entries(FIRST)) this.add(name, text);
    });
  }

  add(name, text = '') {
    const file = new Y.Map();
    file.set('name', name);
    file.set('text', new Y.Text(text));
    const id = randomId();
    this.#map.set(id, file);
    return id;
  }

  rename(id, name) {
    this.#map.get(id)?.set('name', name);
  }

  remove(id) {
    this.#map.delete(id);
  }

  /** All `{id, name, text}` by name; what somebody else's page has put there and is no file is left out. */
  list() {
    const files = [...this.#map]
      .map(([id, file]) => ({ id, name: file?.get?.('name'), text: file?.get?.('text') }))
      .filter(({ name, text }) => typeof name === 'string' && text instanceof Y.Text);
    return files.sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
  }

  get(id) {
    return this.list().find(file => file.id === id);
  }

  /** The fault of a name for a file; an empty text if there is none. */
  problem(name, id) {
    if (!/^[\w.-]+(\/[\w.-]+)*$/.test(name) || name.split('/').includes('..')) return 'Letters, digits, dots, dashes and slashes, please.';
    return this.list().some(file => file.name === name && file.id !== id) ? 'There is a file of that name.' : '';
  }

  /** One HTML text with the other files in it, where `index.html` names them. */
  page() {
    const files = new Map(this.list().map(({ name, text }) => [name, text.toString()]));
    const html = files.get('index.html');
    if (html === undefined) return '<!doctype html><p>There is no <code>index.html</code> to show.';
    const page = new DOMParser().parseFromString(html, 'text/html');
    const named = path => files.get((path ?? '').replace(/^\.?\//, ''));
    for (const link of page.querySelectorAll('link[rel="stylesheet"]')) {
      const text = named(link.getAttribute('href'));
      if (text === undefined) continue;
      const style = page.createElement('style');
      style.textContent = text;
      link.replaceWith(style);
    }
    for (const script of page.querySelectorAll('script[src]')) {
      const text = named(script.getAttribute('src'));
      if (text === undefined) continue;
      script.removeAttribute('src');
      script.textContent = text.replaceAll('</script', '<\\/script');
    }
    return `<!doctype html>${page.documentElement.outerHTML}`;
  }

  zip() {
    const entries = this.list().map(({ name, text }) => [name, strToU8(text.toString())]);
    return new Blob([zipSync(Object.fromEntries(entries))], { type: 'application/zip' });
  }
}
