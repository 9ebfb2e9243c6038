//! The Rust halves of the classes in `js/`, which the npm package exports. Started by `browser.rs` at the end of `init()`.

mod handles;
mod server;
mod socket;
mod socket_handle;

use crate::browser::page;
use handles::Tunnel;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/common.js")]
extern "C" {
    /// Gives the classes what they call.
    #[wasm_bindgen(js_name = start)]
    fn start_classes(tunnel: Tunnel);
}

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = TunnelError, reexport, skip_typescript)]
    fn tunnel_error_class();
}

/// Prepares the classes; again does nothing.
pub(crate) fn start() {
    if page::start() {
        start_classes(Tunnel);
    }
}
