// The npm package's entry point: what wasm-bindgen's glue exports of it, and its initialisation.

import instantiate, {
  __wbg_reset_state as reset,
  initSync as instantiateSync,
  isDead,
  skipWarmUp,
  TunnelError,
} from 'glue';
import { initialiser } from './init.js';

const url = () => new URL('tunnel_wasm_bg.wasm', import.meta.url);
const fail = (code, message) => new TunnelError(message, { code });

const started = given => given?.warmUp === false && skipWarmUp();

/** Makes a new instance of a module that has trapped; says whether it has. */
const restart = () => {
  const wanted = isDead();
  if (wanted) reset();
  return wanted;
};

const { init, initSync } = initialiser(instantiate, instantiateSync, url, fail, started, restart);
export { init as default, initSync };

export {
  ForwardingClientWebSocket,
  ForwardingServerWebSocket,
  ForwardingWebSocket,
  getLinks,
  NodeJSLivecodingClient,
  NodeJSTunnelingClient,
  observe,
  PeerToPeerWebSocket,
  TunnelError,
  useLivecode,
} from 'glue';
