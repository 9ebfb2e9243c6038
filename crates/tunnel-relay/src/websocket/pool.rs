//! Buffers for large messages, used again by whatever connection needs one.
//!
//! A message of 60 KB that is allocated, forwarded and freed makes the allocator give its pages back and fetch them
//! again for the next one; touching fresh pages costs more than all else that is done to the message.

use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, PoisonError};

/// Messages shorter than that have memory of their own: what waits would hold more than it needs.
const MIN: usize = 32 << 10;

/// The capacity of each.
const CAPACITY: usize = 64 << 10;

/// Most buffers that are kept, by all threads together: 2 MiB.
const MAX_KEPT: usize = 32;

static POOL: Mutex<Vec<BytesMut>> = Mutex::new(Vec::new());

/// Empty memory for a message of `len` bytes.
pub(super) fn take(len: usize) -> BytesMut {
    if !(MIN..=CAPACITY).contains(&len) {
        return BytesMut::with_capacity(len);
    }
    let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.unwrap_or_else(|| BytesMut::with_capacity(CAPACITY))
}

/// Takes a message's memory back once it is sent.
pub(super) fn give_back(message: Bytes) {
    if message.len() < MIN {
        return;
    }
    // Not if somebody shares it.
    if let Ok(mut message) = message.try_into_mut()
        && message.capacity() == CAPACITY
    {
        message.clear();
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < MAX_KEPT {
            pool.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_large_message_is_used_again() {
        let mut message = take(60_000);
        message.extend_from_slice(&[7; 60_000]);
        let memory = message.as_ptr();
        give_back(message.freeze());
        // Other tests of this process take from the same pool.
        let found =
            (0..=MAX_KEPT).map(|_| take(60_000)).any(|taken| taken.as_ptr() == memory && taken.is_empty());
        assert!(found || POOL.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_of_small_and_of_huge_messages_is_theirs_alone() {
        assert_eq!(take(1_000).capacity(), 1_000);
        assert_eq!(take(100_000).capacity(), 100_000);
    }
}
