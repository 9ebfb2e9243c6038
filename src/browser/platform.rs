//! The clock, randomness and timers, for the driver and the tasks.

use std::cell::RefCell;
use tunnel_protocol::Instant;
use wasm_bindgen::prelude::*;

// web-sys has these as methods of a window or of a worker, and would have to be told which one this is.
#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);
}

// The platform's, as they were when the library was loaded. gloo-timers calls those that the page has at the moment: a fake clock
// of its tests, which stands still or jumps by an hour, would hold up messages or end connections.
#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    #[wasm_bindgen(js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(call: &JsValue, milliseconds: u32) -> JsValue;

    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timeout: &JsValue);
}

/// Now, by the browser's monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::from_micros((performance_now() * 1000.0) as u64)
}

/// 32 fresh random bytes.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    get_random_values(&mut bytes);
    bytes
}

/// The longest time that the platform's timers take, in milliseconds: they count in 31 bits.
const LONGEST: u64 = 0x7fff_ffff;

/// One timer, armed again and again.
#[derive(Default)]
pub(crate) struct Timer {
    armed: RefCell<Option<(Timeout, Instant)>>,
}

/// Cancelled when it is dropped.
struct Timeout {
    /// A number, or an object in Node.js.
    id: JsValue,
    _call: Closure<dyn FnMut()>,
}

impl Drop for Timeout {
    fn drop(&mut self) {
        clear_timeout(&self.id);
    }
}

impl Timer {
    /// Calls `fire` at `at`, or what was to be called before that earlier: it finds out whether it is time.
    pub(crate) fn arm(&self, at: Instant, fire: impl FnOnce() + 'static) {
        if self.armed.borrow().as_ref().is_some_and(|(_, armed)| *armed <= at) {
            return;
        }
        // Rounded up: a timer that fires too early has to be armed again.
        let wait = at.as_micros().saturating_sub(now().as_micros()).div_ceil(1000).min(LONGEST);
        let call = Closure::once(fire);
        let timeout = Timeout { id: set_timeout(call.as_ref(), wait as u32), _call: call };
        // The one that was armed is cancelled when it is dropped.
        self.armed.replace(Some((timeout, at)));
    }

    /// Nothing is armed: it has fired, or is not needed.
    pub(crate) fn stop(&self) {
        self.armed.replace(None);
    }
}
