//! The page around the library: it becomes idle, is left, comes back. Started by `classes.rs` at the end of `init()`, and by
//! `engine.rs` at the first connection of a Rust page; it calls the driver.

use crate::browser::{driver, tasks};
#[cfg(feature = "npm")]
use gloo_timers::callback::Timeout;
use std::cell::Cell;
use wasm_bindgen::prelude::*;
use web_sys::{Document, EventTarget};

#[cfg(feature = "npm")]
#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Calls the function once the page is idle. Returns false, and does nothing, where the platform does not say when that is.
    #[wasm_bindgen(js_name = whenIdle)]
    fn when_idle(task: &JsValue) -> bool;
}

/// Milliseconds after which a page counts as idle where the platform does not say when it is: in workers, Safari and Node.js.
#[cfg(feature = "npm")]
const PRESUMED_IDLE: u32 = 200;

thread_local! {
    static STARTED: Cell<bool> = const { Cell::new(false) };
}

/// Prepares the library for its first connection; returns whether that was the first call.
pub(crate) fn start() -> bool {
    if STARTED.replace(true) {
        return false;
    }
    tasks::prepare();
    driver::make_keys();
    #[cfg(feature = "npm")]
    await_idleness();
    watch();
    true
}

/// Calls the driver once the page is idle, so that it can warm up. That is not urgent: it may wait for a fake clock of the page's,
/// as the timer of the protocol may not (`platform.rs`).
#[cfg(feature = "npm")]
fn await_idleness() {
    let call = Closure::once(driver::handle_idle);
    if when_idle(call.as_ref()) {
        call.forget();
    } else {
        Timeout::new(PRESUMED_IDLE, driver::handle_idle).forget();
    }
}

/// Listens to what happens to the page. Workers fire some of these events, Node.js none.
fn watch() {
    let global = js_sys::global();
    if !js_sys::Reflect::has(&global, &"addEventListener".into()).unwrap_or(false) {
        return;
    }
    let target: &EventTarget = global.unchecked_ref();
    // A hidden page has peers, too.
    listen(target, "online", driver::probe);
    listen(target, "pageshow", probe);
    // Also when the page goes into the back-forward cache: it cannot answer from there, so its peers must know at once.
    listen(target, "pagehide", driver::leave);
    if let Some(document) = document() {
        listen(&document, "visibilitychange", probe);
        listen(&document, "resume", probe);
    }
}

fn listen(target: &EventTarget, event: &str, act: fn()) {
    let listener = Closure::<dyn Fn()>::new(act).into_js_value();
    // Fails for no target.
    let _ = target.add_event_listener_with_callback(event, listener.unchecked_ref());
}

fn document() -> Option<Document> {
    js_sys::Reflect::get(&js_sys::global(), &"document".into()).ok()?.dyn_into().ok()
}

/// Something happened that the links may not have survived.
fn probe() {
    if !document().is_some_and(|document| document.hidden()) {
        driver::probe();
    }
}
