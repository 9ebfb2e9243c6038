//! Faults that unit tests bring about on purpose: `connection` and `shared_router` look for them, in tests only.

/// Messages that make whoever handles them panic.
pub(crate) const WHILE_READING: &[u8] = b"panic while it is read";
pub(crate) const UNDER_THE_LOCK: &[u8] = b"panic while the router decides";

#[cfg(feature = "livecode")]
pub(crate) const IN_THE_ENGINE: &[u8] = b"panic in the engine";

/// Panics if it is that message.
pub(crate) fn trip(wire: &'static [u8], message: &[u8]) {
    assert!(message != wire, "as the test wants it");
}
