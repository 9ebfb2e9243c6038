//! Sockets that begin a new session when the server has lost theirs: its page was reloaded, left, or closed its server.
//!
//! Only the server can bring that about: its word comes in a session, or in a handshake with its key. And only the server
//! can answer the new handshake, which is made with that key, too. A relay can cut, as always.

use super::{Action, ClientSide, Context, Endpoint, Socket, SocketId, State, retry_wait};
use crate::endpoint::Event;
use crate::session::SessionId;
use crate::time::Duration;
use crate::{CloseCode, Instant, Message};
use std::collections::VecDeque;

/// A session has to live for this long before it counts as one that worked. A server that is reloaded for ever would have its
/// clients dial without end otherwise.
const WORKED_AFTER: Duration = Duration::from_secs(1);

/// The bytes that may be left untaken of what is handed back when the next session is lost.
const MOST_UNTAKEN: usize = 1024 * 1024;

/// The state of a socket that begins a new session when the server has lost the old one.
#[derive(Debug, Default)]
pub(in crate::endpoint) struct Reopening {
    phase: Phase,
    /// Messages that wait for the new session.
    held: VecDeque<Message>,
    /// Messages that may have been lost with earlier sessions, until the application takes them.
    uncertain: Vec<Message>,
    /// The time at which the session that followed another opened.
    opened_at: Option<Instant>,
    /// Sessions that lived only shortly, since the last that did not.
    failures: u32,
    /// The application has ended the socket.
    is_over: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    /// There is a session, and nothing waits.
    #[default]
    Open,
    /// The server is asked for a new session.
    Seeking,
    /// There is one, and the application has not heard of it.
    Reopened,
    /// The application hears of it: what it says now goes out first.
    Greeting,
}

impl Reopening {
    /// There is a path. Returns whether it is that of a new session.
    pub(in crate::endpoint) fn succeed(&mut self, now: Instant) -> bool {
        let is_new = self.phase == Phase::Seeking;
        if is_new {
            self.phase = Phase::Reopened;
            self.opened_at = Some(now);
        }
        is_new
    }

    fn is_seeking(&self) -> bool {
        self.phase == Phase::Seeking
    }
}

impl Socket {
    /// Queues a message: for the session, or for the next one if there is none.
    pub(in crate::endpoint) fn send(&mut self, message: Message) {
        match &mut self.reopening {
            Some(reopening) if matches!(reopening.phase, Phase::Seeking | Phase::Reopened) => {
                reopening.held.push_back(message);
            }
            _ => self.session.send(message),
        }
    }

    /// Payload bytes that are in no record yet.
    pub(in crate::endpoint) fn buffered_amount(&self) -> usize {
        let held = self.reopening.iter().flat_map(|reopening| &reopening.held).map(Message::len);
        self.session.buffered_amount() + held.sum::<usize>()
    }

    /// Bytes of messages held.
    pub(in crate::endpoint) fn held(&self) -> u64 {
        let lists = self.reopening.iter();
        let held = lists.flat_map(|reopening| reopening.held.iter().chain(&reopening.uncertain));
        self.session.held() + held.map(Message::cost).sum::<usize>() as u64
    }

    /// The application has ended the socket.
    pub(in crate::endpoint) fn never_reopen(&mut self) {
        if let Some(reopening) = &mut self.reopening {
            reopening.is_over = true;
        }
    }

    /// Returns whether it begins a new session when the server ends the one that it has with this code.
    pub(in crate::endpoint) fn reopens_after(&self, code: CloseCode) -> bool {
        let is_lost = matches!(code, CloseCode::GOING_AWAY | CloseCode::PEER_RELOADED | CloseCode::EXPIRED);
        is_lost && self.opened && self.reopening.as_ref().is_some_and(|reopening| !reopening.is_over)
    }

    /// All that is not known to have arrived, of a socket that keeps it, when it ends.
    pub(in crate::endpoint) fn leftover(&mut self) -> Option<Vec<Message>> {
        let reopening = self.reopening.as_mut()?;
        let back = self.session.handback();
        let mut messages = std::mem::take(&mut reopening.uncertain);
        messages.extend(back.uncertain);
        messages.extend(back.unsent);
        messages.extend(std::mem::take(&mut reopening.held));
        Some(messages)
    }

    /// The application has heard of the new session: what has waited for it is sent.
    fn flush(&mut self) {
        let Some(reopening) = self.reopening.as_mut().filter(|reopening| !reopening.is_seeking()) else {
            return;
        };
        reopening.phase = Phase::Open;
        for message in std::mem::take(&mut reopening.held) {
            self.session.send(message);
        }
    }

    /// The application closes the socket. Returns whether that was its end, because there is no session to close.
    pub(in crate::endpoint) fn close_reopening(&mut self) -> bool {
        self.flush();
        let Some(reopening) = &mut self.reopening else { return false };
        reopening.is_over = true;
        if !reopening.is_seeking() {
            return false;
        }
        let reason =
            format!("closed while the server was away, with {} messages unsent", reopening.held.len());
        self.session.give_up(CloseCode::ABORTED, &reason);
        true
    }
}

impl ClientSide {
    /// The server, whose key is in it, says that it has no session for the socket, or wants none.
    pub(super) fn lose_session(
        &mut self,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let seeks = socket.reopening.as_ref().is_some_and(|reopening| reopening.is_seeking());
        // A server that has just been loaded may not listen yet.
        if seeks && matches!(code, CloseCode::PORT_CLOSED | CloseCode::TRY_AGAIN_LATER) {
            self.absent_since = self.absent_since.min(cx.now);
            self.retry(code, reason, socket, cx);
        } else if socket.reopens_after(code) {
            self.reopen(socket, cx);
        } else {
            self.fail(code, reason, socket, cx.now);
        }
    }

    /// Begins a new session in the place of one that the server has lost.
    pub(in crate::endpoint) fn reopen(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        let (session_id, random) = (SessionId(cx.keys.entropy.array()), cx.keys.entropy.u64());
        let Some(reopening) = &mut socket.reopening else { return };
        let back = socket.session.handback();
        let untaken = reopening.uncertain.iter().map(Message::cost).sum::<usize>();
        reopening.uncertain.extend(back.uncertain);
        socket.session = socket.session.successor(&back.unsent);
        for message in back.unsent.into_iter().rev() {
            reopening.held.push_front(message);
        }
        let had_session = std::mem::replace(&mut reopening.phase, Phase::Seeking) != Phase::Seeking;
        if had_session && reopening.opened_at.is_none_or(|at| at + WORKED_AFTER <= cx.now) {
            reopening.failures = 0;
        }
        let wait =
            if reopening.failures == 0 { Duration::ZERO } else { retry_wait(reopening.failures, random) };
        reopening.failures = reopening.failures.saturating_add(1);
        self.session_id = session_id;
        self.server_epoch = None;
        self.prepared = None;
        self.asked = false;
        self.attempts = 0;
        self.state = State::Waiting { retry_at: Some(cx.now + wait) };
        let path = socket.path.take();
        if !socket.is_interrupted() {
            socket.interrupted_at = cx.now;
            cx.act(Action::Tell(Event::Interrupted { socket: socket.id }));
        }
        if let Some(path) = path {
            cx.close(path, CloseCode::NORMAL, "");
        }
        if untaken > MOST_UNTAKEN {
            let reason =
                "the server was reloaded, and what was unacknowledged the last time has not been taken";
            return self.fail(CloseCode::OVERFLOW, reason, socket, cx.now);
        }
        cx.act(Action::Dial);
        self.advance(socket, cx);
    }
}

impl Endpoint {
    /// Takes out what was sent in sessions that the server has lost, and may have arrived or not, oldest first. Nothing of it
    /// is sent again by itself: a message that had arrived would arrive twice.
    ///
    /// Messages that are not taken are kept, and end the socket if they are more than 1 MiB when the next session is lost.
    pub fn take_unacknowledged(&mut self, socket: SocketId) -> Vec<Message> {
        let reopening = self.sockets.get_mut(socket).and_then(|entry| entry.socket.reopening.as_mut());
        reopening.map(|reopening| std::mem::take(&mut reopening.uncertain)).unwrap_or_default()
    }

    /// The application is about to hear of [`Event::Reopened`]: what it sends from now on goes out before all that waits.
    pub fn greet(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(socket)
            && let Some(reopening) = &mut entry.socket.reopening
            && reopening.phase == Phase::Reopened
        {
            reopening.phase = Phase::Greeting;
        }
    }

    /// The application has heard of it: what waits is sent.
    pub fn flush(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.socket.flush();
            self.mark_ready(socket);
        }
    }
}
