//! Sockets between web browsers: the platform's `WebSocket`, from tab to tab, end-to-end encrypted.
//!
//! `browser` has the I/O around [`tunnel_protocol`]'s endpoint, and the Rust halves of the classes in `js/`. What the
//! classes do is described where their types are: `js/sockets.d.ts`.

#[cfg(target_family = "wasm")]
mod browser;
#[cfg(any(target_family = "wasm", test))]
mod loopback;

#[cfg(target_family = "wasm")]
pub use browser::start;
#[cfg(all(target_family = "wasm", feature = "api"))]
pub use browser::{ForwardingServerWebSocket, PeerToPeerWebSocket};
