//! The tasks in which a page's listeners run. Posted by the driver and the classes.
//!
//! Each event is fired from a task of its own, with no borrow held and microtasks run before the next, as the platform
//! does it: what follows `await socket.opened` runs before the first message event. Tasks run in rounds: one task of the
//! event loop that `js/page.js` makes many of. The message of a WebSocket is such a round for what it brings about;
//! for all else one is asked for by a `MessageChannel`: browsers clamp timers to 4 ms, and to a second or a minute in
//! background tabs.

use crate::browser::platform::now;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tunnel_protocol::Instant;
use tunnel_protocol::time::Duration;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Says what rounds call: what begins one that was asked for, what runs a task, what ends the round, and what runs the
    /// deferred tasks.
    #[wasm_bindgen(js_name = prepareTasks)]
    fn prepare_tasks(begin: JsValue, run: JsValue, finish: JsValue, deferred: JsValue);

    /// Asks for a round: [`begin_asked_round`] and then, with microtasks run after each, as many [`run_one`] as there
    /// is time for, and [`finish_round`].
    #[wasm_bindgen(js_name = postTasks)]
    fn post_tasks();

    /// Asks for [`run_deferred`] when the script that runs now has ended.
    #[wasm_bindgen(js_name = postDeferred)]
    fn post_deferred();
}

/// Longest time of one round, checked after every [`LOOK_EVERY`] tasks: input and painting wait that long.
const ROUND: Duration = Duration::from_millis(4);
const LOOK_EVERY: u32 = 16;

type Task = Box<dyn FnOnce()>;

thread_local! {
    static QUEUE: RefCell<VecDeque<Task>> = const { RefCell::new(VecDeque::new()) };
    /// True while a round has been asked for and has not begun.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// True during a round.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// The time by which the round has to end, and the number of tasks that it has run.
    static ROUND_END: Cell<(Instant, u32)> = Cell::default();
    static DEFERRED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

/// Has rounds call the functions below. Once, before anything is posted.
pub(crate) fn prepare() {
    prepare_tasks(
        Closure::<dyn Fn()>::new(begin_asked_round).into_js_value(),
        Closure::<dyn Fn() -> bool>::new(run_one).into_js_value(),
        Closure::<dyn Fn()>::new(finish_round).into_js_value(),
        Closure::<dyn Fn()>::new(run_deferred).into_js_value(),
    );
}

/// Runs `task` later, after all that were posted before it, outside any borrow.
pub(crate) fn post(task: impl FnOnce() + 'static) {
    QUEUE.with_borrow_mut(|queue| queue.push_back(Box::new(task)));
    if !RUNNING.get() {
        ask();
    }
}

fn ask() {
    if !ASKED.replace(true) {
        post_tasks();
    }
}

/// Runs `task` when the page's script has had its turn; at the end of the round if there is one.
///
/// So the answers of a page to many messages are packed together.
pub(crate) fn defer(task: impl FnOnce() + 'static) {
    let first = DEFERRED.with_borrow_mut(|deferred| {
        deferred.push(Box::new(task));
        deferred.len() == 1
    });
    if first && !RUNNING.get() && !ASKED.get() {
        post_deferred();
    }
}

/// Begins a round.
pub(crate) fn begin_round() {
    RUNNING.set(true);
    ROUND_END.set((now() + ROUND, 0));
}

/// Begins the round that was asked for.
fn begin_asked_round() {
    ASKED.set(false);
    begin_round();
}

/// Runs the oldest task; ends the round, and says `false`, if there is none or the round has lasted long.
fn run_one() -> bool {
    let (end, count) = ROUND_END.get();
    ROUND_END.set((end, count + 1));
    let is_late = count > 0 && count.is_multiple_of(LOOK_EVERY) && now() >= end;
    let task = if is_late { None } else { QUEUE.with_borrow_mut(VecDeque::pop_front) };
    match task {
        Some(task) => {
            task();
            true
        }
        None => {
            finish_round();
            false
        }
    }
}

/// Runs all tasks that wait, at once, because the page is being left: there is no later. What they post does not run any more.
pub(crate) fn run_all() {
    for task in QUEUE.take() {
        task();
    }
    run_deferred();
}

/// Ends a round, and asks for another one if tasks are left.
fn finish_round() {
    run_deferred();
    RUNNING.set(false);
    if QUEUE.with_borrow(|queue| !queue.is_empty()) {
        ask();
    }
}

/// Runs what has been deferred.
fn run_deferred() {
    for task in DEFERRED.take() {
        task();
    }
}
