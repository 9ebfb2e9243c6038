//! Sockets between web browsers: the platform's `WebSocket`, from tab to tab, end-to-end encrypted.
//!
//! This crate is the browser half, thin on purpose. `js/` has the classes that a page sees; `socket` and `server` are
//! their Rust halves, `driver` the I/O around [`tunnel_protocol`]'s endpoint, `event` the tasks in which a page's
//! listeners run. What the classes do is described where their types are: `js/sockets.d.ts`.

#![cfg(target_family = "wasm")]

#[cfg(feature = "api")]
mod api;
mod connector;
mod driver;
mod event;
mod identity;
mod link;
mod livecode;
mod options;
mod server;
mod socket;

#[cfg(feature = "api")]
pub use api::{ForwardingServerWebSocket, PeerToPeerWebSocket};

use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};
use wasm_bindgen::prelude::*;

#[global_allocator]
static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();

/// Runs once, at the end of `init()`; again does nothing.
#[wasm_bindgen(start)]
pub fn start() {
    #[cfg(feature = "debug")]
    console_error_panic_hook::set_once();
    connector::start();
}
