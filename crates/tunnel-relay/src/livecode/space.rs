//! One namespace in the thread: its engine, its links' commands, and the link of the server that it may be.

use super::line::Line;
use crate::shared::Shared;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use tunnel_livecode_engine::{Engine, Next, Settings, Wire};
use tunnel_protocol::Instant;
use tunnel_protocol::router::{Instruct, LinkId, Said};

pub(super) struct Space<'s> {
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    /// The link of the server that instructions have made of it.
    line: Option<Line<'s>>,
    /// Links whose command is not answered.
    under_way: BTreeSet<LinkId>,
    /// The number of calls when it was saved.
    saved: u64,
}

impl<'s> Space<'s> {
    pub(super) const fn new(settings: Settings, engine: Engine) -> Self {
        Self { settings, engine, line: None, under_way: BTreeSet::new(), saved: 0 }
    }

    pub(super) fn instruct(&mut self, instruct: Instruct, now: Instant) {
        self.under_way.insert(instruct.link);
        #[cfg(test)]
        crate::faults::trip(crate::faults::IN_THE_ENGINE, instruct.name.as_bytes());
        self.engine.instruct(instruct, now);
    }

    pub(super) fn link_left(&mut self, link: LinkId) {
        self.under_way.remove(&link);
        self.engine.link_left(link);
    }

    /// Runs one call, and hands on what comes of it.
    pub(super) fn work(&mut self, shared: &'s Arc<Shared>, now: Instant) -> Next {
        let has_heard = self.exchange(shared, now);
        let mut next = self.engine.work(now);
        let said: Vec<_> = std::iter::from_fn(|| self.engine.poll_said()).collect();
        for said in &said {
            if let Said::Done { link } = said {
                self.under_way.remove(link);
            }
        }
        shared.router.say(said);
        if self.exchange(shared, now) || has_heard {
            next = Next::Now;
        }
        next
    }

    /// Carries messages between the router and the server that the namespace may be; whether the router had some.
    fn exchange(&mut self, shared: &'s Arc<Shared>, now: Instant) -> bool {
        let mut has_heard = false;
        loop {
            while let Some(wire) = self.engine.poll_wire(now) {
                match (wire, &mut self.line) {
                    (Wire::Dial, line) => {
                        match Line::open(shared) {
                            Ok(opened) => *line = Some(opened),
                            // It asks again, later each time.
                            Err(_) => return has_heard,
                        }
                        self.engine.wire_opened(now);
                    }
                    (Wire::Send(message), Some(line)) => line.send(&message),
                    (Wire::Send(_), None) => {}
                    (Wire::HangUp, line) => *line = None,
                }
            }
            let Some(line) = &mut self.line else { return has_heard };
            let mut messages: Vec<Bytes> = Vec::new();
            let ended = line.exchange(&mut messages);
            let is_quiet = messages.is_empty() && ended.is_none();
            has_heard |= !is_quiet;
            for message in messages {
                self.engine.wire_message(message, now);
            }
            if let Some((code, reason)) = ended {
                self.line = None;
                self.engine.wire_closed(code, &reason, now);
            }
            if is_quiet {
                return has_heard;
            }
        }
    }

    /// Returns whether calls ran since it was asked last.
    pub(super) fn has_changed(&mut self) -> bool {
        let calls = self.engine.stats().calls;
        std::mem::replace(&mut self.saved, calls) != calls
    }

    /// Goes on with another engine; what those are told whose commands the one before had.
    pub(super) fn begin_again(&mut self, engine: Engine) -> Vec<Said> {
        self.engine = engine;
        self.line = None;
        let mut said = Vec::new();
        for link in std::mem::take(&mut self.under_way) {
            let text =
                "server: Error: stopped (the engine failed); went back to the last checkpoint".to_owned();
            said.push(Said::Text { link, text });
            said.push(Said::Done { link });
        }
        said
    }
}
