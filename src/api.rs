//! The library for Rust: sockets and servers as streams and sinks. It does no I/O: an [`Engine`](engine::Engine) does.

mod engine;
mod error;
mod halves;
mod ports;
mod server;
mod socket;
mod socket_state;

pub use error::Error;
pub use halves::{ReceiveHalf, SendHalf};
pub use ports::Ports;
pub use server::{Incoming, Listener, Server, ServerBuilder};
pub use socket::{PathEvent, Socket, SocketBuilder};

pub(crate) use engine::Engine;
#[cfg(target_family = "wasm")]
pub(crate) use server::{ServerPlan, ServerState};
#[cfg(target_family = "wasm")]
pub(crate) use socket::SocketPlan;
pub(crate) use socket_state::SocketState;
