//! A relay that lies: a proxy before a real relay that reads the frames of the link protocol and writes other ones.
//!
//! It can do all that whoever runs a relay can: change what the relay says, say too much, send a client to another server, and
//! answer in the livecode dialect. Pages come through it unchanged.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_websockets::{ClientBuilder, Message, ServerBuilder};
use tunnel_protocol::{Frame, ServerId};

/// Longest head of a request or an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

const LINE: &str = "\r\n";
const SUBPROTOCOL: &str = "sec-websocket-protocol:";

/// The answer of a livecoding server to HELLO.
const REFUSAL_OF_HELLO: &str = "server: rejected malformed command";

/// Length of what a relay says that says much, in bytes.
const MUCH: usize = 64 << 20;

/// A lie of a relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lie {
    /// It does not.
    None,
    /// It is a proxy that puts the relay's own address into the `Host` header.
    RewritesHost,
    /// It registers servers under this ID.
    Registers(ServerId),
    /// It sends clients to the server of this ID, whichever they ask for.
    ConnectsTo(ServerId),
    /// Instead of each message to a page it says one of 64 MiB: a text, or bytes.
    SaysMuch {
        /// True for a text.
        text: bool,
    },
    /// It speaks the livecode dialect, whatever its peers speak. The relay behind it has to speak it.
    Livecode,
}

#[derive(Debug)]
struct State {
    lie: Mutex<Lie>,
    /// All that has passed in the messages of WebSockets, in both directions.
    seen: Mutex<Vec<u8>>,
    cuts: watch::Sender<u64>,
}

impl State {
    fn lie(&self) -> Lie {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, bytes: &[u8]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

/// A lying relay in a thread of its own, on a free port of 127.0.0.1. Dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Liar {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// Passes everything on to `relay`, faithfully until [`tell`](Self::tell).
    pub fn start(relay: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (lie, seen, cuts) = (Mutex::new(Lie::None), Mutex::default(), watch::Sender::new(0));
        let state = Arc::new(State { lie, seen, cuts });
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener does not block");
                tokio::select! {
                    () = take_connections(&listener, relay, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// `ws://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Lies like this from now on; [`Lie::Livecode`] to those who connect from now on.
    pub fn tell(&self, lie: Lie) {
        *self.state.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    /// Cuts all connections that there are.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns whether a text has passed where the relay can read it.
    pub fn has_seen(&self, text: &str) -> bool {
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only with a test that has failed already.
            let _ = thread.join();
        }
    }
}

async fn take_connections(listener: &TcpListener, relay: SocketAddr, state: &Arc<State>) {
    loop {
        // An attempt that failed between its arrival and here is none.
        let Ok((near, _)) = listener.accept().await else { continue };
        let state = Arc::clone(state);
        tokio::spawn(async move {
            let mut cuts = state.cuts.subscribe();
            tokio::select! {
                // A connection that ends is the pages' affair.
                _ = pass_on(near, relay, &state) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn pass_on(mut near: TcpStream, relay: SocketAddr, state: &State) -> Result<()> {
    let mut far = TcpStream::connect(relay).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut request, rest) = read_head(&mut near).await?;
    if state.lie() == Lie::RewritesHost {
        request = with_header(&request, "host:", &format!("Host: {}{LINE}", far.peer_addr()?));
    }
    // Those of the livecode dialect have no subprotocol, and none of their messages is changed.
    let speaks_tunnel = request.lines().any(|line| line.to_ascii_lowercase().starts_with(SUBPROTOCOL));
    if !speaks_tunnel {
        far.write_all(request.as_bytes()).await?;
        far.write_all(&rest).await?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await?;
        return Ok(());
    }
    let speaks_livecode = state.lie() == Lie::Livecode;
    // Frames in the handshake are not taken: they come again as messages.
    let subprotocol = if speaks_livecode { "" } else { "Sec-WebSocket-Protocol: tunnel.v1\r\n" };
    let request = with_header(&request, SUBPROTOCOL, subprotocol);
    far.write_all(request.as_bytes()).await?;
    let (answer, early) = read_head(&mut far).await?;
    // A browser wants one of the subprotocols that it offered.
    let answer = with_header(&answer, SUBPROTOCOL, "Sec-WebSocket-Protocol: tunnel.v1\r\n");
    near.write_all(answer.as_bytes()).await?;
    if !rest.is_empty() || !early.is_empty() {
        bail!("somebody spoke before the WebSocket was open");
    }
    let mut page = ServerBuilder::new().serve(near);
    let mut relay = ClientBuilder::new().take_over(far);
    loop {
        tokio::select! {
            message = page.next() => {
                let Some(message) = message.transpose()? else { return Ok(()) };
                state.see(message.as_payload());
                if speaks_livecode && message.is_binary() {
                    page.send(Message::text(REFUSAL_OF_HELLO)).await?;
                } else {
                    relay.send(change(message, state.lie())).await?;
                }
            }
            message = relay.next() => {
                let Some(message) = message.transpose()? else { return Ok(()) };
                state.see(message.as_payload());
                page.send(match state.lie() {
                    Lie::SaysMuch { text: true } => Message::text("x".repeat(MUCH)),
                    Lie::SaysMuch { text: false } => Message::binary(vec![0; MUCH]),
                    lie => change(message, lie),
                })
                .await?;
            }
        }
    }
}

/// Changes a message as the lie has it.
fn change(message: Message, lie: Lie) -> Message {
    if !message.is_binary() {
        return message;
    }
    let bytes = Bytes::from(BytesMut::from(message.into_payload()));
    let changed = match (lie, Frame::decode(bytes.clone())) {
        (Lie::Registers(server_id), Ok(Some(Frame::Registered { .. }))) => {
            Some(Frame::Registered { server_id }.encode())
        }
        (Lie::ConnectsTo(server_id), Ok(Some(Frame::Connect { channel, port, kind, payload, .. }))) => {
            Some(Frame::Connect { channel, server_id, port, kind, payload }.encode())
        }
        _ => None,
    };
    Message::binary(changed.unwrap_or(bytes))
}

/// The head of a request or an answer, and what came behind it.
async fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(END.len()).position(|window| window == END) {
            let rest = bytes.split_off(at + END.len());
            return Ok((String::from_utf8(bytes)?, rest));
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            bail!("no head of a request");
        }
    }
}

/// A head with this line instead of those that begin with `name`, in lower case.
fn with_header(head: &str, name: &str, line: &str) -> String {
    let mut lines = head.split_inclusive(LINE);
    let first = lines.next().unwrap_or_default();
    let others = lines.filter(|line| !line.to_ascii_lowercase().starts_with(name));
    [first, line].into_iter().chain(others).collect()
}
