//! The server's half of RFC 6455 after the handshake, without I/O; and the client's, for links that this relay has dialled.
//!
//! It is our own because libraries that are strict and cancel-safe keep buffers for each connection, as long as its largest
//! message was, and copy each message once more on the way in and on the way out. Here a connection that waits holds
//! nothing: what is read and written passes through buffers that all connections of a thread share.
//!
//! Extensions are never agreed to, so every reserved bit is a fault.

mod decode;
mod encode;
mod mask;
mod pool;

pub(crate) use decode::{Decoder, Fault, Part, Received};
pub(crate) use encode::{SendQueue, WriteBuffer};

/// The type of a frame, in the lower half of its first byte (RFC 6455, section 11.8).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const BINARY: u8 = 0x2;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xa;
}

/// The bit of a frame's first byte that says that it is its message's last.
const FIN: u8 = 0x80;

/// The longest payload of a ping, a pong and a close frame.
const MAX_CONTROL: usize = 125;

/// Returns whether a close frame may carry the code (RFC 6455, section 7.4, and the registry that it founded).
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
