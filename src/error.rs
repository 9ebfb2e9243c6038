//! What is thrown at the JavaScript border, and what promises reject with.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    #[wasm_bindgen(js_name = tunnelError)]
    fn new_tunnel_error(message: &str, code: &str) -> JsValue;

    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = TunnelError, reexport, skip_typescript)]
    fn tunnel_error_class();
}

/// A `TunnelError` with this stable `code`; `message` says what was tried and what to do.
pub(crate) fn tunnel_error(code: &str, message: &str) -> JsValue {
    new_tunnel_error(message, code)
}
