//! The relay: forwards sealed records between browsers, and reads none of them.
//!
//! All that it decides is decided by the protocol crate's [`Router`](tunnel_protocol::router::Router), a state machine
//! without sockets. This crate owns the I/O around it:
//!
//! | module | job |
//! |---|---|
//! | [`config`] | what an operator sets |
//! | [`log`] | what is logged, and where it goes |
//! | [`access`] | access tokens |
//! | `complaints` | what is misconfigured around the relay |
//! | `admission`, `bucket`, `client`, `origins` | who gets in, and which address a peer has |
//! | `tls`, `certificate`, `stream` | certificates, and streams with and without them |
//! | [`server`] | accepts, drains, ends |
//! | `shared` | what all tasks share |
//! | `remote`, `http`, `clock`, `answers`, `files` | who connects, and plain HTTP on the same port |
//! | `entrance`, `upgrade` | the way into a WebSocket |
//! | `connection`, `socket`, `transport` | one task for each WebSocket |
//! | `metrics`, `monitor` | what is counted, and the address where it is shown |
//! | `websocket` | the WebSocket protocol, as state machines without I/O |
//! | `echo` | the same stack without a router, for conformance tests |
//! | `shared_router` | the router behind its lock, and who is to be woken |
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
