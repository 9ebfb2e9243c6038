//! The relay: forwards sealed records between browsers, and reads none of them.
//!
//! All that it decides is decided by the protocol crate's [`Router`](tunnel_protocol::router::Router), a state machine
//! without sockets. This crate owns the I/O around it:
//!
//! | module | job |
//! |---|---|
//! | [`server`] | accepts, drains, ends |
//! | `monitor` | the address for operators: metrics, health, a live page |
//! | `http`, `clock`, `answers` | plain HTTP, up to the request for a WebSocket |
//! | `entrance`, `upgrade` | the decision about that request |
//! | `connection`, `socket`, `transport` | one task for each WebSocket |
//! | `remote`, `client` | the other end of a TCP connection, and the address behind a proxy |
//! | `shared` | state that all tasks share |
//! | `shared_router` | the router behind its lock, and the tasks that wait for it |
//! | `files` | folders that are served |
//! | `tls`, `certificate`, `stream` | certificates, and streams with and without them |
//! | `admission`, `bucket`, `half_sent` | limits for connections, rates and memory |
//! | `metrics`, `complaints`, [`log`] | counters, warnings, the log |
//! | `websocket` | the WebSocket protocol, as state machines without I/O |
//! | [`config`], [`access`], `hosts`, `origins` | the settings, and values of some of them |
//! | `echo` | the same stack without a router, for conformance tests |
//! | `cluster` | other relays with the same servers: the bus, and links to them; with the feature `cluster` |
//! | `livecode`, `livecode_state` | injected instructions: their thread, and the files that outlive it; with the feature `livecode` |
//!
//! No two modules import each other, not even by way of others: `tests/modules.rs` looks.
//!
//! The library exists so that tests can run a real relay in their own process:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use tunnel_relay::{Config, Relay};
//!
//! let relay = Relay::start(Config::ephemeral()).await?; // 127.0.0.1, any free port
//! assert!(relay.url().starts_with("ws://127.0.0.1:"));
//! relay.shut_down().await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should"))]

pub mod access;
mod admission;
mod answers;
mod bucket;
#[doc(hidden)]
pub mod certificate;
mod client;
mod clock;
#[cfg(feature = "cluster")]
mod cluster;
mod complaints;
pub mod config;
mod connection;
#[doc(hidden)]
pub mod echo;
mod entrance;
#[cfg(test)]
mod faults;
mod files;
mod half_sent;
mod hosts;
mod http;
mod inquiry;
#[cfg(feature = "livecode")]
mod livecode;
#[cfg(feature = "livecode")]
mod livecode_state;
pub mod log;
mod metrics;
mod monitor;
mod origins;
mod remote;
pub mod server;
mod shared;
mod shared_router;
mod socket;
mod stream;
mod tls;
mod transport;
mod upgrade;
mod websocket;

pub use config::{Config, Mount, Secret};
pub use server::{Relay, ReloadError};
