//! The livecode dialect for pages, as a WebAssembly module of its own: few relays speak it, so `js/livecode.js` loads this
//! when one does, and pages of all others are smaller.
//!
//! It shares no memory with the main module: what passes between them are numbers, texts and bytes.

#![cfg(target_family = "wasm")]

mod client;
mod link;

pub use client::{Connection, LivecodeCore};
pub use link::LivecodeLinkCore;

use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

#[global_allocator]
static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();
