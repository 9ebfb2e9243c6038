//! The input of a session: the peer's records, frame by frame.

use super::*;
use crate::message::MESSAGE_OVERHEAD;
use crate::trace::event;

impl Session {
    /// Takes in one record of the attached path.
    ///
    /// # Errors
    ///
    /// [`RecordError::Open`]: leave the path. [`RecordError::Violation`]: the session has ended.
    pub fn handle_record(&mut self, record: Bytes, now: Instant) -> Result<(), RecordError> {
        if self.plain.is_some() {
            let text = String::from_utf8_lossy(&record).into_owned();
            self.stats.messages_received += 1;
            self.stats.bytes_received += text.len() as u64;
            if matches!(self.state, State::Open) {
                self.events.push_back(SessionEvent::Message(Message::Text(text)));
            }
            return Ok(());
        }
        let Some(transport) = &mut self.transport else { return Ok(()) };
        let plaintext = transport.open(record)?;
        self.handle_plaintext(plaintext, now)
    }

    /// Takes in what a record held, when the owner has opened it.
    ///
    /// # Errors
    ///
    /// [`RecordError::Violation`]: the session has ended.
    pub fn handle_plaintext(&mut self, plaintext: Bytes, now: Instant) -> Result<(), RecordError> {
        if self.farewell.is_some() {
            return Ok(());
        }
        self.ping.heard_at = now;
        self.ping.wanted = false;
        let memory = plaintext.len();
        let mut reader = Reader::new(plaintext);
        loop {
            let frame = match SessionFrame::decode(&mut reader) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.malformed(error)),
            };
            self.handle_frame(frame, memory, now)?;
        }
    }

    /// `memory` is the record's length, which is what its parts keep in memory.
    pub(super) fn handle_frame(
        &mut self,
        frame: SessionFrame,
        memory: usize,
        now: Instant,
    ) -> Result<(), RecordError> {
        match frame {
            SessionFrame::Stream { offset, bytes } => {
                let mut messages = Vec::new();
                let received = self.receive.receive(offset, bytes, memory, |message| messages.push(message));
                for message in messages {
                    self.handle_raw_message(message, now)?;
                }
                received.map_err(|error| self.unreceivable(error))?;
                let at = match self.receive.received() - self.ack.told {
                    ACK_AFTER.. => now,
                    ACK_SOON_AFTER.. => now + ACK_SOON,
                    _ => now + ACK_DELAY,
                };
                self.ack.at = self.ack.at.min(at);
                self.grant(now);
            }
            SessionFrame::Ack { received, limit } => {
                let before = self.send.acknowledged();
                if !self.send.acknowledge(received, limit) {
                    return Err(self.violation("acknowledged what was never sent"));
                }
                if self.send.acknowledged() > before
                    && let State::Closing { give_up_at } = &mut self.state
                {
                    *give_up_at = now + CLOSE_TIMEOUT;
                }
            }
            SessionFrame::Ping { nonce } => self.pong = Some(nonce),
            SessionFrame::Pong { nonce } => self.handle_pong(nonce, now),
            SessionFrame::Close { code, reason } => {
                let was_clean = matches!(code, CloseCode::NORMAL | CloseCode::GOING_AWAY);
                self.end(Closed { code, reason, was_clean });
                self.transport = None;
            }
        }
        Ok(())
    }

    pub(super) fn handle_raw_message(
        &mut self,
        RawMessage { kind, payload }: RawMessage,
        now: Instant,
    ) -> Result<(), RecordError> {
        let len = payload.len();
        let cost = (len + MESSAGE_OVERHEAD) as u64;
        if kind == receive::CLOSE {
            self.receive.consume(cost);
            return self.handle_close(payload, now);
        }
        if !matches!(self.state, State::Open) {
            // The standard drops what arrives once closing has begun.
            self.receive.consume(cost);
            return Ok(());
        }
        let message = if kind == receive::TEXT {
            let Ok(text) = String::from_utf8(payload.into()) else {
                return Err(self.violation("sent a text message that is not UTF-8"));
            };
            Message::Text(text)
        } else {
            Message::Binary(payload)
        };
        self.stats.messages_received += 1;
        self.stats.bytes_received += len as u64;
        self.events.push_back(SessionEvent::Message(message));
        Ok(())
    }

    pub(super) fn handle_close(&mut self, payload: Bytes, now: Instant) -> Result<(), RecordError> {
        let Some((code, reason)) = decode_close(payload) else {
            return Err(self.violation("sent a malformed close"));
        };
        let closed = Closed { code: code.unwrap_or(CloseCode::NO_STATUS), reason, was_clean: true };
        match self.state {
            State::Open => {
                let answer = Some((code, closed.reason.clone()));
                self.state = State::Answering { closed, answer };
                self.ack.at = now;
            }
            State::Closing { .. } if self.send.sent() == self.send.end() => self.end(closed),
            // This side's close is still queued: the peer waits for it.
            State::Closing { .. } => self.state = State::Answering { closed, answer: None },
            // A second close is a violation that no longer matters.
            State::Answering { .. } | State::Ended => {}
        }
        Ok(())
    }

    pub(super) fn handle_pong(&mut self, nonce: u64, now: Instant) {
        if nonce != self.ping.nonce {
            return;
        }
        if let Some(sent_at) = self.ping.sent_at.take() {
            let sample = now - sent_at;
            self.stats.round_trip =
                Some(self.stats.round_trip.map_or(sample, |smooth| (smooth * 7 + sample) / 8));
        }
    }

    /// Raises the peer's limit when enough has been consumed, and the window when that went fast.
    pub(super) fn grant(&mut self, now: Instant) {
        if !self.receive.limit_is_due() {
            return;
        }
        let round_trip = self.stats.round_trip.unwrap_or(ACK_DELAY).max(Duration::from_millis(1));
        if now - self.ping.raised_at < round_trip * 4 {
            let most = self.config.max_window.min(self.share);
            self.receive.set_window((self.receive.window() * 2).min(most));
        }
        self.ping.raised_at = now;
        self.ack.at = now;
    }

    pub(super) fn malformed(&mut self, error: DecodeError) -> RecordError {
        self.violation(&format!("sent a malformed record: {error}"))
    }

    pub(super) fn unreceivable(&mut self, error: ReceiveError) -> RecordError {
        match error {
            ReceiveError::Gap => self.violation("left out a part of its stream"),
            ReceiveError::OverLimit => self.violation("sent more than it was allowed"),
            ReceiveError::UnknownKind(kind) => {
                self.violation(&format!("sent a message of unknown kind {kind}"))
            }
            ReceiveError::TooLong { len } => {
                let max = self.config.max_message;
                let reason = format!("a message of {len} bytes exceeds the receiver's limit of {max} bytes");
                self.abort(CloseCode::TOO_BIG, &reason, false);
                RecordError::Violation
            }
            ReceiveError::NoRoom { len } => {
                let reason = format!("the receiver has no room for a message of {len} bytes now");
                self.abort(CloseCode::TRY_AGAIN_LATER, &reason, false);
                RecordError::Violation
            }
        }
    }

    pub(super) fn violation(&mut self, what: &str) -> RecordError {
        event!(WARN, what, "the peer broke the session protocol");
        self.abort(CloseCode::PROTOCOL_ERROR, &format!("the peer {what}"), false);
        RecordError::Violation
    }
}
