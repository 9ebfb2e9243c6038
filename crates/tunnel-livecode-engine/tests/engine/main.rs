//! The engine with the real guest.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod examples;
mod fairness;
mod grammar;
mod images;
mod instructions;
mod ours;
mod proofs;
mod serving;
