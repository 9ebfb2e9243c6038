//! The end-to-end state of two peers: an ordered, reliable stream of messages each way, sealed, over one path after
//! another.
//!
//! A session outlives its paths. While it has one, [`Session::poll_record`] gives the records to send on it; when a
//! path dies, [`Session::detach`] keeps what the peer has not acknowledged, and [`Session::attach`] goes on over the
//! next path from where the peer stands.

mod config;
mod handback;
mod inbound;
mod plain;
mod receive;
mod record;
mod send;

pub use config::{Config, DEFAULT_MAX_MESSAGE};
pub use handback::Handback;
pub(crate) use record::FEATURES;
pub use record::{
    Epoch, MAX_OFFER, MAX_PATH, MAX_PROTOCOL, MAX_PROTOCOLS, Open, Opened, Position, SessionId, offer_problem,
};

use crate::close::truncate_reason;
use crate::codec::{DecodeError, Reader};
use crate::handshake::{OVERHEAD, OpenError, Transport};
use crate::ledger::Owner;
use crate::time::Duration;
use crate::{CloseCode, Instant, Message};
use bytes::{BufMut, Bytes, BytesMut};
use plain::Plain;
use receive::{RawMessage, ReceiveError, ReceiveStream};
use record::{ACK_LEN, GREASE_FRAME, STREAM_HEADER, SessionFrame, put_stream_header};
use send::SendStream;
use std::collections::VecDeque;

/// The time that an acknowledgement may wait for something to travel with: well under the delay a person notices.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// Bytes received after which an acknowledgement waits less: a peer with many sessions may keep no more than that.
const ACK_SOON_AFTER: u64 = 64 * 1024;

/// The time that such an acknowledgement waits.
const ACK_SOON: Duration = Duration::from_millis(5);

/// Bytes received after which an acknowledgement does not wait. One for each 64 KiB would cost bulk transfers a sixth of their speed.
const ACK_AFTER: u64 = 256 * 1024;

/// The time between measurements of the round trip while there is traffic.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The silence of the peer after which it is asked for a sign of life: proxies drop connections that are idle for a minute.
const QUIET: Duration = Duration::from_secs(30);

/// The time that a sign of life may take before the path is taken for dead.
const STALLED: Duration = Duration::from_secs(30);

/// The time that a closing handshake may make no progress.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that a session tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionEvent {
    /// A message arrived. What it [costs](Message::cost) counts against the peer's allowance until [`Session::consume`].
    Message(Message),
    /// The session has ended; nothing follows.
    Closed(Closed),
}

/// The end of a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closed {
    /// The peer's close code, or why this side gave up.
    pub code: CloseCode,
    /// The reason, in words.
    pub reason: String,
    /// True if both sides agreed, so that every message of either has arrived.
    pub was_clean: bool,
}

/// A record ended its path or its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record was not sealed by the peer, or not as the next one: the path is worthless, the session is not.
    #[error("the record can't be opened: {0}")]
    Open(#[from] OpenError),
    /// The peer, authenticated, broke the protocol: the session has ended.
    #[error("the peer broke the session protocol")]
    Violation,
}

/// Counters since the session began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionStats {
    /// Payload bytes that the application sent.
    pub bytes_sent: u64,
    /// Payload bytes that arrived.
    pub bytes_received: u64,
    /// Messages that the application sent.
    pub messages_sent: u64,
    /// Messages that arrived.
    pub messages_received: u64,
    /// Bytes that went out again after a path died.
    pub bytes_retransmitted: u64,
    /// Paths taken after the first.
    pub resumptions: u32,
    /// Bytes sent and not acknowledged.
    pub bytes_unacknowledged: u64,
    /// Smoothed round-trip time from peer to peer, once measured.
    pub round_trip: Option<Duration>,
}

/// One side of a session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    send: SendStream,
    receive: ReceiveStream,
    transport: Option<Transport>,
    state: State,
    /// The code and reason to leave in the next record; the session has ended.
    farewell: Option<(CloseCode, String)>,
    ack: Ack,
    ping: Ping,
    pong: Option<u64>,
    events: VecDeque<SessionEvent>,
    stats: SessionStats,
    /// The session's share of the page's memory, in bytes.
    share: u64,
    attached_before: bool,
    /// The session ended with the answer to the peer's close.
    answered: bool,
    /// True if this side asks for signs of life.
    keeps_alive: bool,
    /// The peer speaks neither records nor streams: a plain peer of the livecode dialect.
    plain: Option<Plain>,
}

#[derive(Debug)]
enum State {
    Open,
    /// This side's close is queued; the peer's is awaited.
    Closing {
        give_up_at: Instant,
    },
    /// The peer's close came first; ours answers it and is not out yet.
    Answering {
        closed: Closed,
        /// Code and reason of the answer until it is in the stream: until then the application may close with its own.
        answer: Option<(Option<CloseCode>, String)>,
    },
    /// The application has been told. The answer may still have to reach the peer.
    Ended,
}

/// State of the acknowledgements.
#[derive(Debug)]
struct Ack {
    /// The time at which a record is sent for the acknowledgement alone; it travels with an earlier one.
    at: Instant,
    /// The number that the peer was told last.
    told: u64,
}

#[derive(Debug, Default)]
struct Ping {
    /// The time at which a record of the peer was opened last, or the path was taken.
    heard_at: Instant,
    /// A ping is wanted though there is nothing to send with it.
    wanted: bool,
    next_at: Instant,
    nonce: u64,
    sent_at: Option<Instant>,
    /// Set when the window was last raised, to see how fast it is used up.
    raised_at: Instant,
}

impl Session {
    /// A session without a path; nothing is sent before [`attach`](Self::attach).
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            receive: ReceiveStream::new(
                config.window,
                config.max_window,
                config.max_message,
                config.ledger.account(Vec::new()),
            ),
            config,
            send: SendStream::default(),
            transport: None,
            state: State::Open,
            farewell: None,
            ack: Ack { at: Instant::NEVER, told: 0 },
            ping: Ping::default(),
            pong: None,
            events: VecDeque::new(),
            stats: SessionStats::default(),
            share: u64::MAX,
            attached_before: false,
            answered: false,
            keeps_alive: false,
            plain: None,
        }
    }

    /// A session with a plain peer: texts as they are, without encryption, acknowledgement, resumption or a closing
    /// handshake. Binary messages are sent as text: their bytes are read as UTF-8, and what is none becomes U+FFFD.
    #[must_use]
    pub fn new_plain(config: Config) -> Self {
        let mut session = Self::new(config);
        session.become_plain();
        session
    }

    /// The same for a session that nothing was sent on: its peer has turned out to be a plain one.
    pub fn become_plain(&mut self) {
        self.plain = Some(Plain::default());
    }

    /// Returns whether the peer is a plain one.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// Queues a message. The caller has checked [`is_open`](Self::is_open).
    pub fn send(&mut self, message: Message) {
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += message.len() as u64;
        if let Some(plain) = &mut self.plain {
            return plain.push(message);
        }
        match message {
            Message::Text(text) => self.send.push(receive::TEXT, Bytes::from(text)),
            Message::Binary(data) => self.send.push(receive::BINARY, data),
        }
    }

    /// Closes in order: behind what is queued. `None` is a close without a code (1005 at the peer).
    ///
    /// If the peer has closed and the answer is not out, this close is the answer: each side then hears of the other's code.
    pub fn close(&mut self, code: Option<CloseCode>, reason: &str, now: Instant) {
        if self.plain.is_some() {
            // The dialect has no close: what is queued is lost with the channel.
            let code = code.unwrap_or(CloseCode::NO_STATUS);
            return self.end(Closed { code, reason: reason.to_owned(), was_clean: true });
        }
        match &mut self.state {
            State::Open => {
                self.push_close(code, reason);
                self.state = State::Closing { give_up_at: now + CLOSE_TIMEOUT };
            }
            State::Answering { answer: Some(answer), .. } => *answer = (code, reason.to_owned()),
            _ => {}
        }
    }

    /// Ends at once: the peer is told with the next record, and [`SessionEvent::Closed`] comes now.
    pub fn abort(&mut self, code: CloseCode, reason: &str, was_clean: bool) {
        if self.plain.is_none() {
            self.farewell = Some((code, reason.to_owned()));
        }
        self.end(Closed { code, reason: reason.to_owned(), was_clean });
    }

    /// Ends at once without a word to the peer, who can't be reached.
    pub fn give_up(&mut self, code: CloseCode, reason: &str) {
        self.end(Closed { code, reason: reason.to_owned(), was_clean: false });
        self.transport = None;
    }

    /// Bounds what is kept to be sent again, and how far the peer may be ahead, in bytes. What has been granted stays
    /// so.
    pub fn set_share(&mut self, share: u64) {
        self.share = share;
        self.receive.set_window(self.receive.window().min(share));
    }

    /// Takes messages of so many bytes at most from now on.
    pub const fn set_max_message(&mut self, max_message: u64) {
        self.config.max_message = max_message;
        self.receive.set_max_message(max_message);
    }

    /// Charges what is held of the page's [`Ledger`](crate::ledger::Ledger) to `owners`.
    pub fn belong_to(&mut self, owners: Vec<Owner>) {
        self.receive.belong_to(owners);
    }

    /// The application has taken in messages that [cost](Message::cost) so much; the peer may send as much more.
    pub fn consume(&mut self, cost: usize, now: Instant) {
        self.receive.consume(cost as u64);
        self.grant(now);
    }

    /// Goes on over a new path, from where the peer says that it stands. `false` if it can't stand there: end the
    /// session then.
    pub fn attach(&mut self, transport: Transport, peer: Position, now: Instant) -> bool {
        let furthest = self.send.furthest();
        if !self.send.resume(peer.received, peer.limit) {
            return false;
        }
        if self.attached_before {
            self.stats.bytes_retransmitted += furthest - peer.received;
            self.stats.resumptions += 1;
        }
        self.attached_before = true;
        self.transport = Some(transport);
        self.ack.at = now;
        self.ping.next_at = now;
        self.ping.sent_at = None;
        self.ping.heard_at = now;
        self.ping.wanted = false;
        if let State::Closing { give_up_at } = &mut self.state {
            *give_up_at = now + CLOSE_TIMEOUT;
        }
        true
    }

    /// The path is gone.
    pub fn detach(&mut self) {
        self.transport = None;
        self.pong = None;
        if self.farewell.is_some() {
            self.farewell = None;
        }
    }

    /// Acts on the clock; calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Closing { give_up_at } = self.state
            && give_up_at <= now
            && self.transport.is_some()
        {
            self.abort(CloseCode::ABNORMAL, "the peer did not answer the close", false);
        }
        if self.keeps_alive
            && self.transport.is_some()
            && self.ping.heard_at + QUIET <= now
            && !self.is_stalled(now)
        {
            self.ping.wanted = self.ping.sent_at.is_none_or(|at| at <= self.ping.heard_at);
        }
    }

    /// Has this side ask for a sign of life when the peer is silent. One side does: the one that can find another path.
    pub const fn keep_alive(&mut self) {
        self.keeps_alive = true;
    }

    /// Returns whether the peer gave no sign of life though it was asked for one: the path is dead, or the peer is frozen.
    #[must_use]
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.keeps_alive && self.transport.is_some() && self.ping.heard_at + QUIET + STALLED <= now
    }

    /// A payload of the handshake as this side sends it: with what no peer knows behind it, if it
    /// [is to](Config::greases).
    pub(crate) fn greased(&self, payload: Bytes) -> Bytes {
        if self.config.greases { record::greased(&payload) } else { payload }
    }

    /// The next record for the path: `header`, then the sealed frames; at most `max_len` bytes in all, which are 8,192
    /// or more.
    ///
    /// Small messages are packed together, whatever else is due travels along.
    pub fn poll_record(&mut self, header: &[u8], max_len: usize, now: Instant) -> Option<Bytes> {
        if !self.has_record(now) {
            return None;
        }
        if let Some(plain) = &mut self.plain {
            return plain.pop(header);
        }
        if let State::Answering { answer, .. } = &mut self.state
            && let Some((code, reason)) = answer.take()
        {
            self.push_close(code, &reason);
        }
        let mut room = max_len - header.len() - OVERHEAD;
        let sendable = self.send.sendable(self.replay_buffer(), room);
        let mut out = BytesMut::with_capacity(max_len.min(header.len() + OVERHEAD + 256 + sendable));
        out.put_slice(header);
        let received = self.receive.received();
        if self.ack.at < Instant::NEVER || received > self.ack.told {
            let limit = self.receive.raise_limit();
            SessionFrame::Ack { received, limit }.encode(&mut out);
            self.ack = Ack { at: Instant::NEVER, told: received };
            room -= ACK_LEN;
        }
        if self.config.greases {
            out.put_slice(GREASE_FRAME);
            room -= GREASE_FRAME.len();
        }
        if let Some(nonce) = self.pong.take() {
            SessionFrame::Pong { nonce }.encode(&mut out);
            room -= 9;
        }
        if self.ping.next_at <= now || self.ping.wanted {
            self.ping.wanted = false;
            self.ping.nonce += 1;
            self.ping.sent_at = Some(now);
            self.ping.next_at = now + PING_INTERVAL;
            SessionFrame::Ping { nonce: self.ping.nonce }.encode(&mut out);
            room -= 9;
        }
        let len = sendable.min(room - STREAM_HEADER).min(u16::MAX.into());
        if len > 0 {
            put_stream_header(&mut out, self.send.sent(), len);
            self.send.take(len, &mut out);
        }
        // The farewell follows all that the peer's allowance lets through.
        if len == sendable
            && let Some((_, reason)) = &self.farewell
            && out.len() + 6 + truncate_reason(reason).len() + OVERHEAD <= max_len
            && let Some((code, reason)) = self.farewell.take()
        {
            SessionFrame::Close { code, reason }.encode(&mut out);
        }
        let transport = self.transport.as_mut()?;
        if transport.seal_in_place(&mut out, header.len()).is_err() {
            // 2^64 records: the path is used up.
            self.transport = None;
            return None;
        }
        if let State::Answering { closed, .. } = &self.state
            && self.send.buffered_amount() == 0
            && self.send.sent() == self.send.end()
        {
            let closed = closed.clone();
            self.answered = true;
            self.end(closed);
        }
        Some(out.freeze())
    }

    /// Returns whether there is something to send on the path now.
    #[must_use]
    pub fn has_record(&self, now: Instant) -> bool {
        if let Some(plain) = &self.plain {
            return !plain.is_empty() && !self.has_ended();
        }
        self.transport.is_some()
            && (self.ack.at <= now
                || self.pong.is_some()
                || self.ping.wanted
                || self.farewell.is_some()
                || self.send.sendable(self.replay_buffer(), 1) > 0)
    }

    /// Returns the next event, in order.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// The time at which [`has_record`](Self::has_record) becomes true by itself, or [`handle_timeout`](Self::handle_timeout) does
    /// something.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        let mut at = Instant::NEVER;
        if self.transport.is_none() {
            return at;
        }
        if let State::Closing { give_up_at } = self.state {
            at = give_up_at;
        }
        let quiet = self.ping.heard_at + QUIET;
        if self.keeps_alive {
            at = at.min(quiet.or_never(now)).min((quiet + STALLED).or_never(now));
        }
        at.min(self.ack.at.or_never(now))
    }

    /// Returns this side's position, for the handshake on the next path.
    pub fn position(&mut self) -> Position {
        Position { received: self.receive.received(), limit: self.receive.raise_limit() }
    }

    /// Returns whether messages may be sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Returns whether [`SessionEvent::Closed`] has been queued.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Returns whether the session has ended and the peer knows all that this side can tell it.
    ///
    /// The side that answered a close lingers until its answer is acknowledged or the peer drops the path.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.has_ended() && self.farewell.is_none() && (!self.answered || self.send.is_done())
    }

    /// Returns whether the end may still have to reach the peer, over another path if need be.
    #[must_use]
    pub const fn may_linger(&self) -> bool {
        self.answered
    }

    /// For close reasons: how much of what was sent is known to have arrived.
    #[must_use]
    pub fn certainty(&self) -> String {
        let (known, open) = (self.send.acknowledged(), self.send.unacknowledged());
        if open == 0 {
            "all that was sent has arrived".to_owned()
        } else {
            format!("{known} bytes have arrived for certain, {open} are uncertain")
        }
    }

    /// Returns whether there is a path.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.transport.is_some() || self.plain.is_some()
    }

    /// Payload bytes queued and not yet put into a record.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.plain.as_ref().map_or_else(|| self.send.buffered_amount(), Plain::buffered_amount)
    }

    /// Bytes of memory held: queued, kept for replay, received and not consumed.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.send.held() + self.receive.held() + self.plain.as_ref().map_or(0, Plain::buffered_amount) as u64
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        SessionStats { bytes_unacknowledged: self.send.replay_len(), ..self.stats }
    }

    fn replay_buffer(&self) -> usize {
        self.config.replay_buffer.min(usize::try_from(self.share).unwrap_or(usize::MAX))
    }

    fn push_close(&mut self, code: Option<CloseCode>, reason: &str) {
        let mut payload = BytesMut::new();
        if let Some(code) = code {
            payload.put_u16(code.0);
            payload.put_slice(truncate_reason(reason).as_bytes());
        }
        self.send.push(receive::CLOSE, payload.freeze());
    }

    fn end(&mut self, closed: Closed) {
        if !matches!(self.state, State::Ended) {
            self.state = State::Ended;
            self.events.push_back(SessionEvent::Closed(closed));
        }
    }
}

/// Code and reason of a close message; `None` if it is malformed.
fn decode_close(payload: Bytes) -> Option<(Option<CloseCode>, String)> {
    if payload.is_empty() {
        return Some((None, String::new()));
    }
    let mut reader = Reader::new(payload);
    let code = CloseCode(reader.u16("code"));
    let reason = reader.str(reader.remaining(), "reason");
    reader.require(reason.len() <= crate::close::MAX_REASON, "reason");
    reader.end().ok()?;
    Some((Some(code), reason))
}
