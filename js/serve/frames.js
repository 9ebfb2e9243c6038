// The frames of `tunnel.http.v1`: a text is the head of a request or response, binary messages are its body, and an empty
// text ends the body. Whatever else comes breaks the rules, and ends the socket.

/** The subprotocol. */
export const HTTP = 'tunnel.http.v1';

/** Longest piece of a body in one message, in bytes. */
export const MAX_PIECE = 65_536;

/** Longest head, in UTF-16 code units. They take two bytes at most, since headers are of Latin-1: a head fits into a piece. */
const MAX_HEAD = 32_768;
/** Most header fields of one head. */
const MAX_FIELDS = 100;
/** Longest path with query, in bytes: it is ASCII. */
const MAX_URL = 8192;

/** Close codes of the subprotocol. */
export const BAD_FRAME = 4400;
export const STALLED = 4408;
export const CANCELLED = 4499;
export const FAILED = 4500;

/** Statuses whose responses have no body. */
const WITHOUT_BODY = [204, 205, 304];

const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$/;
/** A path and query in ASCII, as URL parsers write them. */
const TARGET = /^\/[\x21\x22\x24-\x7e]*$/;

/** The other side broke the rules. The message is the reason of a close: ASCII, and at most 123 characters. */
export class FrameError extends Error {}

const refuse = problem => {
  throw new FrameError(problem);
};

/** Reads a head's JSON, and its headers, which both kinds have. */
function parse(text) {
  if (typeof text !== 'string') refuse('a body came where a head was expected');
  if (text.length > MAX_HEAD) refuse(`a head has more than ${MAX_HEAD} characters`);
  let head;
  try {
    head = JSON.parse(text);
  } catch {
    refuse('a head is no JSON');
  }
  if (typeof head !== 'object' || head === null) refuse('a head is no object');
  const { headers, body } = head;
  if (typeof body !== 'boolean') refuse('a head does not say whether a body follows');
  const areFields = Array.isArray(headers) && headers.every(isField);
  if (!areFields) refuse('the headers of a head are no list of pairs of texts');
  if (headers.length > MAX_FIELDS) refuse(`a head has more than ${MAX_FIELDS} header fields`);
  try {
    head.headers = new Headers(headers);
  } catch {
    refuse('a head has a header that is not valid');
  }
  return head;
}

const isField = field =>
  Array.isArray(field) && field.length === 2 && field.every(part => typeof part === 'string');

/** Reads the head of a request: `{ method, url, headers, body }`. */
export function parseRequest(text) {
  const { method, url, headers, body } = parse(text);
  if (typeof method !== 'string' || !METHOD.test(method)) refuse('the method of a request is not valid');
  if (typeof url !== 'string' || url.length > MAX_URL || !TARGET.test(url)) {
    refuse(`the URL of a request is no path and query of ASCII of at most ${MAX_URL} characters`);
  }
  return { method, url, headers, body };
}

/** Reads the head of a response: `{ status, headers, body }`. */
export function parseResponse(text) {
  const { status, headers, body } = parse(text);
  if (!Number.isInteger(status) || status < 200 || status > 599) refuse('the status of a response is not valid');
  if (body && WITHOUT_BODY.includes(status)) refuse(`a response of status ${status} has a body`);
  return { status, headers, body };
}

/** Writes a head. A `TypeError` says what is too long. */
export function writeHead(head) {
  const headers = [...head.headers];
  if (headers.length > MAX_FIELDS) throw new TypeError(`there are more than ${MAX_FIELDS} header fields`);
  if (head.url?.length > MAX_URL) throw new TypeError(`path and query have more than ${MAX_URL} characters`);
  const text = JSON.stringify({ ...head, headers });
  if (text.length > MAX_HEAD) throw new TypeError(`method, URL and headers have more than ${MAX_HEAD} characters`);
  return text;
}

/**
 * Sends a body, piece by piece, as fast as the other side takes it. When `gone` is aborted, the body's source is told at
 * once, also if it has nothing to send just then.
 */
export async function writeBody(writer, body, gone) {
  const reader = body.getReader();
  const cancel = () => reader.cancel(gone.reason).catch(() => {});
  gone.addEventListener('abort', cancel);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      gone.throwIfAborted();
      if (done) break;
      if (!(value instanceof Uint8Array)) throw new TypeError('a body has a chunk that is no Uint8Array');
      for (let at = 0; at < value.length; at += MAX_PIECE) await writer.write(value.subarray(at, at + MAX_PIECE));
    }
  } catch (error) {
    reader.cancel(error).catch(() => {});
    throw error;
  } finally {
    gone.removeEventListener('abort', cancel);
  }
  await writer.write('');
}

/**
 * The pieces of one body as they come over a socket. `next` returns the socket's next message, and throws when there is
 * none; `done` is called once the body has ended well.
 */
export function readBody(next, { done = () => {}, failed = () => {}, cancelled = () => {} } = {}) {
  const pull = async controller => {
    try {
      const piece = await next();
      if (piece === '') {
        controller.close();
        done();
      } else if (typeof piece === 'string') {
        refuse('a text came where a body was expected');
      } else if (piece.length === 0) {
        refuse('a piece of a body is empty');
      } else if (piece.length > MAX_PIECE) {
        refuse(`a piece of a body has more than ${MAX_PIECE} bytes`);
      } else {
        controller.enqueue(piece);
      }
    } catch (error) {
      failed(error);
      throw error;
    }
  };
  // Nothing is read ahead: what nobody takes waits at its sender.
  return new ReadableStream({ pull, cancel: cancelled }, { highWaterMark: 0 });
}
