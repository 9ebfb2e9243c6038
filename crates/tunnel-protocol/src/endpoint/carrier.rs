//! A link in whichever dialect the relay speaks.

use super::{LinkMessage, Translator};
use crate::frame::{ChannelId, data_header};
use crate::link::{Link, LinkError, LinkEvent};
use crate::livecode::Line;
use crate::session::Session;
use crate::{CloseCode, Instant};
use bytes::Bytes;

/// Longest record in the livecode dialect, in bytes: as text it stays under 64 KiB, like the frames of `tunnel.v1`.
const MAX_LIVECODE_RECORD: usize = 45_000;

/// Texts that may come before somebody reads them: the answers to HELLO and to a CONNECT behind it, and some.
const MAX_UNREAD: usize = 8;

/// One WebSocket to the relay, as far as it has got. The relay's answer to HELLO tells its dialect; the endpoint ends
/// the link if the application has not asked for that dialect.
#[derive(Debug)]
pub(super) enum Carrier {
    Tunnel(Link),
    /// The relay speaks the livecode dialect, and the owner has been asked for somebody who does, too.
    Foreign {
        unread: Vec<String>,
    },
    Livecode(Box<dyn Translator>),
}

impl Carrier {
    /// The WebSocket is open; `greeted` if the relay has found HELLO in its handshake.
    pub(super) fn open(&mut self, greeted: bool, now: Instant) {
        if let Self::Tunnel(link) = self {
            link.opened(greeted, now);
        }
    }

    /// Returns whether the WebSocket is being opened.
    pub(super) const fn is_dialling(&self) -> bool {
        matches!(self, Self::Tunnel(link) if link.is_dialling())
    }

    /// Returns whether the WebSocket is being opened with frames in its handshake.
    pub(super) const fn is_offering(&self) -> bool {
        matches!(self, Self::Tunnel(link) if link.is_offering())
    }

    pub(super) fn handle_message(&mut self, message: LinkMessage, now: Instant) -> Result<(), LinkError> {
        match (&mut *self, message) {
            (Self::Tunnel(link), LinkMessage::Binary(message)) => link.handle_message(message, now),
            (Self::Tunnel(link), LinkMessage::Text(text)) => {
                if link.is_ready() || !Line::is_refusal_of_hello(&text) {
                    return Err(LinkError::OutOfTurn { frame: "text" });
                }
                *self = Self::Foreign { unread: Vec::new() };
                Ok(())
            }
            (Self::Foreign { unread }, LinkMessage::Text(text)) if unread.len() < MAX_UNREAD => {
                unread.push(text);
                Ok(())
            }
            (Self::Foreign { .. }, _) => Err(LinkError::OutOfTurn { frame: "a message" }),
            (Self::Livecode(link), LinkMessage::Text(text)) => link.handle_text(&text, now),
            (Self::Livecode(_), LinkMessage::Binary(_)) => Err(LinkError::OutOfTurn { frame: "binary" }),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        match self {
            Self::Foreign { .. } => Ok(()),
            Self::Tunnel(link) => link.handle_timeout(now),
            Self::Livecode(link) => link.handle_timeout(now),
        }
    }

    pub(super) fn probe(&mut self, now: Instant) {
        if let Self::Tunnel(link) = self {
            link.probe(now);
        }
    }

    /// Lets a plain peer in.
    pub(super) fn accept_plain(&mut self, channel: ChannelId) {
        if let Self::Tunnel(link) = self {
            link.accept(channel, Bytes::new());
        }
    }

    /// The second handshake message.
    pub(super) fn accept(&mut self, channel: ChannelId, message: Bytes) {
        match self {
            Self::Foreign { .. } => {}
            Self::Tunnel(link) => link.accept(channel, message),
            Self::Livecode(link) => link.respond(channel, message),
        }
    }

    pub(super) fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        match self {
            Self::Foreign { .. } => {}
            Self::Tunnel(link) => link.close(channel, code, reason),
            Self::Livecode(link) => link.close(channel, code, reason),
        }
    }

    /// Returns the next message to send that is no record.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<LinkMessage> {
        match self {
            Self::Foreign { .. } => None,
            Self::Tunnel(link) => link.poll_transmit().map(LinkMessage::Binary),
            Self::Livecode(link) => link.poll_transmit(now).map(LinkMessage::Text),
        }
    }

    /// The session's next record, made for the channel, if it may be sent.
    pub(super) fn poll_record(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
        now: Instant,
    ) -> Option<LinkMessage> {
        match self {
            Self::Tunnel(link) if link.may_send(channel) => {
                session.poll_record(&data_header(channel), link.max_frame(), now).map(LinkMessage::Binary)
            }
            Self::Livecode(link) => {
                if !link.may_send(channel) {
                    return None;
                }
                let record = session.poll_record(&[], MAX_LIVECODE_RECORD, now)?;
                if session.is_plain() {
                    link.send_plain(channel, &String::from_utf8_lossy(&record));
                } else {
                    link.send_record(channel, record);
                }
                link.poll_transmit(now).map(LinkMessage::Text)
            }
            _ => None,
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<LinkEvent> {
        match self {
            Self::Foreign { .. } => None,
            Self::Tunnel(link) => link.poll_event(),
            Self::Livecode(link) => link.poll_event(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match self {
            Self::Foreign { .. } => Instant::NEVER,
            Self::Tunnel(link) => link.poll_timeout(),
            Self::Livecode(link) => link.poll_timeout().unwrap_or(Instant::NEVER),
        }
    }

    /// Returns whether the relay has answered.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Foreign { .. } => false,
            Self::Tunnel(link) => link.is_ready(),
            Self::Livecode(_) => true,
        }
    }

    /// Gives the texts that nobody has read, and what answers them from now on, its place.
    pub(super) fn speak(&mut self, translator: Box<dyn Translator>) -> Vec<String> {
        match self {
            Self::Foreign { unread } => {
                let unread = std::mem::take(unread);
                *self = Self::Livecode(translator);
                unread
            }
            _ => Vec::new(),
        }
    }

    pub(super) const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    pub(super) const fn is_livecode(&self) -> bool {
        matches!(self, Self::Livecode(_))
    }
}
