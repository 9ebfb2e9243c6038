//! The engine inside the sandbox: QuickJS-NG behind six exports.
//!
//! The host copies a command's text into [`livecode_buffer`] and calls [`livecode_call`]; all that the call wants done comes
//! back through the import `emit`. There are three more imports and no other authority: the linear memory is all that exists,
//! so a copy of it is an image of everything.

use rquickjs::context::EvalOptions;
use rquickjs::{Context, Ctx, Function, Persistent, Runtime, TypedArray, Value};
use std::cell::RefCell;

/// The part that is written in JavaScript: the dispatcher, and the globals of instructions.
const PRELUDE: &str = include_str!("prelude.js");

/// Globals that instructions know from browsers.
const GLOBALS: &str = include_str!("globals.js");

/// Version of the interface between host and guest.
const VERSION: u32 = 1;

/// The ends of a call.
mod ended {
    pub(super) const WELL: u32 = 0;
    /// The soft limit of time was over: QuickJS stopped the call, and what it did stays.
    pub(super) const INTERRUPTED: u32 = 1;
    /// There was not enough memory left to go on.
    pub(super) const OUT_OF_MEMORY: u32 = 2;
    /// Promise jobs were left when the time was over.
    pub(super) const JOBS_LEFT: u32 = 3;
    /// The dispatcher itself failed, or there is none: instructions have broken it.
    pub(super) const BROKEN: u32 = 4;
}

/// Number of the task whose text is a line of JSON with bytes behind it. The others are in `prelude.js`.
const SERVED_BYTES: u32 = 13;

/// Number of the thing that `emit` tells of an interrupted call: where it was. The others are in `prelude.js`.
const STOPPED_AT: u32 = 8;

#[link(wasm_import_module = "livecode")]
unsafe extern "C" {
    fn emit(op: u32, link: u32, text: *const u8, len: usize);
    fn interrupted() -> u32;
    fn random() -> f64;
}

struct Engine {
    runtime: Runtime,
    context: Context,
    dispatch: Persistent<Function<'static>>,
}

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn tell(op: u32, link: u32, text: &str) {
    // SAFETY: the host reads `len` bytes at the pointer before it returns, and keeps neither.
    unsafe { emit(op, link, text.as_ptr(), text.len()) }
}

fn tell_bytes(op: u32, link: u32, bytes: &[u8]) {
    // SAFETY: as in `tell`.
    unsafe { emit(op, link, bytes.as_ptr(), bytes.len()) }
}

fn is_over() -> bool {
    // SAFETY: the import takes nothing and returns a number.
    unsafe { interrupted() != 0 }
}

fn next_random() -> f64 {
    // SAFETY: the import takes nothing and returns a number.
    unsafe { random() }
}

/// Compiles and runs a source as sloppy global code under a name, which the places in errors begin with.
fn run_source<'js>(context: Ctx<'js>, source: String, name: String) -> rquickjs::Result<Value<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name);
    context.eval_with_options(source, options)
}

/// Makes the engine. `heap` and `stack` are JavaScript's limits in bytes. 0: made.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_init(heap: usize, stack: usize) -> u32 {
    let Some(engine) = make(heap, stack) else { return ended::BROKEN };
    ENGINE.with(|kept| *kept.borrow_mut() = Some(engine));
    ended::WELL
}

fn make(heap: usize, stack: usize) -> Option<Engine> {
    let runtime = Runtime::new().ok()?;
    runtime.set_memory_limit(heap);
    runtime.set_max_stack_size(stack);
    runtime.set_interrupt_handler(Some(Box::new(is_over)));
    let context = Context::full(&runtime).ok()?;
    let dispatch = context.with(|context| {
        let of_relay = |source| {
            let mut options = EvalOptions::default();
            options.strict = false;
            options.filename = Some("relay".into());
            context.eval_with_options::<Function, _>(source, options).ok()
        };
        let (prelude, globals) = (of_relay(PRELUDE)?, of_relay(GLOBALS)?);
        let emit =
            Function::new(context.clone(), |op: u32, link: u32, text: String| tell(op, link, &text)).ok()?;
        let random = Function::new(context.clone(), next_random).ok()?;
        let run = Function::new(context.clone(), run_source).ok()?;
        let emit_bytes =
            Function::new(context.clone(), |op: u32, link: u32, bytes: TypedArray<'_, u8>| {
                // SAFETY: nothing runs that could free or change the bytes before they are handed on.
                let bytes = bytes.as_raw().map(|bytes| unsafe { bytes.as_ref() });
                tell_bytes(op, link, bytes.unwrap_or_default());
            })
            .ok()?;
        let dispatch: Function = prelude.call((emit, random, run, emit_bytes, globals)).ok()?;
        Some(Persistent::save(&context, dispatch))
    })?;
    Some(Engine { runtime, context, dispatch })
}

/// Room for a text of `len` bytes, which the next call takes.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_buffer(len: usize) -> *mut u8 {
    BUFFER.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        buffer.clear();
        buffer.resize(len, 0);
        buffer.as_mut_ptr()
    })
}

/// Does what the text in the buffer asks for, and runs the promise jobs that are left; how it ended.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_call(op: u32, link: u32) -> u32 {
    let mut text = BUFFER.with(|buffer| std::mem::take(&mut *buffer.borrow_mut()));
    let bytes = (op == SERVED_BYTES)
        .then(|| text.iter().position(|byte| *byte == b'\n').map(|end| text.split_off(end + 1)))
        .flatten();
    let text = String::from_utf8(text).unwrap_or_default();
    ENGINE.with(|engine| match &*engine.borrow() {
        Some(engine) => engine.call(op, link, text, bytes),
        None => ended::BROKEN,
    })
}

impl Engine {
    fn call(&self, op: u32, link: u32, text: String, bytes: Option<Vec<u8>>) -> u32 {
        let how = self.context.with(|context| {
            let bytes = bytes.map(|bytes| TypedArray::new(context.clone(), bytes)).transpose();
            let called = bytes.and_then(|bytes| {
                let dispatch = self.dispatch.clone().restore(&context)?;
                dispatch.call::<_, ()>((op, link, text, bytes))
            });
            if called.is_ok() { ended::WELL } else { self.failed(&context, link) }
        });
        if how != ended::WELL { how } else { self.run_jobs(link) }
    }

    /// Runs what promises left to do. A job that throws has told its promise.
    fn run_jobs(&self, link: u32) -> u32 {
        let mut how = ended::WELL;
        while self.runtime.is_job_pending() {
            if is_over() {
                return ended::JOBS_LEFT;
            }
            if self.runtime.execute_pending_job().is_err() {
                how = self.context.with(|context| self.failed(&context, link));
            }
        }
        how
    }

    /// The dispatcher catches all that can be caught: what arrives here is QuickJS's.
    fn failed(&self, context: &Ctx<'_>, link: u32) -> u32 {
        let thrown = context.catch();
        if is_over() {
            let stack = thrown.as_exception().and_then(|exception| exception.stack()).unwrap_or_default();
            let _ = context.catch();
            tell(STOPPED_AT, link, &stack);
            ended::INTERRUPTED
        } else if thrown.is_null() {
            ended::OUT_OF_MEMORY
        } else {
            ended::BROKEN
        }
    }
}

/// Bytes of the JavaScript heap in use.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_memory() -> u32 {
    ENGINE.with(|engine| {
        let used = engine.borrow().as_ref().map_or(0, |engine| engine.runtime.memory_usage().malloc_size);
        u32::try_from(used).unwrap_or(u32::MAX)
    })
}

/// Collects garbage.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_gc() {
    ENGINE.with(|engine| {
        if let Some(engine) = &*engine.borrow() {
            engine.runtime.run_gc();
        }
    });
}

/// Version of the interface.
#[unsafe(no_mangle)]
pub extern "C" fn livecode_version() -> u32 {
    VERSION
}
