/** The instructions of `examples/livecode/` and the tunnel's six, as they stand there: `cargo xtask build` puts them beside the package. */

const NAMES = ['tunnel', 'chat', 'lobby', 'counter', 'store'];

/** A function's source without the indentation that it has inside a module. */
function dedent(source) {
  const [first, ...rest] = source.split('\n');
  const depths = rest.filter(line => line.trim()).map(line => line.length - line.trimStart().length);
  const depth = depths.length ? Math.min(...depths) : 0;
  return [first, ...rest.map(line => line.slice(Math.min(depth, line.length - line.trimStart().length)))].join('\n');
}

async function load(name) {
  const module = await import(`../pkg/bundles/livecode/${name}.js`);
  const instructions = Object.entries(module.default).map(([name, source]) => ({ name, source: dedent(`${source}`) }));
  return { name, title: module.title, instructions };
}

let presets;

/** `[{name, title, instructions: [{name, source}]}]` */
export const loadPresets = () => (presets ??= Promise.all(NAMES.map(load)));

/**
 * The tunnel's six as they are injected here. A relay of ours has them built in and takes its own text for that; with a line of the
 * page's in front, it runs the text.
 */
export async function tunnelSources() {
  const [{ instructions }] = await loadPresets();
  return instructions.map(({ name, source }) => ({ name, source: `// ${name}: runs in the relay's sandbox\n${source}` }));
}
