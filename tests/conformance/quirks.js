// Where an engine's own class is not as the standard says: such a case is run with ours, which has to pass. One that the
// engine's own passes as well is to be taken off here.

const QUIRKS = {
  Chromium: [
    // It cuts the fraction off.
    'close.js: codes are rounded, ties to even',
    // It takes an `undefined` that is given for 0.
    'close.js: a reason without a code goes with 1000',
  ],
  Firefox: [
    // It sends neither.
    'close.js: a reason without a code goes with 1000',
    // It opens without a subprotocol.
    'constructor.js: a server that chooses none of several subprotocols fails the connection',
    // It takes null for a method.
    'constructor.js: an iterator method that is null makes no sequence',
  ],
  WebKit: [
    'close.js: codes are rounded, ties to even',
    'close.js: a reason without a code goes with 1000',
    'constructor.js: a server that chooses none of several subprotocols fails the connection',
    'constructor.js: the iterator is asked for once',
    // It counts headers of frames.
    'attributes.js: bufferedAmount rises with what is sent too late, and stays',
    // It drops a Blob that is still being read when close() is called, and what was sent behind it.
    'send.js: bytes are copied at once',
    'send.js: Blobs keep their place among messages, and come before the end',
  ],
}

const { userAgent } = navigator

export const quirks = QUIRKS[/Firefox/.test(userAgent) ? 'Firefox' : /Chrome/.test(userAgent) ? 'Chromium' : 'WebKit']
