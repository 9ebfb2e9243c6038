//! The times at which links are looked at: for silence, and for a HELLO that does not come.

use super::link::Stage;
use super::{Dialect, LinkId, Router};
use crate::frame::{ChannelId, Frame};
use crate::{CloseCode, Instant};

impl Router {
    /// Notes that a peer is alive. Returns whether what it sent has an effect.
    pub(super) fn heard(&mut self, link: LinkId, now: Instant) -> bool {
        self.clock = now;
        let Some(state) = self.links.get_mut(link.0) else { return false };
        // Its timer finds out when it fires: moving the timer here would cost more than forwarding the frame.
        state.last_heard = now;
        let has_effect = state.stage != Stage::Ended;
        // But that of a link with a PING out is set to the end of the silence, after which the next PING would be late.
        if std::mem::take(&mut state.pinged) {
            self.arm(link);
        }
        has_effect
    }

    /// Sets the time at which a link is looked at next.
    pub(super) fn arm(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(link.0) else { return };
        let (idle_timeout, ping_interval) = self.config.patience(state);
        let give_up_at = state.last_heard + idle_timeout;
        let at = match state.stage {
            Stage::Hello { deadline } => Some(deadline),
            Stage::Ready if state.pinged || state.peer.dialect == Dialect::Livecode => Some(give_up_at),
            Stage::Ready => Some(give_up_at.min(state.last_heard + ping_interval)),
            Stage::Ended => None,
        };
        if let Some(old) = std::mem::replace(&mut state.check_at, at) {
            self.checks.remove(&(old, link));
        }
        if let Some(at) = at {
            self.checks.insert((at, link));
        }
    }

    /// Pings the links that are quiet and ends those that are silent.
    pub(super) fn check_links(&mut self, now: Instant) {
        while let Some(&(at, link)) = self.checks.first()
            && at <= now
        {
            self.check(link, now);
            self.arm(link);
        }
    }

    fn check(&mut self, link: LinkId, now: Instant) {
        let Some(state) = self.links.get_mut(link.0) else { return };
        let (idle_timeout, ping_interval) = self.config.patience(state);
        match state.stage {
            Stage::Hello { deadline } if deadline <= now => {
                let first = if state.node.is_some() { "the proof" } else { "HELLO" };
                let text = &format!("{first} did not come in time");
                let error = Frame::Error { code: CloseCode::TIMEOUT, text: text.clone() };
                self.end_link(link, Some(error), CloseCode::TIMEOUT, text);
            }
            Stage::Ready if state.last_heard + idle_timeout <= now => {
                let (code, text) = (CloseCode::TIMEOUT, "nothing was heard for too long");
                let close = Frame::Close { channel: ChannelId::LINK, code, reason: text.to_owned() };
                self.end_link(link, Some(close), code, text);
            }
            Stage::Ready if !state.pinged && state.last_heard + ping_interval <= now => {
                self.pings += 1;
                state.pinged = true;
                state.outbox.ping = Some(self.pings);
                self.announce(link);
            }
            Stage::Hello { .. } | Stage::Ready | Stage::Ended => {}
        }
    }
}
