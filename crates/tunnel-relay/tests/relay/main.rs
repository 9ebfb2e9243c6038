//! The relay as a library and as a program, with real peers. One program for all files: as programs of their own, most took longer to
//! compile and link than to run.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "acme")]
mod acme;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod command;
mod complaints;
mod deploy;
mod doors;
mod hostile;
mod http;
mod livecode;
#[cfg(feature = "livecode")]
mod livecoding;
mod log;
mod loopback;
mod metrics;
mod modules;
mod names;
mod proxies;
mod restart;
mod stderr;
mod tls;
