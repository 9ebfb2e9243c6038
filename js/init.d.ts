
/** The source of the WebAssembly module: an address of it, a response, its bytes, or the module itself. */
export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

/** The exports of the WebAssembly module. They are the library's own, and change from version to version. */
export interface InitOutput {
  /** The memory of the module, with its state. */
  readonly memory: WebAssembly.Memory;
}

/** Options of loading. */
export interface InitOptions {
  /** The WebAssembly module; the package's own if there is none. */
  module_or_path?: InitInput | Promise<InitInput> | undefined;
  /**
   * True lets the page connect to itself when it is idle, which compiles code and halves the time of its first connection.
   * The module `tunnel-wasm/livecode` has no warm-up.
   *
   * @default true
   */
  warmUp?: boolean;
}

/**
 * Loads the library; the classes throw before that. Again it does nothing, unless the module has failed since: all sockets and
 * servers have ended with code 1011 then, the classes throw, and this makes a new one.
 *
 * Without an argument the module is the one that belongs to the package: inside the script, or beside it. A service
 * worker, or a page whose server has moved the file, may say where it is.
 *
 * @example
 * await init()
 * await init({ module_or_path: '/assets/tunnel_wasm_bg.wasm' })
 */
export default function init(
  from?: InitOptions | InitInput | Promise<InitInput>,
): Promise<InitOutput>;

/** The same with bytes or a compiled module that are there already, at once. */
export function initSync(from: { module: BufferSource | WebAssembly.Module; warmUp?: boolean }): InitOutput;
