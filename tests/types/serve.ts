// The API of `tunnel-wasm/serve`. It is compiled, never run.

import { ForwardingServerWebSocket } from 'tunnel-wasm'
import { fetchThrough, serve, ServedResponse, type AskerInfo, type FetchThroughInit, type RequestHandler, type ServeOptions } from 'tunnel-wasm/serve'

const server = await ForwardingServerWebSocket.newThrough('wss://relay.example')
const handler: RequestHandler = async (request, info: AskerInfo) => {
  const name: string | null = request.headers.get('cookie') ?? info.remoteId
  return new ServedResponse(name, { headers: [['set-cookie', 'a=1']] })
}
const options: ServeOptions = { accept: ({ remoteId }) => remoteId !== null, maxExchanges: 8, answerWithin: 1000 }
serve(server, [80, { first: 8000, last: 8080 }], handler, options).close()
serve(server, 81, () => new Response(), { onsocket: socket => socket.send('hello'), protocols: ['chat'] })

const init: FetchThroughInit = { method: 'POST', body: 'text', redirect: 'manual', tunnel: { token: 'secret' } }
const response: Response = await fetchThrough(`${server.url}/80/path`, init)
export const text: string = await response.text()

// @ts-expect-error A request is made by `serve` only.
new (await import('tunnel-wasm/serve')).ServedRequest()
