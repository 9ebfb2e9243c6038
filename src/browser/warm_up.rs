//! A first connection before the first connection: the page connects to itself when it has nothing else to do.
//!
//! Engines compile code function by function, when each is called first, and run the first result slowly. After the warm-up
//! that is done for most functions of a first connection, which takes half of the time then. [`skip`] turns it off.
//!
//! The driver calls [`begin`] when the page is idle or has a server.

use crate::browser::link::loopback;
use std::cell::Cell;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/server.js")]
extern "C" {
    /// Has a server and a client of the classes talk through the relay inside the page; then calls `end`.
    #[wasm_bindgen(js_name = warmUp)]
    fn connect_to_itself(end: &JsValue);
}

thread_local! {
    /// True when the warm-up has begun, or is not wanted.
    static BEGUN: Cell<bool> = const { Cell::new(false) };
}

/// Turns the warm-up off, unless it has begun.
pub(crate) fn skip() {
    BEGUN.set(true);
}

/// Begins the warm-up, once: a server waits for its first client, or a page for somebody to connect to.
pub(crate) fn begin() {
    if !BEGUN.replace(true) {
        connect_to_itself(&Closure::once_into_js(loopback::close));
    }
}
