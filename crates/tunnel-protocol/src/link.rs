//! A peer's side of the link protocol: one WebSocket to the relay, and its channels.

mod event;

pub use event::{LinkError, LinkEvent};

use crate::codec::DecodeError;
use crate::frame::{ACCEPT, CLOSE, ChannelId, ChannelKind, Frame, HEADER_LEN, PONG, Welcome};
use crate::handshake::MAX_MESSAGE;
use crate::identity::{DhError, StaticKey};
use crate::server_id::PublicKey;
use crate::sorted::SortedSet;
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId, VERSION, early, registration};
use bytes::Bytes;
use std::collections::VecDeque;

/// The time that a WebSocket may take to open. Some never say what became of them: Chromium's that a Content Security Policy forbids.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that the relay may take from the WebSocket's opening to its WELCOME.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// The time that the relay may take to answer a ping that follows silence.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a ping that asks whether the link survived a sleep or a change of network.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Shortest `idle_timeout` that is believed. A page pings after half of it, and takes each answer as a sign of life: with none
/// at all it would ping once for each round trip.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pongs that may wait to be sent; a relay that pings faster is not answered for each.
const MAX_PONGS: usize = 4;

/// Longest message that a relay has reason to send, in bytes, whatever it says its limit is: INCOMING with the longest
/// handshake message, and what else is in that frame.
pub const MAX_RECEIVED: usize = MAX_MESSAGE + 1_024;

/// Bytes of answers to INCOMING that may wait to be sent: a relay that goes on asking and does not read is left.
const MAX_ANSWERS: usize = 1024 * 1024;

/// Protocol state of one peer's WebSocket to the relay.
///
/// The owner feeds it with [`handle_message`](Self::handle_message) and [`handle_timeout`](Self::handle_timeout) and
/// drains [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event). Records do not pass through
/// it: the owner writes them behind [`data_header`](crate::frame::data_header) when it [`may_send`](Self::may_send).
#[derive(Debug)]
pub struct Link {
    welcome: Option<Box<Welcome>>,
    keep_alive: KeepAlive,
    /// The channel that this peer opens next: odd, and never used twice.
    next_channel: u32,
    /// The last channel that the relay opened: even.
    last_incoming: u32,
    /// The key that REGISTER was sent for, until the relay has answered it.
    registering: Option<PublicKey>,
    open: SortedSet<ChannelId>,
    paused: SortedSet<ChannelId>,
    control: Control,
    /// The number of frames of `control` the relay may find in the WebSocket's handshake, as long as that is not over.
    early: Option<usize>,
    pings: Box<Pings>,
    events: VecDeque<LinkEvent>,
}

/// Frames that wait to be sent, beside records.
#[derive(Debug)]
struct Control {
    frames: VecDeque<Bytes>,
    /// Bytes of those that the relay can bring about without end.
    answers: usize,
}

impl Control {
    fn is_answer(frame: &[u8]) -> bool {
        matches!(frame, [ACCEPT | CLOSE | PONG, ..])
    }

    fn push(&mut self, frame: Bytes) {
        if Self::is_answer(&frame) {
            self.answers += frame.len();
        }
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        if Self::is_answer(&frame) {
            self.answers -= frame.len();
        }
        Some(frame)
    }

    fn has_room_for_pong(&self) -> bool {
        self.frames.len() < MAX_PONGS || !self.frames.iter().any(|frame| frame[0] == PONG)
    }
}

/// Times of pings. They are boxed, for most links never ask for them.
#[derive(Debug, Default)]
struct Pings {
    /// The time of the last one, until it is answered.
    unanswered: Option<Instant>,
    round_trip: Option<Duration>,
}

#[derive(Debug)]
enum KeepAlive {
    /// The WebSocket is being opened, or HELLO is out.
    Opening { give_up_at: Instant },
    /// Heard from the relay; send a ping at this time.
    Idle { ping_at: Instant },
    /// A ping is out; give up at this time.
    Waiting { give_up_at: Instant },
}

impl KeepAlive {
    /// The relay has said something.
    fn heard(welcome: &Welcome, now: Instant) -> Self {
        Self::Idle { ping_at: now + welcome.idle_timeout.max(MIN_IDLE_TIMEOUT) / 2 }
    }
}

impl Link {
    /// The state of a link whose WebSocket is being opened from `now` on. HELLO is queued; nothing is sent before
    /// [`opened`](Self::opened).
    #[must_use]
    pub fn new(token: &str, now: Instant) -> Self {
        Self {
            welcome: None,
            keep_alive: KeepAlive::Opening { give_up_at: now + DIAL_TIMEOUT },
            next_channel: 1,
            last_incoming: 0,
            registering: None,
            open: SortedSet::new(),
            paused: SortedSet::new(),
            control: Control { frames: VecDeque::from([Self::hello(token)]), answers: 0 },
            early: Some(0),
            pings: Box::default(),
            events: VecDeque::new(),
        }
    }

    /// Says HELLO with this access token, which the owner did not know before: the WebSocket is opened from `now` on. Does
    /// nothing once what is said has been [asked for](Self::early_frames).
    pub fn set_token(&mut self, token: &str, now: Instant) {
        if self.early == Some(0)
            && let Some(hello) = self.control.frames.front_mut()
        {
            *hello = Self::hello(token);
            self.keep_alive = KeepAlive::Opening { give_up_at: now + DIAL_TIMEOUT };
        }
    }

    fn hello(token: &str) -> Bytes {
        let token = token.to_owned();
        Frame::Hello { min_version: VERSION, max_version: VERSION, features: 0, token }.encode_from_peer()
    }

    /// Returns those of the queued frames that the WebSocket's handshake can carry, as [`early`] encodes them.
    #[must_use]
    pub fn early_frames(&mut self) -> Vec<u8> {
        let (frames, count) = early::encode(&self.control.frames);
        self.early = Some(count);
        frames
    }

    /// The WebSocket is open; `greeted` if the relay has taken the [early frames](Self::early_frames).
    pub fn opened(&mut self, greeted: bool, now: Instant) {
        let early = self.early.take().unwrap_or_default();
        if greeted {
            self.control.frames.drain(..early);
        }
        self.keep_alive = KeepAlive::Opening { give_up_at: now + WELCOME_TIMEOUT };
    }

    /// Returns whether the WebSocket is being opened.
    #[must_use]
    pub const fn is_dialling(&self) -> bool {
        self.early.is_some()
    }

    /// Returns whether the WebSocket is being opened with [early frames](Self::early_frames) in its handshake.
    #[must_use]
    pub const fn is_offering(&self) -> bool {
        matches!(self.early, Some(1..))
    }

    /// Registers this peer as the server that holds `key`. Does nothing before [`LinkEvent::Ready`].
    ///
    /// # Errors
    ///
    /// [`DhError::Pending`]: answer the key's request and call again.
    pub fn register(&mut self, key: &StaticKey, url: &str) -> Result<(), DhError> {
        if let Some(welcome) = &self.welcome {
            let proof = registration::prove(key, &welcome.challenge, url)?;
            self.registering = Some(key.public());
            self.say(&Frame::Register { key: key.public(), proof, url: url.to_owned() });
        }
        Ok(())
    }

    /// Opens a channel to a server's port.
    pub fn connect(
        &mut self,
        server_id: ServerId,
        port: u16,
        kind: ChannelKind,
        payload: Bytes,
    ) -> ChannelId {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 2;
        self.open.insert(channel);
        self.say(&Frame::Connect { channel, server_id, port, kind, payload });
        channel
    }

    /// Answers [`LinkEvent::Incoming`].
    pub fn accept(&mut self, channel: ChannelId, payload: Bytes) {
        if self.open.contains(&channel) {
            self.say(&Frame::Accept { channel, payload });
        }
    }

    /// Ends a channel; what arrives on it after that is ignored.
    pub fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        if self.open.remove(&channel) {
            self.paused.remove(&channel);
            self.say(&Frame::Close { channel, code, reason: reason.to_owned() });
        }
    }

    /// Tells the relay that the link ends.
    pub fn leave(&mut self, code: CloseCode, reason: &str) {
        self.say(&Frame::Close { channel: ChannelId::LINK, code, reason: reason.to_owned() });
    }

    /// Asks the relay whether it is still there, and gives up soon if it does not answer.
    pub fn probe(&mut self, now: Instant) {
        if self.welcome.is_some() {
            self.ping(now);
            self.keep_alive = KeepAlive::Waiting { give_up_at: now + PROBE_TIMEOUT };
        }
    }

    /// Takes in one WebSocket message from the relay.
    ///
    /// # Errors
    ///
    /// The link has to end for the reason returned.
    pub fn handle_message(&mut self, message: Bytes, now: Instant) -> Result<(), LinkError> {
        let max = self.welcome.as_ref().map_or(MAX_RECEIVED, |welcome| welcome.max_frame as usize);
        let (len, max) = (message.len(), max.min(MAX_RECEIVED));
        if len > max {
            return Err(LinkError::TooLong { len, max });
        }
        let Some(frame) = Frame::decode_from_relay(message)? else { return Ok(()) };
        // The application hears this code. A page has no other range of codes (PROTOCOL.md, 1.9).
        if let Frame::Close { code, .. } | Frame::Error { code, .. } = &frame
            && !(1_000..5_000).contains(&code.0)
        {
            return Err(DecodeError::InvalidValue { field: "code" }.into());
        }
        if let Frame::Error { code, text } = frame {
            return Err(LinkError::Ended { code, reason: text });
        }
        if let Some(welcome) = &self.welcome {
            self.keep_alive = KeepAlive::heard(welcome, now);
            return self.handle_frame(frame, now);
        }
        match frame {
            Frame::Welcome(welcome) if welcome.version == VERSION => {
                self.keep_alive = KeepAlive::heard(&welcome, now);
                self.welcome = Some(welcome);
                self.events.push_back(LinkEvent::Ready);
                Ok(())
            }
            Frame::Welcome(welcome) => Err(LinkError::Version(welcome.version)),
            Frame::Close { channel: ChannelId::LINK, code, reason } => Err(LinkError::Ended { code, reason }),
            other => Err(LinkError::OutOfTurn { frame: other.name() }),
        }
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), LinkError> {
        match frame {
            // The relay's word is only compared: the ID comes from this server's own key.
            Frame::Registered { server_id } => match self.registering.take().map(ServerId::Key) {
                Some(own) if own == server_id => self.events.push_back(LinkEvent::Registered(own)),
                Some(_) => return Err(LinkError::WrongServerId),
                None => return Err(LinkError::OutOfTurn { frame: "REGISTERED" }),
            },
            Frame::Incoming { channel, port, kind, address, payload } => {
                if channel.0 % 2 != 0 || channel.0 <= self.last_incoming {
                    return Err(LinkError::OutOfTurn { frame: "INCOMING" });
                }
                if self.control.answers > MAX_ANSWERS {
                    return Err(LinkError::Unread);
                }
                self.last_incoming = channel.0;
                self.open.insert(channel);
                if let ChannelKind::Unknown(_) = kind {
                    self.close(channel, CloseCode::REFUSED, "the server does not know this kind of channel");
                    return Ok(());
                }
                self.events.push_back(LinkEvent::Incoming { channel, port, kind, address, payload });
            }
            // Only channels that this peer opened are accepted by the other side: those have odd numbers.
            Frame::Accept { channel, .. } if channel.0 % 2 == 0 => {
                return Err(LinkError::OutOfTurn { frame: "ACCEPT" });
            }
            // A frame for a channel that this side has just closed is a race, not an error.
            Frame::Accept { channel, payload } => {
                if self.open.contains(&channel) {
                    self.events.push_back(LinkEvent::Accepted { channel, payload });
                }
            }
            Frame::Data { channel, payload } => {
                if self.open.contains(&channel) {
                    self.events.push_back(LinkEvent::Data { channel, payload });
                }
            }
            Frame::Close { channel: ChannelId::LINK, code, reason } => {
                return Err(LinkError::Ended { code, reason });
            }
            Frame::Close { channel, code, reason } => {
                self.paused.remove(&channel);
                if self.open.remove(&channel) {
                    self.events.push_back(LinkEvent::Closed { channel, code, reason });
                }
            }
            Frame::Pause { channel } => {
                if self.open.contains(&channel) {
                    self.paused.insert(channel);
                }
            }
            Frame::Resume { channel } => {
                if self.paused.remove(&channel) {
                    self.events.push_back(LinkEvent::Writable(channel));
                }
            }
            Frame::Ping { nonce } => {
                if self.control.has_room_for_pong() {
                    self.say(&Frame::Pong { nonce });
                }
            }
            // One that answers no ping of ours, or a second time, says nothing about the time that an answer takes.
            Frame::Pong { nonce } => {
                if let Some(sent) = self.pings.unanswered.take_if(|sent| sent.as_micros() == nonce) {
                    self.pings.round_trip = Some(now.saturating_since(sent));
                }
            }
            Frame::GoAway { deadline } => self.events.push_back(LinkEvent::GoAway { deadline }),
            Frame::Hello { .. }
            | Frame::Welcome(_)
            | Frame::Register { .. }
            | Frame::Connect { .. }
            | Frame::Error { .. } => return Err(LinkError::OutOfTurn { frame: frame.name() }),
        }
        Ok(())
    }

    /// Acts on the clock; calling it too early is harmless.
    ///
    /// A page that slept finds its timers late, not its relay silent: it pings first and counts from there.
    ///
    /// # Errors
    ///
    /// [`LinkError::Silent`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        match self.keep_alive {
            KeepAlive::Opening { give_up_at } | KeepAlive::Waiting { give_up_at } if give_up_at <= now => {
                Err(LinkError::Silent)
            }
            KeepAlive::Idle { ping_at } if ping_at <= now => {
                self.ping(now);
                self.keep_alive = KeepAlive::Waiting { give_up_at: now + PONG_TIMEOUT };
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The next control frame to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.is_dialling() {
            return None;
        }
        self.control.pop()
    }

    fn ping(&mut self, now: Instant) {
        self.pings.unanswered = Some(now);
        self.say(&Frame::Ping { nonce: now.as_micros() });
    }

    fn say(&mut self, frame: &Frame) {
        self.control.push(frame.encode_from_peer());
    }

    /// Returns the next event, in order.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// The time at which to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        match self.keep_alive {
            KeepAlive::Opening { give_up_at } | KeepAlive::Waiting { give_up_at } => give_up_at,
            KeepAlive::Idle { ping_at } => ping_at,
        }
    }

    /// Returns whether the relay has said WELCOME.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.welcome.is_some()
    }

    /// Returns whether the channel is open and not paused.
    #[must_use]
    pub fn may_send(&self, channel: ChannelId) -> bool {
        self.open.contains(&channel) && !self.paused.contains(&channel)
    }

    /// Longest frame to send, in bytes: what the relay takes, with what a Noise message can be.
    #[must_use]
    pub fn max_frame(&self) -> usize {
        self.welcome.as_ref().map_or(0, |welcome| welcome.max_frame as usize).min(HEADER_LEN + MAX_MESSAGE)
    }

    /// Returns the number of channels on which the relay takes nothing now.
    #[must_use]
    pub fn paused(&self) -> usize {
        self.paused.len()
    }

    /// The time that the relay took to answer the last ping that it answered.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.pings.round_trip
    }

    /// This peer's address as the relay sees it.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.welcome.as_ref().map(|welcome| &*welcome.address)
    }
}

#[cfg(test)]
mod tests;
