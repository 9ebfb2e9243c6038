//! Several tabs of a real browser, and a real relay, driven from `cargo test`.
//!
//! A test is one call of [`on_stage`]: it gets a [`Stage`] of its own (browser, relay, any number of [`Tab`]s), and
//! when it fails, the browser's console, what the relay said and a picture of every tab are printed or kept in
//! `test-output/`. All processes end with the test, whether it passes or panics.
//!
//! `cargo xtask test` builds what these tests need.

mod attacker;
mod authority;
mod chaos;
mod clock;
mod engine;
mod liar;
mod paths;
mod pool;
mod process;
mod soak;
mod stage;
mod tab;
mod unused;
mod webdriver;
mod wiretap;

pub use attacker::{Attacker, PORT, Session};
pub use authority::Authority;
pub use chaos::{Chaos, Tally};
pub use clock::within;
pub use engine::Engine;
pub use liar::{Liar, Lie};
pub use paths::{command, debug_package, in_tests, package};
pub use process::Program;
pub use soak::{Soak, Summary};
pub use stage::{
    Relay, Stage, conformance_server, https_server, livecode_server, on_stage, on_stage_distrusting,
    on_stage_trusting, on_stage_within, relay_prints,
};
pub use tab::{Look, Tab, Width};
pub use unused::UnusedAddress;
pub use wiretap::{Way, Wiretap};
