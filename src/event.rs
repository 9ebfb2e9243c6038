//! The tasks in which a page's listeners run.
//!
//! Each event is fired from a task of its own, with no borrow held and microtasks run before the next, as the platform
//! does it: what follows `await socket.opened` runs before the first message event. A task is a `MessageChannel`'s:
//! browsers clamp timers to 4 ms, and to a second or a minute in background tabs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    /// Has [`run_one`] called many times from one task of the event loop, with microtasks run after each, and then
    /// [`finish_round`].
    #[wasm_bindgen(js_name = postTasks)]
    fn post_tasks();
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = queueMicrotask)]
    fn queue_microtask(task: &js_sys::Function);
}

type Task = Box<dyn FnOnce()>;

thread_local! {
    static QUEUE: RefCell<VecDeque<Task>> = const { RefCell::new(VecDeque::new()) };
    /// Whether a round of tasks is going on, or coming without further asking.
    static POSTED: Cell<bool> = const { Cell::new(false) };
    static DEFERRED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    static RUN_DEFERRED: Closure<dyn Fn()> = Closure::new(run_deferred);
}

/// Runs `task` later, after all that were posted before it, outside any borrow.
pub(crate) fn post(task: impl FnOnce() + 'static) {
    QUEUE.with_borrow_mut(|queue| queue.push_back(Box::new(task)));
    if !POSTED.replace(true) {
        post_tasks();
    }
}

/// Runs `task` when the page's script has had its turn; if more events wait for theirs, after these.
///
/// What a page sends in answer to many messages is so packed together.
pub(crate) fn defer(task: impl FnOnce() + 'static) {
    let first = DEFERRED.with_borrow_mut(|deferred| {
        deferred.push(Box::new(task));
        deferred.len() == 1
    });
    let more_to_come = QUEUE.with_borrow(|queue| !queue.is_empty()) && POSTED.get();
    if first && !more_to_come {
        RUN_DEFERRED.with(|run| queue_microtask(run.as_ref().unchecked_ref()));
    }
}

/// Runs the oldest task, if there is one.
pub(crate) fn run_one() {
    let task = QUEUE.with_borrow_mut(VecDeque::pop_front);
    if let Some(task) = task {
        task();
    }
}

/// Ends a round of tasks, and asks for another one if some are left.
pub(crate) fn finish_round() {
    run_deferred();
    let more = QUEUE.with_borrow(|queue| !queue.is_empty());
    POSTED.set(more);
    if more {
        post_tasks();
    }
}

fn run_deferred() {
    for task in DEFERRED.take() {
        task();
    }
}
