//! Keeps the page from being frozen while it has connections. Called by the driver.

use crate::browser::tasks;
use std::cell::Cell;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Holds a Web Lock while that is wanted.
    #[wasm_bindgen(js_name = holdLock)]
    fn hold_lock(wanted: bool);
}

thread_local! {
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the page from being frozen in the background, or no longer.
pub(crate) fn stay_awake(wanted: bool) {
    if AWAKE.replace(wanted) == wanted {
        return;
    }
    if wanted {
        // A page's first request for a lock takes milliseconds: the WebSocket is dialled before that.
        tasks::post(|| {
            hold_lock(true);
            if !AWAKE.get() {
                hold_lock(false);
            }
        });
    } else {
        hold_lock(false);
    }
}
