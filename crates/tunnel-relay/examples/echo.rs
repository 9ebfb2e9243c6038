//! Sends every WebSocket message back: the relay's server stack without a router, for conformance tests.
//!
//! ```text
//! cargo run --release -p tunnel-relay --example echo -- 127.0.0.1:9001
//! ```
//!
//! `cargo xtask autobahn` runs Autobahn's fuzzing client against it.

use std::io::Write as _;
use tokio::net::TcpListener;

/// Autobahn sends messages of 16 MiB.
const MAX_MESSAGE: usize = 32 << 20;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    match tunnel_relay::echo::serve(listener, MAX_MESSAGE).await? {}
}
