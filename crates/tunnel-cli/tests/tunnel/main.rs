//! The command `tunnel` and the library under it, with a real relay. `leaving.rs` is a program of its own.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod library;
mod proxies;
mod ssh;
