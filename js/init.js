// Initialisation of a WebAssembly module of the package. It wraps that of wasm-bindgen: a page may call it several times,
// also at once, and JavaScript and WebAssembly of different builds are refused, which would fail in strange ways later.

/** The custom section with the build stamp, which `cargo xtask build` writes, as it does `BUILD` in the JavaScript. */
const SECTION = 'tunnel-build';

/** jsdom has neither Request nor Response. */
const isA = (value, name) => globalThis[name] !== undefined && value instanceof globalThis[name];

async function compile(given) {
  let source = await given;
  if (typeof source === 'string' || source instanceof URL || isA(source, 'Request')) source = await fetch(source);
  if (source instanceof WebAssembly.Module) return source;
  if (isA(source, 'Response')) {
    const { ok, status, statusText, url, headers } = source;
    if (!ok) throw new Error(`failed to fetch Wasm: ${status} ${statusText} fetching '${url}'`);
    if (headers.get('Content-Type') === 'application/wasm') return WebAssembly.compileStreaming(source);
    console.warn(`${url} is not served as application/wasm: it is not compiled while it arrives`);
    source = await source.arrayBuffer();
  }
  return WebAssembly.compile(source);
}

/** Returns whether options were given instead of a module; they may come from another frame. */
const isOptions = given => Object.prototype.toString.call(given) === '[object Object]';

/** The value that was given, also inside options. */
const unwrapped = (given, name) => (isOptions(given) ? given[name] : given);

/**
 * Makes `init` and `initSync` of the two that wasm-bindgen has made. `url` returns the module's address; `fail` makes an
 * error of a code and a message; `started` is called with what the first call was given; `restart` makes a new instance of
 * a module that has trapped, and says whether it had to.
 */
export function initialiser(instantiate, instantiateSync, url, fail, started = () => {}, restart = () => false) {
  const checked = module => {
    const [section] = WebAssembly.Module.customSections(module, SECTION);
    const build = section ? new TextDecoder().decode(section) : 'unknown';
    if (build === BUILD) return module;
    const message =
      `the JavaScript is of build ${BUILD}, the WebAssembly of build ${build}: ` +
      'load both from the same copy of the package, and look for a cache that still has one of another version';
    throw fail('build-mismatch', message);
  };

  let initialising;

  async function init(given) {
    const start = async () => {
      const module = checked(await compile(unwrapped(given, 'module_or_path') ?? url()));
      const exports = await instantiate({ module_or_path: module });
      started(given);
      return exports;
    };
    const failed = error => {
      initialising = undefined;
      throw error;
    };
    if (restart()) initialising = instantiate();
    initialising ??= start().catch(failed);
    return initialising;
  }

  function initSync(given) {
    if (restart()) {
      const exports = instantiateSync();
      initialising = Promise.resolve(exports);
      return exports;
    }
    const source = unwrapped(given, 'module');
    const module = source instanceof WebAssembly.Module ? source : new WebAssembly.Module(source);
    const exports = instantiateSync({ module: checked(module) });
    if (!initialising) started(given);
    initialising ??= Promise.resolve(exports);
    return exports;
  }

  return { init, initSync };
}
