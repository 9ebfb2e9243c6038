//! Sockets between web browsers, end-to-end encrypted, through a small relay.
//!
//! A page connects to a port of a server in another page. Its [`Socket`] is a `Stream` and a `Sink` of [`Message`]s:
//!
//! ```no_run
//! use futures_util::{SinkExt, StreamExt};
//! use tunnel_wasm::{Error, Message, Socket};
//!
//! async fn echo(server_id: &str) -> Result<(), Error> {
//!     let mut socket = Socket::builder("wss://relay.example", server_id, 1337).protocols(["chat"]).connect().await?;
//!     socket.send(Message::Text("hello".into())).await?;
//!     while let Some(message) = socket.next().await {
//!         println!("{:?}", message?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A server is a stream of clients to accept or refuse, for each port that it listens on:
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use tunnel_wasm::{Error, Server};
//!
//! async fn serve() -> Result<(), Error> {
//!     let server = Server::builder("wss://relay.example").identity("my server").host().await?;
//!     println!("connect to {:?}", server.id());
//!     let mut clients = server.listen(1337)?;
//!     while let Some(client) = clients.next().await {
//!         if client.protocols() != ["chat"] {
//!             client.refuse("only chat is spoken here");
//!         } else {
//!             let socket = client.accept("chat").await?;
//!             println!("{:?} is here", socket.remote());
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The crate compiles for every target. It connects in web pages, workers included, on `wasm32-unknown-unknown`; elsewhere with
//! the feature `native`, over tokio: then sockets, servers and their futures are `Send`. Without the feature
//! [`SocketBuilder::connect`] and [`ServerBuilder::host`] return [`Error::Unsupported`] there, so that a server that renders
//! pages compiles. `docs/native.md` in the repository is about programs outside of browsers, and about the command `tunnel`.
//!
//! An application needs no flags for it. With `-Ctarget-feature=+simd128` the cipher is three times as fast. One that is
//! compiled for size (`opt-level = "z"`) should leave the ciphers out of that, which become 30 times slower:
//!
//! ```toml
//! [profile.release.package.tunnel-cipher]
//! opt-level = 3
//! [profile.release.package.poly1305]
//! opt-level = 3
//! ```
//!
//! The feature `tracing` has the crate tell what happens as events of [`tracing`](https://docs.rs/tracing): dialling, links and
//! their ends, sockets that open, resume and end, refusals, violations. Where no subscriber takes them, they go to the crate
//! `log`. Without the feature they are no code.
//!
//! The feature `npm` is for the npm package `tunnel-wasm`: it adds the classes of `js/`, exports and an allocator, which
//! do not belong into an application.

mod api;
#[cfg(target_family = "wasm")]
mod browser;
#[cfg(any(all(target_family = "wasm", feature = "npm"), test))]
mod loopback;
#[cfg(all(not(target_family = "wasm"), feature = "native"))]
mod native;

pub use api::{
    Error, Incoming, Listener, PathEvent, Ports, ReceiveHalf, Reopened, SendHalf, Server, ServerBuilder,
    Socket, SocketBuilder,
};
pub use bytes::Bytes;
#[cfg(all(not(target_family = "wasm"), feature = "native"))]
pub use native::{ByteStream, Identity, IdentityError, STREAM_SUBPROTOCOL, leave};
pub use tunnel_protocol::endpoint::{Liveness, Remote, SocketStats};
pub use tunnel_protocol::server_id::{ParseServerIdError, PublicKey};
pub use tunnel_protocol::session::SessionStats;
pub use tunnel_protocol::{CloseCode, Message, ServerId};

/// The samples of the guide, which `cargo test` compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide/rust.md")]
struct Guide;
