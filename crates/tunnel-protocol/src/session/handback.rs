//! A session that the peer no longer has: what the application gets back of it, and the session that takes its place.

use super::{Message, Session, SessionStats, receive};

/// The messages that were not acknowledged when a session ended, oldest first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Handback {
    /// Messages that were sent whole: the peer's application may have had them or not.
    pub uncertain: Vec<Message>,
    /// Messages of which at least the end was never sent: the peer's application has not had them.
    pub unsent: Vec<Message>,
}

impl Session {
    /// Keeps each message until all of it is acknowledged, so that [`handback`](Self::handback) has it. Call it before the
    /// first [`send`](Self::send).
    pub const fn keep_whole(&mut self) {
        self.send.keep_whole();
    }

    /// Takes out the messages that are not acknowledged, of a session that [keeps messages whole](Self::keep_whole).
    pub fn handback(&mut self) -> Handback {
        let mut back = Handback::default();
        for (kind, payload, was_sent) in self.send.unacknowledged_messages() {
            let message = match kind {
                receive::BINARY => Message::Binary(payload),
                // It was a `String` when it was sent.
                receive::TEXT => Message::Text(String::from_utf8(payload.into()).unwrap_or_default()),
                _ => continue,
            };
            let list = if was_sent { &mut back.uncertain } else { &mut back.unsent };
            list.push(message);
        }
        back
    }

    /// A session with the same bounds and counters for the same socket, in which `unsent` will be sent again. Messages of
    /// this one that the application has not consumed count against the peer's allowance in the next: a peer that begins
    /// anew and anew gets no memory by it.
    #[must_use]
    pub fn successor(&self, unsent: &[Message]) -> Self {
        let mut next = Self::new(self.config.clone());
        next.keeps_alive = self.keeps_alive;
        next.stats = SessionStats { round_trip: None, ..self.stats };
        next.stats.messages_sent -= unsent.len() as u64;
        next.stats.bytes_sent -= unsent.iter().map(|message| message.len() as u64).sum::<u64>();
        next.receive.inherit(&self.receive);
        next.set_share(self.share);
        next.keep_whole();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::session::Config;

    #[test]
    fn texts_and_bytes_that_were_never_sent_come_back_in_order() {
        let mut session = Session::new(Config::default());
        session.keep_whole();
        session.send("a".into());
        session.send(Message::Binary(vec![1; 10_000].into()));
        session.close(None, "", Instant::from_micros(0));
        let back = session.handback();
        assert_eq!(back.uncertain, []);
        assert_eq!(back.unsent, ["a".into(), Message::Binary(vec![1; 10_000].into())]);
    }

    #[test]
    fn unread_messages_of_the_session_before_take_of_the_peers_allowance() {
        let mut session = Session::new(Config { window: 1_000, ..Config::default() });
        session.receive.receive(0, vec![receive::BINARY, 1, 7].into(), 3, |_| {}).unwrap();
        let mut next = session.successor(&[]);
        assert_eq!(next.position().limit, 1_000 - 65);
        next.consume(65, Instant::from_micros(0));
        assert_eq!(next.position().limit, 1_000);
    }
}
