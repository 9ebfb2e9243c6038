//! The library in a browser: I/O for the core.

mod awake;
mod claim;
#[cfg(feature = "npm")]
mod classes;
mod driver;
mod engine;
#[cfg(feature = "npm")]
mod frames;
mod identity;
mod link;
#[cfg(feature = "npm")]
mod livecode;
mod page;
mod parked;
mod platform;
mod tasks;
#[cfg(any(feature = "debug", feature = "npm"))]
mod trap;
#[cfg(feature = "npm")]
mod warm_up;
#[cfg(feature = "npm")]
mod watching;

pub(crate) use engine::{connect, host};

/// Parts of the npm package alone: an application that uses the crate brings its own allocator, and starts by itself.
#[cfg(feature = "npm")]
mod package {
    use super::classes;
    use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};
    use wasm_bindgen::prelude::*;

    #[global_allocator]
    static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();

    /// Runs once, at the end of `init()`; again does nothing.
    #[wasm_bindgen(start)]
    fn start() {
        #[cfg(feature = "debug")]
        {
            super::trap::show_panics();
            // It fails if there is a logger already, which is the application's choice then.
            let _ = console_log::init_with_level(log::Level::Debug);
        }
        classes::start();
    }
}
