//! Sandboxes for the JavaScript that configurers inject into a relay.
//!
//! QuickJS-NG, compiled to WebAssembly, runs in an interpreter: two walls between an instruction and the relay. The module imports
//! four functions and has no other authority. A [`Program`] is the module, once for a process; a [`Sandbox`] is one memory of it, with
//! limits of time, memory and output for each call, and with [images](Image); an [`Engine`] is a sandbox with its links, timers, turns
//! and checkpoints. Nothing here does I/O or starts threads; processor time is read from the calling thread's clock.

mod bucket;
mod clock;
mod command;
mod engine;
mod image;
mod program;
mod sandbox;
mod thrown;

pub use engine::{Engine, Next, SERVICE_URL, Settings, Stats, Wire};
pub use image::{Image, ImageError};
pub use program::{Program, ProgramError};
pub use sandbox::{Called, How, Kept, Limits, Op, Out, OutKind, Sandbox};
