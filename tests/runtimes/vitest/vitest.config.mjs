export default { test: { setupFiles: ['./websocket.mjs'] } }
