/**
 * A small QR code encoder (ISO/IEC 18004): byte mode, error correction level M, versions 1 to 10, which is up
 * to 213 bytes of text and more than any link to a room needs.
 */

/** Level M, by version from 1: [error correction codewords of a block, data codewords of each block …]. */
const BLOCKS = [
  [10, 16],
  [16, 28],
  [26, 44],
  [18, 32, 32],
  [24, 43, 43],
  [16, 27, 27, 27, 27],
  [18, 31, 31, 31, 31],
  [22, 38, 38, 39, 39],
  [22, 36, 36, 36, 37, 37],
  [26, 43, 43, 43, 43, 44],
];

/** Centres of the alignment patterns, by version from 1. */
const ALIGNMENT = [
  [],
  [6, 18],
  [6, 22],
  [6, 26],
  [6, 30],
  [6, 34],
  [6, 22, 38],
  [6, 24, 42],
  [6, 26, 46],
  [6, 28, 50],
];

const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  x => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => ((y >> 1) + Math.floor(x / 3)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** Scanners need this many light modules around the symbol. */
const QUIET_ZONE = 4;

/**
 * The symbol for `text` as rows of booleans, dark being true. Throws a RangeError beyond 213 bytes of UTF-8.
 */
export function encode(text) {
  const bytes = new TextEncoder().encode(text);
  const version = versionFor(bytes.length);
  const codewords = interleave(dataCodewords(bytes, version), version);
  let best = null;
  for (let mask = 0; mask < MASKS.length; mask++) {
    const modules = draw(version, codewords, mask);
    const score = penalty(modules);
    if (!best || score < best.score) best = { modules, score };
  }
  return best.modules;
}

/**
 * The symbol for `text` as an SVG element with its quiet zone, dark on light whatever the page's colours are.
 */
export function toSvg(text, label) {
  const modules = encode(text);
  const size = modules.length + 2 * QUIET_ZONE;
  let path = '';
  modules.forEach((row, y) => {
    row.forEach((dark, x) => {
      if (dark) path += `M${x + QUIET_ZONE} ${y + QUIET_ZONE}h1v1h-1z`;
    });
  });
  const svg = svgElement('svg', { viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': label });
  svg.append(
    svgElement('rect', { width: size, height: size, fill: '#fff' }),
    // Antialiasing would leave hairlines between neighbouring modules.
    svgElement('path', { d: path, fill: '#000', 'shape-rendering': 'crispEdges' }),
  );
  return svg;
}

function svgElement(name, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

function dataCapacity(version) {
  return sum(BLOCKS[version - 1].slice(1));
}

/** Bits of the character count in byte mode. */
function countBits(version) {
  return version < 10 ? 8 : 16;
}

function versionFor(length) {
  for (let version = 1; version <= BLOCKS.length; version++) {
    if (4 + countBits(version) + 8 * length <= 8 * dataCapacity(version)) return version;
  }
  throw new RangeError(`${length} bytes do not fit into a QR code of version ${BLOCKS.length}`);
}

function dataCodewords(bytes, version) {
  const bits = [];
  const put = (value, count) => {
    for (let bit = count - 1; bit >= 0; bit--) bits.push((value >> bit) & 1);
  };
  put(0b0100, 4); // byte mode
  put(bytes.length, countBits(version));
  for (const byte of bytes) put(byte, 8);
  const capacity = 8 * dataCapacity(version);
  put(0, Math.min(4, capacity - bits.length)); // terminator
  put(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < capacity; pad ^= 0xec ^ 0x11) put(pad, 8);

  const codewords = new Uint8Array(capacity / 8);
  bits.forEach((bit, at) => (codewords[at >> 3] |= bit << (7 - (at & 7))));
  return codewords;
}

/** Splits into blocks, adds each one's error correction, and takes codewords from the blocks in turn. */
function interleave(data, version) {
  const [correction, ...lengths] = BLOCKS[version - 1];
  const divisor = generator(correction);
  let at = 0;
  const blocks = lengths.map(length => data.subarray(at, (at += length)));
  const checks = blocks.map(block => remainder(block, divisor));
  const result = [];
  for (let i = 0; i < Math.max(...lengths); i++) {
    for (const block of blocks) if (i < block.length) result.push(block[i]);
  }
  for (let i = 0; i < correction; i++) {
    for (const check of checks) result.push(check[i]);
  }
  return result;
}

/** Product in the field of 256 elements over x^8 + x^4 + x^3 + x^2 + 1. */
function multiply(a, b) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> bit) & 1) * a;
  }
  return product;
}

/** Coefficients of (x - 1)(x - 2)(x - 4)… of this degree, without the leading 1. */
function generator(degree) {
  const coefficients = new Uint8Array(degree);
  coefficients[degree - 1] = 1;
  for (let i = 0, root = 1; i < degree; i++, root = multiply(root, 2)) {
    for (let j = 0; j < degree; j++) {
      coefficients[j] = multiply(coefficients[j], root) ^ (j + 1 < degree ? coefficients[j + 1] : 0);
    }
  }
  return coefficients;
}

function remainder(data, divisor) {
  const rest = new Uint8Array(divisor.length);
  for (const byte of data) {
    const factor = byte ^ rest[0];
    rest.copyWithin(0, 1);
    rest[rest.length - 1] = 0;
    divisor.forEach((coefficient, i) => (rest[i] ^= multiply(coefficient, factor)));
  }
  return rest;
}

/**
 * `value` followed by its remainder by the polynomial `divisor` of `degree`: format and version information.
 */
function withCheckBits(value, divisor, degree) {
  let rest = value << degree;
  for (let bit = Math.floor(Math.log2(rest || 1)); bit >= degree; bit--) {
    if ((rest >> bit) & 1) rest ^= divisor << (bit - degree);
  }
  return (value << degree) | rest;
}

function draw(version, codewords, mask) {
  const size = 17 + 4 * version;
  const modules = Array.from({ length: size }, () => new Array(size).fill(null)); // null: free for data
  const set = (x, y, dark) => {
    if (x >= 0 && y >= 0 && x < size && y < size) modules[y][x] = Boolean(dark);
  };
  /** Concentric squares around a centre; `dark` tells the colour by distance. */
  const rings = (centreX, centreY, radius, dark) => {
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        set(centreX + dx, centreY + dy, dark(Math.max(Math.abs(dx), Math.abs(dy))));
      }
    }
  };

  for (const [x, y] of [
    [3, 3],
    [size - 4, 3],
    [3, size - 4],
  ]) {
    rings(x, y, 4, distance => distance !== 2 && distance !== 4); // finder and its light separator
  }
  for (const x of ALIGNMENT[version - 1]) {
    for (const y of ALIGNMENT[version - 1]) {
      const underFinder = (x === 6 && y === 6) || (x === 6 && y === size - 7) || (x === size - 7 && y === 6);
      if (!underFinder) rings(x, y, 2, distance => distance !== 1);
    }
  }
  for (let i = 8; i < size - 8; i++) {
    set(i, 6, i % 2 === 0); // timing
    set(6, i, i % 2 === 0);
  }
  drawFormat(set, size, mask);
  if (version >= 7) drawVersion(set, size, version);
  drawData(modules, size, codewords, MASKS[mask]);
  return modules;
}

function drawFormat(set, size, mask) {
  const format = withCheckBits((0b00 << 3) | mask, 0x537, 10) ^ 0x5412; // 00 is level M
  const bit = i => (format >> i) & 1;
  for (let i = 0; i < 6; i++) set(8, i, bit(i));
  set(8, 7, bit(6));
  set(8, 8, bit(7));
  set(7, 8, bit(8));
  for (let i = 9; i < 15; i++) set(14 - i, 8, bit(i));
  for (let i = 0; i < 8; i++) set(size - 1 - i, 8, bit(i));
  for (let i = 8; i < 15; i++) set(8, size - 15 + i, bit(i));
  set(8, size - 8, true); // always dark
}

function drawVersion(set, size, version) {
  const bits = withCheckBits(version, 0x1f25, 12);
  for (let i = 0; i < 18; i++) {
    const near = Math.floor(i / 3);
    const far = size - 11 + (i % 3);
    set(far, near, (bits >> i) & 1);
    set(near, far, (bits >> i) & 1);
  }
}

/**
 * Fills columns of two from the right, upwards and downwards in turn; what is left over stays light but
 * masked.
 */
function drawData(modules, size, codewords, masked) {
  let at = 0;
  let upward = true;
  for (let right = size - 1; right > 0; right -= 2) {
    if (right === 6) right = 5; // the timing column is skipped
    for (let step = 0; step < size; step++) {
      const y = upward ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (modules[y][x] !== null) continue;
        const bit = at < codewords.length * 8 && (codewords[at >> 3] >> (7 - (at & 7))) & 1;
        modules[y][x] = Boolean(bit) !== masked(x, y);
        at++;
      }
    }
    upward = !upward;
  }
}

/**
 * The penalty of a symbol that is hard to scan: long runs, blocks, look-alikes of the finder, and imbalance cost points.
 */
function penalty(modules) {
  const size = modules.length;
  const columns = modules.map((_, x) => modules.map(row => row[x]));
  let score = 0;
  for (const line of [...modules, ...columns]) {
    const text = line.map(Number).join('');
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) score += run.length - 2;
    for (let at = 0; at + 11 <= size; at++) {
      const window = text.slice(at, at + 11);
      if (window === '10111010000' || window === '00001011101') score += 40;
    }
  }
  for (let y = 0; y + 1 < size; y++) {
    for (let x = 0; x + 1 < size; x++) {
      const four = modules[y][x] + modules[y][x + 1] + modules[y + 1][x] + modules[y + 1][x + 1];
      if (four === 0 || four === 4) score += 3;
    }
  }
  const dark = sum(modules.map(row => sum(row.map(Number)))) / (size * size);
  return score + 10 * Math.floor(Math.abs(dark * 100 - 50) / 5);
}
