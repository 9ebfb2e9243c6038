//! Addresses that nobody listens on.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpSocket;

/// An address of this machine that nobody listens on, nor gets while this lives: connections to it are refused.
///
/// A port that is only found to be free goes to whoever listens next, such as a relay of another test.
#[derive(Debug)]
pub struct UnusedAddress {
    address: SocketAddr,
    /// Bound, and never listening.
    _socket: TcpSocket,
}

impl UnusedAddress {
    /// Takes one.
    ///
    /// # Errors
    /// If no port is free.
    pub fn take() -> Result<Self> {
        let socket = TcpSocket::new_v4().context("no socket")?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).context("no free port")?;
        let address = socket.local_addr().context("a bound socket has an address")?;
        Ok(Self { address, _socket: socket })
    }

    /// An address at which nobody listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn nobody_else_gets_it_and_connections_are_refused() {
        let unused = UnusedAddress::take().unwrap();
        let address = unused.address();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
