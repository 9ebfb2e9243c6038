//! The memory of messages on their way to the page. `link.rs` keeps that of frames here, and the classes give it to messages.

use js_sys::{ArrayBuffer, Uint8Array};
use std::cell::RefCell;

thread_local! {
    /// The memory of the frame that arrived last, with its length in bytes. Nobody reads it any more.
    static SPARE: RefCell<Option<(ArrayBuffer, usize)>> = const { RefCell::new(None) };
}

/// Keeps the memory of a frame that has been read, of `len` bytes, for [`to_buffer`].
pub(crate) fn keep(buffer: &ArrayBuffer, len: usize) {
    SPARE.set(Some((buffer.clone(), len)));
}

/// The bytes of a message, outside of wasm's memory.
///
/// The first access to fresh memory costs more than everything else that is done to a large message, so a message that is
/// as long as its frame gets the frame's.
pub(crate) fn to_buffer(bytes: &[u8]) -> ArrayBuffer {
    let spare = SPARE.with_borrow_mut(|spare| spare.take_if(|(_, len)| *len == bytes.len()));
    match spare {
        Some((buffer, _)) => {
            Uint8Array::new(&buffer).copy_from(bytes);
            buffer
        }
        None => Uint8Array::from(bytes).buffer(),
    }
}
