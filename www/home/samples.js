/** The code of the start page, in four languages: a server and a client each. */
import { copy } from '../room/copy.js';

const SAMPLES = {
  JavaScript: {
    server: `import init, { ForwardingServerWebSocket } from 'tunnel-wasm'

await init()
const server = await ForwardingServerWebSocket.newThrough('RELAY')
server.listen(1337, socket => {
  socket.onmessage = ({ data }) => socket.send(data)
})
console.log(server.url)`,
    client: `import init, { PeerToPeerWebSocket } from 'tunnel-wasm'

await init()
const socket = new PeerToPeerWebSocket(\`\${serverUrl}/1337\`)
socket.onopen = () => socket.send('hello')
socket.onmessage = ({ data }) => console.log(data)`,
  },
  TypeScript: {
    server: `import init, { ForwardingServerWebSocket, type PeerToPeerWebSocket } from 'tunnel-wasm'

await init()
const server = await ForwardingServerWebSocket.newThrough('RELAY', { identity: 'my server' })
server.listen(1337, async (socket: PeerToPeerWebSocket) => {
  for await (const message of socket) socket.send(message)
}, { accept: ({ remoteId }) => friends.has(remoteId) })`,
    client: `import init, { PeerToPeerWebSocket, TunnelError } from 'tunnel-wasm'

await init()
const socket = PeerToPeerWebSocket.toPort(1337, serverId, 'RELAY')
try {
  const { readable, writable } = await socket.opened
} catch (error) {
  if (error instanceof TunnelError && error.code === 'server-not-found') retryLater()
}`,
  },
  React: {
    server: `useEffect(() => {
  const gone = new AbortController()
  ForwardingServerWebSocket.newThrough('RELAY', { signal: gone.signal }).then(server => {
    gone.signal.addEventListener('abort', () => server.close())
    server.listen(1337, socket => {
      socket.onmessage = ({ data }) => setMessages(all => [...all, data])
    })
    setLink(server.url)
  }, () => {})
  return () => gone.abort()
}, [])`,
    client: `useEffect(() => {
  const socket = new PeerToPeerWebSocket(\`\${serverUrl}/1337\`)
  socket.onmessage = ({ data }) => setMessages(all => [...all, data])
  socket.addEventListener('reconnecting', () => setIsAway(true))
  socket.addEventListener('reconnected', () => setIsAway(false))
  return () => socket.close()
}, [serverUrl])`,
  },
  Rust: {
    server: `let mut server = Server::builder("RELAY").host().await?;
let mut clients = server.listen(1337)?;
while let Some(client) = clients.next().await {
    let mut socket = client.accept("").await?;
    spawn_local(async move {
        while let Some(Ok(message)) = socket.next().await {
            socket.send(message).await.ok();
        }
    });
}`,
    client: `let mut socket = Socket::builder("RELAY", server_id, 1337).connect().await?;
socket.send(Message::Text("hello".into())).await?;
while let Some(message) = socket.next().await {
    show(message?);
}`,
  },
};

function card(title, text) {
  const article = Object.assign(document.createElement('article'), { className: 'card' });
  const header = document.createElement('header');
  header.append(Object.assign(document.createElement('h3'), { textContent: title }));
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Copy' });
  button.setAttribute('aria-label', `Copy: ${title}`);
  button.addEventListener('click', async () => {
    if (!(await copy(text))) return getSelection().selectAllChildren(code);
    button.textContent = 'Copied';
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
  header.append(button);
  const code = Object.assign(document.createElement('pre'), { textContent: text, tabIndex: 0 });
  article.append(header, code);
  return article;
}

/** Fills the tab list and its panels. Arrow keys move between tabs, as ARIA's pattern has it. */
export function showSamples(tabs, panels, relayUrl) {
  const select = name => {
    for (const tab of tabs.children) {
      const isSelected = tab.textContent === name;
      tab.setAttribute('aria-selected', `${isSelected}`);
      tab.tabIndex = isSelected ? 0 : -1;
    }
    for (const panel of panels.children) panel.hidden = panel.id !== `sample-${name}`;
  };
  for (const [name, { server, client }] of Object.entries(SAMPLES)) {
    const tab = Object.assign(document.createElement('button'), { type: 'button', textContent: name, id: `tab-${name}` });
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-controls', `sample-${name}`);
    tab.addEventListener('click', () => select(name));
    tabs.append(tab);
    const panel = Object.assign(document.createElement('div'), { className: 'pair', id: `sample-${name}` });
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', tab.id);
    const texts = [server, client].map(text => text.replace('RELAY', relayUrl));
    panel.append(card('A tab that serves', texts[0]), card('Any other tab', texts[1]));
    panels.append(panel);
  }
  tabs.addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const all = [...tabs.children];
    const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    next.focus();
    select(next.textContent);
  });
  select('JavaScript');
}
