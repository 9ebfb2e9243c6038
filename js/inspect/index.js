// `tunnel-wasm/inspect`: a panel that shows the page's links, servers and sockets, and cuts, delays and ends them. It uses the
// public API of the package only. Where there is no document, as in Node.js, it does nothing.

import { mendAll } from './network.js';
import { Panel } from './panel.js';
import { Records } from './records.js';

const records = new Records();
let panel;

if (globalThis.document) {
  records.start();
  panel = new Panel(records);
}

export function show() {
  panel?.show();
}

export function hide() {
  panel?.hide();
}

export function remove() {
  records.stop();
  mendAll();
  panel?.remove();
  panel = undefined;
}

export const report = () => records.report();
