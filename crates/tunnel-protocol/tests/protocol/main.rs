//! The protocol from outside: vectors, other implementations, and its documents.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod closing;
mod codes;
mod handshake;
mod handshake_oracles;
mod livecode_fixture;
mod registration;
mod session_vectors;
mod wycheproof;
