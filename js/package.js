// The npm package's entry point: what wasm-bindgen's glue exports of it, and its initialisation.

import instantiate, { initSync as instantiateSync, skipWarmUp, TunnelError } from 'glue';
import { initialiser } from './init.js';

const url = () => new URL('tunnel_wasm_bg.wasm', import.meta.url);
const fail = (code, message) => new TunnelError(message, { code });

const started = given => given?.warmUp === false && skipWarmUp();

const { init, initSync } = initialiser(instantiate, instantiateSync, url, fail, started);
export { init as default, initSync };

export {
  ForwardingClientWebSocket,
  ForwardingServerWebSocket,
  ForwardingWebSocket,
  NodeJSLivecodingClient,
  NodeJSTunnelingClient,
  PeerToPeerWebSocket,
  TunnelError,
  useLivecode,
} from 'glue';
