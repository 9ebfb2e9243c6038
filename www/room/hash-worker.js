/**
 * Computes SHA-256 beside the page, so that hashing never freezes it. Requests:
 *
 * - `{ id, blob }` digests a whole Blob, read slice by slice;
 * - `{ id, chunks }` adds ArrayBuffers to a running digest (which starts by itself), and answers `{ id, bytes
 *   }`;
 * - `{ id, finish: true }` ends a running digest; `{ id, drop: true }` forgets it.
 *
 * A digest is answered as `{ id, sha256 }`, or `{ id, sha256: null }` when the Blob can't be read.
 */
import { Sha256 } from './sha256.js';

const SLICE = 4 * 1024 * 1024;
const running = new Map();

self.onmessage = async ({ data: { id, blob, chunks, finish, drop } }) => {
  if (blob) self.postMessage({ id, sha256: await digest(blob).catch(() => null) });
  if (chunks) {
    if (!running.has(id)) running.set(id, new Sha256());
    let bytes = 0;
    for (const chunk of chunks) {
      running.get(id).update(new Uint8Array(chunk));
      bytes += chunk.byteLength;
    }
    self.postMessage({ id, bytes });
  }
  if (finish) self.postMessage({ id, sha256: (running.get(id) ?? new Sha256()).finish() });
  if (finish || drop) running.delete(id);
};

async function digest(blob) {
  const hash = new Sha256();
  for (let at = 0; at < blob.size; at += SLICE) {
    hash.update(new Uint8Array(await blob.slice(at, at + SLICE).arrayBuffer()));
  }
  return hash.finish();
}
