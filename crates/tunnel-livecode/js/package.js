// The entry point `tunnel-wasm/livecode` of the npm package.

import instantiate, { initSync as instantiateSync } from 'glue';
import { initialiser } from '../../../js/init.js';

const url = () => new URL('tunnel_livecode_bg.wasm', import.meta.url);
const fail = (code, message) => Object.assign(new Error(message), { code });

const { init, initSync } = initialiser(instantiate, instantiateSync, url, fail);
export { init as default, initSync };

export { Client, LivecodeCore, LivecodeLinkCore, prepare } from 'glue';
