//! The driver for programs outside of browsers: an endpoint over tokio's sockets. Called by `src/api/`.

mod dial;
mod driver;
mod engine;
mod identity;
mod leave;
mod link;
mod stream;

pub(crate) use engine::{connect, host};
pub use identity::{Identity, IdentityError};
pub use leave::leave;
pub use stream::{ByteStream, STREAM_SUBPROTOCOL};
