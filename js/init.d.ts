
/** Where the WebAssembly module comes from: an address of it, a response, its bytes, or the module itself. */
export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

/** The exports of the WebAssembly module. They are the library's own, and change from version to version. */
export interface InitOutput {
  /** Where it keeps its state. */
  readonly memory: WebAssembly.Memory;
}

/**
 * Loads the library; the classes throw before that. Again it does nothing.
 *
 * Without an argument the module is the one that belongs to the package: inside the script, or beside it. A service
 * worker, or a page whose server has moved the file, may say where it is.
 */
export default function init(
  from?: { module_or_path: InitInput | Promise<InitInput> } | InitInput | Promise<InitInput>,
): Promise<InitOutput>;

/** The same with bytes or a compiled module that are there already, at once. */
export function initSync(from: { module: BufferSource | WebAssembly.Module }): InitOutput;
