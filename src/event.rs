//! The tasks in which a page's listeners run.
//!
//! Each event is fired from a task of its own, with no borrow held and microtasks run before the next, as the platform
//! does it: what follows `await socket.opened` runs before the first message event. A task is a `MessageChannel`'s:
//! browsers clamp timers to 4 ms, and to a second or a minute in background tabs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/sockets.js")]
extern "C" {
    /// Calls [`Tasks::run_one`] from a task of its own, many times with microtasks between, then [`Tasks::finish`].
    #[wasm_bindgen(js_name = startTasks)]
    fn start_tasks(tasks: Tasks);

    #[wasm_bindgen(js_name = postTasks)]
    fn post_tasks();
}

type Task = Box<dyn FnOnce()>;

thread_local! {
    static QUEUE: RefCell<VecDeque<Task>> = const { RefCell::new(VecDeque::new()) };
    /// Whether `run_one` will be called without further asking.
    static POSTED: Cell<bool> = const { Cell::new(false) };
    static STARTED: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn start() {
    if !STARTED.replace(true) {
        start_tasks(Tasks);
    }
}

/// Runs `task` later, after all that were posted before it, outside any borrow.
pub(crate) fn post(task: impl FnOnce() + 'static) {
    QUEUE.with_borrow_mut(|queue| queue.push_back(Box::new(task)));
    if !POSTED.replace(true) {
        post_tasks();
    }
}

/// What `js/sockets.js` calls from the tasks.
#[wasm_bindgen(private)]
pub(crate) struct Tasks;

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Tasks {
    /// Runs the oldest task, if there is one.
    #[wasm_bindgen(js_name = runOne)]
    pub fn run_one(&self) {
        let task = QUEUE.with_borrow_mut(VecDeque::pop_front);
        if let Some(task) = task {
            task();
        }
    }

    /// Ends a round of tasks, and asks for another one if some are left.
    pub fn finish(&self) {
        let more = QUEUE.with_borrow(|queue| !queue.is_empty());
        POSTED.set(more);
        if more {
            post_tasks();
        }
    }
}
