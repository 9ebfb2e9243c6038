// The terminal of www/terminal: xterm.js. A page imports it as `../pkg/bundles/terminal.js`, with `terminal.css` beside it.
import '@xterm/xterm/css/xterm.css';

export { Terminal } from '@xterm/xterm';
