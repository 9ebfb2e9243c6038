//! The least that a relay could cost: bytes from one socket to another, and answers that are always the same.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tunnel_protocol::Frame;
use tunnel_protocol::frame::Welcome;
use tunnel_protocol::server_id::PublicKey;

/// Accepts two connections at a time and copies between them.
pub(crate) fn splice() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        // The benchmark checks that it runs.
        drop(listener.accept().await.unwrap());
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            one.set_nodelay(true).unwrap();
            other.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, 65_536, 65_536).await
            });
        }
    });
}

/// Answers what a connection says first, and what it says next, as a relay answers a handshake and HELLO, without
/// looking at either.
pub(crate) fn greet() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let answers = [b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), welcome()];
    let answers: &[Vec<u8>; 2] = Box::leak(Box::new(answers));
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                for answer in answers {
                    // One read has all of it: peers wait for the answer.
                    let len = stream.read(&mut [0; 1_024]).await?;
                    if len == 0 {
                        return Ok(len);
                    }
                    stream.write_all(answer).await?;
                }
                stream.read(&mut [0; 1]).await
            });
        }
    });
}

/// WELCOME as a WebSocket message.
fn welcome() -> Vec<u8> {
    let welcome = Frame::Welcome(Box::new(Welcome {
        version: 1,
        features: 0,
        max_frame: 65_536,
        max_channels: 1_024,
        channel_buffer: 1 << 20,
        idle_timeout: Duration::from_secs(60),
        challenge: PublicKey([7; 32]),
        address: "127.0.0.1:65535".to_owned(),
        node: String::new(),
    }));
    let frame = welcome.encode();
    [&[0x82, u8::try_from(frame.len()).unwrap()], &frame[..]].concat()
}
