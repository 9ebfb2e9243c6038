// In place of wasm-bindgen's own of three times the size: what browsers without SIMD would need is not in it.

let wasm, initialising;

function begin({ exports }) {
  wasm = exports;
  wasm.__wbindgen_start();
  return wasm;
}

async function load(given = new URL('MODULE', import.meta.url)) {
  let source = await given;
  if (typeof source === 'string' || source instanceof URL || source instanceof Request) source = await fetch(source);
  const imports = __wbg_get_imports();
  if (source instanceof WebAssembly.Module) return WebAssembly.instantiate(source, imports);
  if (source instanceof Response) {
    const { ok, status, statusText, url, headers } = source;
    if (!ok) throw new Error(`failed to fetch Wasm: ${status} ${statusText} fetching '${url}'`);
    if (headers.get('Content-Type') === 'application/wasm') {
      return (await WebAssembly.instantiateStreaming(source, imports)).instance;
    }
    console.warn(`${url} is not served as application/wasm: it is not compiled while it arrives`);
    source = await source.arrayBuffer();
  }
  return (await WebAssembly.instantiate(source, imports)).instance;
}

/** What was given, also inside an object. */
const unwrapped = (given, name) =>
  given && Object.getPrototypeOf(given) === Object.prototype ? given[name] : given;

async function init(given) {
  const failed = error => {
    initialising = undefined;
    throw error;
  };
  initialising ??= wasm ?? load(unwrapped(given, 'module_or_path')).then(begin).catch(failed);
  return initialising;
}

function initSync(given) {
  if (wasm) return wasm;
  const source = unwrapped(given, 'module');
  const module = source instanceof WebAssembly.Module ? source : new WebAssembly.Module(source);
  return begin(new WebAssembly.Instance(module, __wbg_get_imports()));
}

export { initSync, init as default };
