//! One WebSocket's task: it reads, has the router decide, and writes. `entrance` runs it.

use crate::Config;
use crate::bucket::Allowance;
#[cfg(feature = "cluster")]
use crate::complaints::complain;
use crate::metrics::{Ended, Metrics};
use crate::shared::Shared;
use crate::shared_router::{LinkHandle, Message, Next};
use crate::socket::{ReceiveError, Socket, ThreadBuffers};
use crate::transport::Transport;
use crate::websocket::Received;
use bytes::Bytes;
use std::future::{Future as _, poll_fn};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};
use tracing::debug;
use tunnel_protocol::CloseCode;
use tunnel_protocol::early::Repetition;
use tunnel_protocol::livecode::MAX_COMMAND;
#[cfg(feature = "cluster")]
use tunnel_protocol::node::FORWARD_OVERHEAD;
#[cfg(feature = "cluster")]
use tunnel_protocol::router::NodeSide;
use tunnel_protocol::router::{Dialect, Peer, ReadCommand, Registration};

/// Messages, and about how many bytes, that are read before other connections get their turn.
///
/// Enough that the lock and the system calls are shared by many small messages, and little enough that a flood
/// delays nobody by more than some 100 µs.
const BATCH_MESSAGES: usize = 128;
const BATCH_BYTES: usize = 128 << 10;

/// About how many bytes are written before others get their turn: as much as goes into one call.
///
/// Frames that are taken from the router can't be overtaken any more by smaller ones that came later.
const WRITE_BYTES: usize = 64 << 10;

/// The reason why a connection ends.
#[derive(Debug, thiserror::Error)]
enum EndReason {
    #[error("the router ended it: {0}, {1:?}")]
    Router(CloseCode, String),
    #[error("the peer closed it: {0}")]
    Peer(CloseCode),
    #[error("the connection was lost")]
    Lost,
    #[error("the peer sent what it may not: {0}, {1:?}")]
    Fault(CloseCode, String),
    #[error("the peer is dead: {0}")]
    Dead(&'static str),
    #[error("the relay ends")]
    Killed,
}

impl EndReason {
    /// The label under which it is counted.
    const fn metric(&self) -> Ended {
        match self {
            Self::Router(..) => Ended::Relay,
            Self::Peer(_) => Ended::Peer,
            Self::Lost => Ended::Lost,
            Self::Fault(..) => Ended::Fault,
            Self::Dead(_) => Ended::Dead,
            Self::Killed => Ended::Killed,
        }
    }
}

struct Connection<'a> {
    socket: Socket,
    link: LinkHandle<'a>,
    peer: Arc<Peer>,
    limits: &'a Config,
    received: Vec<Message>,
    /// At most `early::MAX_LEN` bytes, until the peer's first message.
    repetition: Repetition,
    clock: Pin<Box<Sleep>>,
    /// The time of the last message, or of the connection's begin.
    heard: Instant,
    /// The time of the last ping, or of the connection's begin.
    pinged: Instant,
    /// Since when the peer's socket has taken nothing of what is queued, and how much it had taken by then.
    stalled: Option<(Instant, u64)>,
    unsent_pongs: u32,
    /// The allowance for what the peer sends.
    allowance: Allowance,
    /// Until when nothing is read, because the peer sent more than it may.
    quiet_until: Option<Instant>,
}

/// Drop guard that counts a connection whose task panicked.
struct CountPanic<'a>(&'a Metrics);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended.count(Ended::Panic);
        }
    }
}

/// Runs the connection until it is closed. `early` is what the peer said in its handshake.
pub(crate) async fn run(
    shared: &Shared,
    limits: &Config,
    transport: Transport,
    peer: &Arc<Peer>,
    early: Vec<Bytes>,
) {
    let max_message = match peer.dialect {
        Dialect::Tunnel => usize::try_from(limits.max_frame).unwrap_or(usize::MAX),
        Dialect::Livecode => MAX_COMMAND,
    };
    // An owner of the peer that gives it no address has it share with all such.
    let address = peer.address.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let part = shared.half_sent.part(address);
    let socket = Socket::new(transport, max_message, limits.max_fragments, Some(Box::new(part)));
    let end = drive(shared, limits, socket, shared.router.open_link(peer.clone()), peer, early).await;
    // In a box: every connection's task has room for all that it awaits.
    Box::pin(close(end.0, end.1, limits)).await;
}

/// Runs a connection to or from another relay until it is closed. `limits` are those for such links: it stands for many peers.
#[cfg(feature = "cluster")]
pub(crate) async fn run_node(
    shared: &Shared,
    limits: &Config,
    transport: Transport,
    peer: &Arc<Peer>,
    side: NodeSide,
    address: &str,
) {
    let max_message =
        usize::try_from(limits.max_frame).unwrap_or(usize::MAX).saturating_add(FORWARD_OVERHEAD);
    let socket = Socket::new(transport, max_message, limits.max_fragments, None);
    let socket = if side == NodeSide::Accepted { socket } else { socket.dialled() };
    let link = shared.router.open_node_link(peer.clone(), side, address);
    let (socket, end) = drive(shared, limits, socket, link, peer, Vec::new()).await;
    if let EndReason::Router(code, reason) | EndReason::Fault(code, reason) = &end
        && !matches!(*code, CloseCode::NORMAL | CloseCode::DRAINING)
    {
        complain!(shared.complaints, NodeLink, %address, %code, %reason, "a link between relays ends");
    }
    close(socket, end, limits).await;
}

async fn drive(
    shared: &Shared,
    limits: &Config,
    socket: Socket,
    link: LinkHandle<'_>,
    peer: &Arc<Peer>,
    early: Vec<Bytes>,
) -> (Socket, EndReason) {
    let now = Instant::now();
    let mut connection = Connection {
        socket,
        link,
        peer: peer.clone(),
        limits,
        received: Vec::new(),
        repetition: Repetition::of(&early),
        clock: Box::pin(tokio::time::sleep(limits.websocket_ping_interval)),
        heard: now,
        pinged: now,
        stalled: None,
        unsent_pongs: 0,
        allowance: Allowance::new(limits, now.into_std()),
        quiet_until: None,
    };
    connection.received = early.into_iter().map(|frame| Message::Binary(frame.into())).collect();
    let count_panic = CountPanic(&shared.metrics);
    let end = poll_fn(|cx| connection.poll(cx)).await;
    drop(count_panic);
    let Connection { socket, link, .. } = connection;
    debug!(link = %link.id(), %end, "WebSocket ends");
    shared.metrics.ended.count(end.metric());
    // Released before the closing handshake: the other sides are told at once.
    drop(link);
    (socket, end)
}

/// The closing handshake, as far as the peer takes part in time.
async fn close(mut socket: Socket, end: EndReason, limits: &Config) {
    let (code, reason) = match end {
        EndReason::Router(code, reason) | EndReason::Fault(code, reason) => (code, reason),
        EndReason::Peer(code) => (code, String::new()),
        EndReason::Lost | EndReason::Dead(_) | EndReason::Killed => return socket.reset(),
    };
    let flush = socket.flush_with_close(code, &reason);
    if let Ok(Ok(())) = tokio::time::timeout(limits.write_timeout, flush).await {
        // A peer that takes its time, or breaks off, is reset when this ends.
        let _ignored = tokio::time::timeout(limits.close_timeout, socket.finish()).await;
    } else {
        socket.reset();
    }
}

/// A text as the router takes it: a command is read here, which takes too long for the lock.
fn text_message(text: String, dialect: Dialect) -> Message {
    match dialect {
        Dialect::Tunnel => Message::Text(text),
        Dialect::Livecode => Message::Command { len: text.len(), command: Box::new(ReadCommand::read(text)) },
    }
}

impl Connection<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        match ThreadBuffers::with(|buffers| self.turn(cx, buffers)) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Reads a batch, has the router decide, writes a batch.
    fn turn(&mut self, cx: &mut Context<'_>, buffers: &mut ThreadBuffers) -> Result<(), EndReason> {
        self.keep_time(cx)?;
        // A livecode peer's commands wait for the one before them: nothing is read meanwhile, which holds up the peer.
        let is_held = self.peer.dialect == Dialect::Livecode && !self.received.is_empty();
        self.socket.borrow(buffers);
        let read = if is_held { Ok(false) } else { self.read(cx, buffers) };
        self.socket.pause(buffers);
        let flushed = if self.stalled.is_some() { self.flush(cx, buffers) } else { Ok(()) };
        let budget = if self.stalled.is_some() { 0 } else { WRITE_BYTES };
        let next = self.exchange(cx, budget);
        flushed?;
        match next {
            Next::Close(code, reason) => return Err(EndReason::Router(code, reason)),
            Next::Killed => return Err(EndReason::Killed),
            Next::More | Next::Wait | Next::Prove => {}
        }
        // Not earlier: what the peer sent before it ended has been handed on.
        let more_to_read = read?;
        if self.stalled.is_none() {
            self.flush(cx, buffers)?;
        }
        let is_let_go = is_held && self.received.is_empty();
        if more_to_read || is_let_go || next == Next::More && self.stalled.is_none() {
            cx.waker().wake_by_ref(); // the others first
        }
        Ok(())
    }

    /// Reads a batch of messages, unless the peer has sent more than it may; whether there may be more at once.
    ///
    /// Bytes that are not read fill the system's buffers, and then hold up the peer.
    fn read(&mut self, cx: &mut Context<'_>, buffers: &mut ThreadBuffers) -> Result<bool, EndReason> {
        if self.quiet_until.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        self.quiet_until = None;
        let mut bytes = 0;
        let more = self.read_batch(cx, buffers, &mut bytes)?;
        let now = Instant::now();
        let batch = (self.socket.take_frames(), bytes);
        let Some(wait) = self.allowance.charge(self.limits, batch, now.into_std()) else { return Ok(more) };
        let until = now + wait;
        self.quiet_until = Some(until);
        let ring = until.min(self.clock.deadline());
        self.clock.as_mut().reset(ring);
        self.keep_time(cx)?;
        Ok(false)
    }

    fn read_batch(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ThreadBuffers,
        bytes: &mut usize,
    ) -> Result<bool, EndReason> {
        let mut messages = 0;
        while messages < BATCH_MESSAGES && *bytes < BATCH_BYTES {
            let Poll::Ready(received) = self.socket.poll_receive(cx, buffers) else {
                if *bytes > 0 {
                    self.heard = Instant::now();
                }
                return Ok(false);
            };
            messages += 1;
            match received {
                Some(Ok(Received::Binary(message))) => {
                    #[cfg(test)]
                    crate::faults::trip(crate::faults::WHILE_READING, &message);
                    *bytes += message.len();
                    if !self.repetition.has_next(&message) {
                        self.received.push(Message::Binary(message));
                    }
                }
                Some(Ok(Received::Text(text))) => {
                    *bytes += text.len();
                    self.received.push(text_message(text, self.peer.dialect));
                }
                Some(Ok(Received::Ping(_))) => self.count_ping()?,
                // A frozen page's browser still answers, so pongs keep a link. The ping before it was sent because PING,
                // which tells the page's script that the relay is there, was not answered.
                Some(Ok(Received::Pong)) => self.received.push(Message::Alive),
                Some(Ok(Received::Close(code))) => return Err(EndReason::Peer(code)),
                Some(Err(ReceiveError::Fault(fault))) => {
                    return Err(EndReason::Fault(fault.code(), fault.to_string()));
                }
                Some(Err(ReceiveError::Lost)) | None => return Err(EndReason::Lost),
            }
        }
        self.heard = Instant::now();
        Ok(true)
    }

    /// Has the router decide about what was received, and checks the proof of a REGISTER for it.
    fn exchange(&mut self, cx: &Context<'_>, budget: usize) -> Next {
        let Self { socket, link, received, .. } = self;
        loop {
            let next = link.exchange(received, budget, cx.waker(), |transmit| socket.send(transmit));
            let (Next::Prove, Some(Message::Binary(message))) = (&next, received.first()) else {
                return next;
            };
            // At most once or twice for each link: a wrong proof ends it, and a right one is not asked for again.
            match Registration::of_message(message, &self.peer) {
                Some(registration) => received[0] = Message::Registration(Box::new(registration)),
                None => return next,
            }
        }
    }

    /// The socket queues a pong for each ping, whether or not the peer takes any.
    fn count_ping(&mut self) -> Result<(), EndReason> {
        if self.stalled.is_none() {
            return Ok(());
        }
        self.unsent_pongs += 1;
        if self.unsent_pongs <= self.limits.max_unsent_pongs {
            return Ok(());
        }
        Err(EndReason::Dead("it sent pings and took no pongs"))
    }

    /// Writes what is queued, as far as the peer's socket takes it.
    fn flush(&mut self, cx: &mut Context<'_>, buffers: &mut ThreadBuffers) -> Result<(), EndReason> {
        match self.socket.poll_flush(cx, buffers) {
            Poll::Ready(Ok(())) => {
                self.stalled = None;
                self.unsent_pongs = 0;
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(EndReason::Lost),
            Poll::Pending => {
                let written = self.socket.written();
                if self.stalled.is_none_or(|(_, before)| before != written) {
                    self.stalled = Some((Instant::now(), written));
                }
                Ok(())
            }
        }
    }

    /// Ends a peer whose socket takes nothing and pings one that is silent.
    ///
    /// The clock is not touched by traffic: when it rings, it is set to the next time that may matter.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Result<(), EndReason> {
        while self.clock.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let stalled_at = self.stalled.map(|(since, _)| since + self.limits.write_timeout);
            if stalled_at.is_some_and(|at| at <= now) {
                return Err(EndReason::Dead("it took nothing of what waits for it"));
            }
            if self.heard.max(self.pinged) + self.limits.websocket_ping_interval <= now {
                self.pinged = now;
                if self.stalled.is_none() {
                    self.socket.ping();
                }
            }
            let ping_at = self.heard.max(self.pinged) + self.limits.websocket_ping_interval;
            let quiet_until = self.quiet_until.filter(|until| *until > now);
            let at = [stalled_at, quiet_until].into_iter().flatten().fold(ping_at, Instant::min);
            self.clock.as_mut().reset(at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
