//! The classes in a browser, with a relay at `TUNNEL_RELAY_URL`; in a window or a kind of worker, as
//! `WASM_BINDGEN_USE_BROWSER`, `WASM_BINDGEN_USE_DEDICATED_WORKER` and so on choose.
//!
//! Both ends of a socket are in the same page here; `tests/e2e` has them in different tabs.

#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod class;
mod scope;
mod server;
mod socket;
mod streams;
