// The entry point `tunnel-wasm/livecode` of the npm package.

import instantiate, { __wbg_reset_state as reset, initSync as instantiateSync, isDead } from 'glue';
import { initialiser } from '../../../js/init.js';

const url = () => new URL('tunnel_livecode_bg.wasm', import.meta.url);
const fail = (code, message) => Object.assign(new Error(message), { code });

/** Makes a new instance of a module that has trapped; says whether it has. */
const restart = () => {
  const wanted = isDead();
  if (wanted) reset();
  return wanted;
};

const { init, initSync } = initialiser(instantiate, instantiateSync, url, fail, undefined, restart);
export { init as default, initSync };

export { Client, LivecodeCore, LivecodeLinkCore, prepare } from 'glue';
