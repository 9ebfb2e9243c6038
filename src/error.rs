//! What is thrown at the JavaScript border, and what promises reject with.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/sockets.js")]
extern "C" {
    #[wasm_bindgen(js_name = tunnelError)]
    fn new_tunnel_error(message: &str, code: &str, cause: &JsValue) -> JsValue;

    #[wasm_bindgen(js_name = domException)]
    fn new_dom_exception(message: &str, name: &str) -> JsValue;

    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = TunnelError, reexport, skip_typescript)]
    fn tunnel_error_class();
}

/// A `TunnelError` with this stable `code`; `message` says what was tried and what to do.
pub(crate) fn tunnel_error(code: &str, message: &str) -> JsValue {
    new_tunnel_error(message, code, &JsValue::UNDEFINED)
}

/// A [`tunnel_error`] with the exception that it came from.
pub(crate) fn tunnel_error_from(code: &str, message: &str, cause: &JsValue) -> JsValue {
    new_tunnel_error(message, code, cause)
}

/// A `DOMException` of this name: what the platform throws for a bad URL (`SyntaxError`) and the like.
pub(crate) fn dom_exception(name: &str, message: &str) -> JsValue {
    new_dom_exception(message, name)
}

/// A `TypeError`: an argument of the wrong type.
pub(crate) fn type_error(message: &str) -> JsValue {
    js_sys::TypeError::new(message).into()
}
