// `tunnel-wasm/serve`: requests and responses of HTTP over sockets, from tab to tab (docs/PROTOCOL.md, 4). It uses the public
// API of the package only, and nothing of it is in the main module.

export { fetchThrough } from './client.js';
export { serve } from './server.js';
export { ServedRequest, ServedResponse } from './messages.js';
