//! Sockets between web browsers: the platform's `WebSocket`, from tab to tab, end-to-end encrypted.
//!
//! This crate is the browser half, thin on purpose: `js/sockets.js` has the classes that a page sees, `socket` and
//! `server` their Rust halves, `driver` the I/O around [`tunnel_protocol`]'s endpoint, and `event` the tasks in
//! which a page's listeners run. What the classes do is described where their types are: `js/sockets.d.ts`.

mod error;
mod event;

use wasm_bindgen::prelude::*;

/// Runs once, at the end of `init()`; again does nothing.
#[wasm_bindgen(start)]
pub fn start() {
    #[cfg(feature = "debug")]
    console_error_panic_hook::set_once();
    event::start();
}
