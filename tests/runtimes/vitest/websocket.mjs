// jsdom's WebSocket connects nowhere in vitest, which puts jsdom's `Event` in the place of the one that it uses.

import { WebSocket } from 'ws'

if (globalThis.jsdom) globalThis.WebSocket = WebSocket
