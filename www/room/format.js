/** Small pure helpers: numbers for people to read, names, and text that came from strangers. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** 1234567 as "1.2 MB"; decimal units, as file managers and network speeds have them. */
export function formatBytes(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit > 0 && value < 99.5 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Bytes a second as "12.3 MB/s". */
export function formatSpeed(bytesPerSecond) {
  const megabytes = bytesPerSecond / 1e6;
  return `${megabytes < 9.95 ? megabytes.toFixed(2) : megabytes.toFixed(1)} MB/s`;
}

export function formatDuration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.ceil(seconds / 3600)} h`;
}

export function formatTime(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}

/** A digest's beginning and end: enough to compare by eye. */
export function shortDigest(sha256) {
  return `${sha256.slice(0, 8)}…${sha256.slice(-4)}`;
}

/**
 * One line of a stranger's text, at most `max` characters long: without control characters and without those
 * that turn the direction of writing, which could make a name look like another one.
 */
export function cleanLine(text, max) {
  if (typeof text !== 'string') return '';
  const plain = text.replace(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]+/gu, ' ');
  return [...plain.trim()].slice(0, max).join('').trim();
}

/** Parts of a text: `{text}`, and `{text, href}` for each address of a web page in it. */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(/\bhttps?:\/\/[^\s<>"]+/giu)) {
    const link = withoutPunctuation(found);
    if (!URL.canParse(link)) continue;
    if (index > end) parts.push({ text: text.slice(end, index) });
    parts.push({ text: link, href: link });
    end = index + link.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** The end of a sentence, and a bracket that the address did not open, are not the address's. */
function withoutPunctuation(link) {
  const shorter = link.replace(/[.,:;!?'’”*_]+$/u, '');
  const isClosed = shorter.endsWith(')') && !shorter.includes('(');
  const rest = isClosed ? shorter.slice(0, -1) : shorter;
  return rest === link ? link : withoutPunctuation(rest);
}

const MOODS = [
  'Amber',
  'Brave',
  'Calm',
  'Clever',
  'Gentle',
  'Happy',
  'Lucky',
  'Nimble',
  'Quiet',
  'Sunny',
  'Swift',
  'Wise',
];
const ANIMALS = [
  'Badger',
  'Crane',
  'Falcon',
  'Fox',
  'Hare',
  'Heron',
  'Lynx',
  'Marten',
  'Otter',
  'Owl',
  'Robin',
  'Seal',
];

export function randomName() {
  const pick = words => words[Math.floor(Math.random() * words.length)];
  return `${pick(MOODS)} ${pick(ANIMALS)}`;
}

/** 128 random bits in hexadecimal. */
export function randomId() {
  // Not randomUUID, which only secure contexts have.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
}

/** One of eight colours, the same for the same text everywhere. */
export function hueOf(text) {
  let hash = 0;
  for (const character of text) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return hash % 8;
}

/** A value that this tab keeps when it is reloaded; storage may be turned off, and it is then as if it were a new tab. */
export function remembered(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? undefined;
  } catch {
    return undefined;
  }
}

export function remember(key, value) {
  try {
    if (value === undefined) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // It lives as long as the page.
  }
}
