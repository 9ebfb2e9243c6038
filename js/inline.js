// The WebAssembly module of the inline form of the package: a text of ASCII, as `xtask/src/build/bundle.rs` encodes it.

const FIRST = 35;
const COUNT = 88;

export function decode(text, length) {
  const bytes = new Uint8Array(length);
  let at = 0;
  let base = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i) - FIRST;
    if (code >= COUNT) {
      base = (code - COUNT + 1) * COUNT;
    } else {
      bytes[at++] = base + code;
      base = 0;
    }
  }
  return bytes;
}
