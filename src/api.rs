//! The library for Rust: sockets and servers as streams and sinks. It does no I/O: an [`Engine`](engine::Engine) does.

#[cfg(any(all(target_family = "wasm", feature = "npm"), test))]
mod backlog;
mod engine;
mod error;
mod halves;
mod ports;
mod reopened;
mod server;
mod socket;
mod socket_state;
mod sync;

pub use error::Error;
pub use halves::{ReceiveHalf, SendHalf};
pub use ports::Ports;
pub use reopened::Reopened;
pub use server::{Incoming, Listener, Server, ServerBuilder};
pub use socket::{PathEvent, Socket, SocketBuilder};

#[cfg(all(target_family = "wasm", feature = "npm"))]
pub(crate) use backlog::Backlog;
pub(crate) use engine::{Engine, Parking};
#[cfg(all(target_family = "wasm", feature = "npm"))]
pub(crate) use ports::{Claims, Refusal, backlog_is_full, nobody_listens};
#[cfg(any(target_family = "wasm", feature = "native"))]
pub(crate) use server::{ServerPlan, ServerState};
#[cfg(any(target_family = "wasm", feature = "native"))]
pub(crate) use socket::SocketPlan;
pub(crate) use socket_state::SocketState;
#[cfg(any(target_family = "wasm", feature = "native"))]
pub(crate) use sync::Guard;
