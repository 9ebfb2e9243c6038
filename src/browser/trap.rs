//! Traps of the module: `js/page.js` ends what the page has, and gets the text of a panic from here. Started by `browser.rs`.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Never called: `reexport` has `js/package.js` find it.
    #[cfg(feature = "npm")]
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = isDead, reexport, skip_typescript)]
    fn is_dead();

    #[cfg(feature = "debug")]
    #[wasm_bindgen(js_name = notePanic)]
    fn note_panic(text: &str);
}

/// Has the text and the place of a panic shown on the console, and in the errors that follow.
#[cfg(feature = "debug")]
pub(crate) fn show_panics() {
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        note_panic(&info.to_string());
    }));
}
