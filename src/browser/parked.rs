//! State that a server leaves for the next page of its tab; `js/kept.js` keeps it. Called by `engine.rs`.

use crate::api::Parking;
use std::time::Duration;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/kept.js")]
extern "C" {
    /// Takes what was parked under the name; it is kept for so many milliseconds after the end.
    fn park(name: &str, timeout: f64) -> ParkingLot;
}

#[wasm_bindgen]
extern "C" {
    /// The object that `park` returns.
    type ParkingLot;

    /// The value that was parked last, or undefined.
    #[wasm_bindgen(method)]
    fn value(this: &ParkingLot) -> JsValue;

    /// Throws what the storage throws, and where there is none.
    #[wasm_bindgen(method, catch)]
    fn set(this: &ParkingLot, value: &str) -> Result<(), JsValue>;

    /// The server has ended.
    #[wasm_bindgen(method)]
    fn end(this: &ParkingLot);
}

/// The text that a server has parked, until it is dropped with the server.
pub(crate) struct Parked(ParkingLot);

impl Parked {
    /// Takes what the last server under this identity at this relay has parked.
    pub(crate) fn take(identity: &str, relay: &str, timeout: Duration) -> Self {
        Self(park(&format!("{identity} {relay}"), timeout.as_millis() as f64))
    }
}

impl Parking for Parked {
    fn text(&self) -> Option<String> {
        self.0.value().as_string()
    }

    fn set(&self, text: &str) -> Result<(), String> {
        // All that is thrown is an Error, or a DOMException, which has a message, too.
        self.0.set(text).map_err(|error| error.unchecked_into::<js_sys::Error>().message().into())
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.end();
    }
}
