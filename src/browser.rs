//! The library in a browser: I/O for the core, and the Rust halves of the classes in `js/`.

#[cfg(feature = "api")]
mod api;
mod classes;
mod driver;
mod frames;
mod identity;
mod link;
mod livecode;
mod page;
mod platform;
mod tasks;
mod warm_up;

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
    classes::start();
}
