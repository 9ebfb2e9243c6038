//! One call after the other, and what comes of each.

use super::answers::{answered, threw};
use super::turns::Who;
use super::{Engine, Next};
use crate::command::Members;
use crate::sandbox::{Called, How, Op, Out, OutKind, resume_text};
use crate::thrown::Thrown;
use serde_json::Value;
use std::time::Duration;
use tunnel_protocol::endpoint::SocketId;
use tunnel_protocol::livecode::Line;
use tunnel_protocol::router::{Instruct, InstructKind, LinkId, Said};
use tunnel_protocol::{CloseCode, Instant, Message};

/// Longest reason of a close, in bytes.
const MAX_REASON: usize = 123;

/// The number of notices that wait for the end of a peer's command; the oldest are dropped beyond it.
const MAX_NOTICES: usize = 1_024;

/// Somebody for whom a call runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller<'a> {
    /// Nobody: a timer, or a link that closed.
    Nobody,
    /// A livecode peer.
    Link(Command<'a>),
    /// A client of the namespace's own server.
    Client(SocketId),
}

impl<'a> Caller<'a> {
    const fn who(self) -> Who {
        match self {
            Self::Nobody => Who::Nobody,
            Self::Link(Command { link, .. }) => Who::Link(link),
            Self::Client(socket) => Who::Client(socket),
        }
    }

    const fn command(self) -> Option<Command<'a>> {
        match self {
            Self::Link(command) => Some(command),
            Self::Nobody | Self::Client(_) => None,
        }
    }
}

/// The link and the name of the command that a call runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    pub(super) link: LinkId,
    pub(super) name: &'a str,
}

/// The result of a call, with its output done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) returned: Option<String>,
    pub(super) thrown: Option<Thrown>,
    pub(super) answer: Option<String>,
    pub(super) is_unknown: bool,
    /// True if the call did not happen: everything is as it was before.
    pub(super) is_dropped: bool,
    pub(super) spent: Duration,
}

impl Engine {
    /// Runs one call, if one is due and there is processor time for it.
    pub fn work(&mut self, now: Instant) -> Next {
        while let Some((link, answer)) = self.pending.expired(now) {
            let thrown = Thrown::new("the promise was not settled within 5 s");
            self.say_answered(link, answer, &threw(&thrown), Duration::ZERO);
        }
        self.serve(now);
        let share_at = self.share.ready_at(now);
        let own_at = self.turns.own_at(now).max(share_at);
        let timer = self.timers.iter().map(|(timer, at)| (*at, *timer)).min();
        if own_at <= now {
            if let Some(number) = self.left.pop_front() {
                let outcome = self.call(Op::Closed, number, b"", Caller::Nobody, now);
                self.note_thrown(&outcome);
                return Next::Now;
            }
            if let Some((_, timer)) = timer.filter(|(at, _)| *at <= now) {
                self.timers.remove(&timer);
                let outcome = self.call(Op::Fire, timer, b"", Caller::Nobody, now);
                self.note_thrown(&outcome);
                return Next::Now;
            }
        }
        let mut next = [self.pending.next_timeout(), self.service.next_timeout()].into_iter().flatten().min();
        let mut may_be_at = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        if !self.left.is_empty() {
            may_be_at(own_at);
        }
        if let Some((at, _)) = timer {
            may_be_at(at.max(own_at));
        }
        match self.turns.next(now) {
            Ok(who) if share_at <= now => {
                match who {
                    Who::Link(link) => self.run_next(link, now),
                    Who::Client(socket) => self.run_client(socket, now),
                    Who::Nobody => {}
                }
                self.serve(now);
                return Next::Now;
            }
            Ok(who) => {
                self.turns.want_first(who);
                may_be_at(share_at);
            }
            Err(Some(at)) => may_be_at(at.max(share_at)),
            Err(None) => {}
        }
        next.map_or(Next::Idle, Next::At)
    }

    fn run_next(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(instruct) = link.commands.pop_front() else { return };
        if !link.commands.is_empty() {
            self.turns.want(Who::Link(id), now);
        }
        self.running = Some(id);
        self.run(&instruct, now);
        self.running = None;
        self.give_notices(id);
        self.said.push_back(Said::Done { link: id });
    }

    fn run(&mut self, instruct: &Instruct, now: Instant) {
        let is_privileged = instruct.kind != InstructKind::Run;
        if is_privileged {
            if let Some(link) = self.links.get_mut(&instruct.link) {
                link.is_configurer = true;
            }
            self.keep_checkpoint(now);
        }
        self.run_kind(instruct, now);
        // An acknowledged change outlives a later call that is dropped: that one goes back to here.
        if is_privileged {
            self.keep_checkpoint(now);
        }
    }

    fn run_kind(&mut self, instruct: &Instruct, now: Instant) {
        let link = instruct.link;
        let members = Members::read(&instruct.text);
        let caller = Command { link, name: &instruct.name };
        match &instruct.kind {
            InstructKind::Run => {
                self.expect(link, &members, now);
                let outcome = self.command(Op::Run, caller, &members, now);
                if outcome.is_unknown {
                    self.say(link, Line::Rejected(&instruct.name));
                    let thrown = Thrown::new("there is no instruction of this name");
                    return self.end_with(link, &members, &threw(&thrown), Duration::ZERO);
                }
                self.finish(link, &members, &outcome);
            }
            InstructKind::Add { name } => {
                self.say(link, Line::Adding(name));
                let outcome = self.command(Op::Add, caller, &members, now);
                self.finish_privileged(link, &members, &outcome, false);
                self.note_change(name, &outcome);
            }
            InstructKind::Eval if self.settings.allows_eval => {
                self.say(link, Line::EvaluatingSource);
                self.expect(link, &members, now);
                let outcome = self.command(Op::Eval, caller, &members, now);
                self.finish(link, &members, &outcome);
            }
            InstructKind::Eval => {
                self.say(link, Line::Rejected(&instruct.name));
                self.end_with(
                    link,
                    &members,
                    &threw(&Thrown::new("eval is off: `livecode-eval`")),
                    Duration::ZERO,
                );
            }
            InstructKind::Require { package } => {
                self.say(link, Line::Requiring(package));
                let thrown = Thrown::new("this relay installs no packages: bundle it and eval it");
                self.say(link, Line::Returned(&thrown.line()));
                self.end_with(link, &members, &threw(&thrown), Duration::ZERO);
            }
            InstructKind::Modules => {
                self.say(link, Line::EnumeratingModules);
                self.said.push_back(Said::Text { link, text: "[]".to_owned() });
                self.end_with(link, &members, r#"{"returned":[]}"#, Duration::ZERO);
            }
            InstructKind::Manage => self.manage(caller, &members, now),
            InstructKind::Prove => self.prove(link, &members, now),
        }
    }

    /// Runs a command in the sandbox.
    pub(super) fn command(
        &mut self,
        op: Op,
        caller: Command<'_>,
        members: &Members<'_>,
        now: Instant,
    ) -> Outcome {
        let Some(link) = self.links.get(&caller.link) else { return Outcome::default() };
        let number = link.number;
        let text = members.for_sandbox(caller.name, &link.about);
        self.call(op, number, text.as_bytes(), Caller::Link(caller), now)
    }

    /// Runs one call and does what it wants done; if it is dropped, brings the last checkpoint back.
    pub(super) fn call(
        &mut self,
        op: Op,
        number: u32,
        text: &[u8],
        caller: Caller<'_>,
        now: Instant,
    ) -> Outcome {
        if self.is_changed && now.saturating_since(self.checkpoint_at) >= self.settings.checkpoint_interval {
            self.keep_checkpoint(now);
        }
        self.is_changed = true;
        let Called { how, out, spent } = self.sandbox.call(op, number, text);
        self.stats.calls += 1;
        self.stats.spent += spent;
        self.share.take(spent, now);
        let was_stopped = how != How::Well;
        self.turns.charge(caller.who(), spent, was_stopped, now);
        let caller = caller.command();
        let mut outcome = Outcome { spent, ..Outcome::default() };
        match how {
            How::Well => self.deliver(out, caller, &mut outcome, now),
            How::Interrupted => {
                self.stats.interrupted += 1;
                self.deliver(out, caller, &mut outcome, now);
                if let Some(thrown) = &mut outcome.thrown {
                    "stopped (out of time)".clone_into(&mut thrown.message);
                }
            }
            How::Dropped(reason) => {
                self.stats.dropped += 1;
                if let (Some(caller), true) = (caller, out.iter().any(|out| out.kind == OutKind::Running)) {
                    self.say(caller.link, Line::Evaluating(caller.name));
                }
                let back = now.saturating_since(self.checkpoint_at).as_secs_f64();
                let thrown = Thrown::new(format!("stopped ({reason}); went back {back:.1} s"));
                self.go_back(&thrown, caller.map(|caller| caller.link), now);
                outcome.thrown = Some(thrown);
                outcome.is_dropped = true;
            }
        }
        if outcome.thrown.is_some() {
            self.stats.errors += 1;
        }
        outcome
    }

    fn deliver(&mut self, out: Vec<Out>, caller: Option<Command<'_>>, outcome: &mut Outcome, now: Instant) {
        for Out { kind, link: number, text, bytes } in out {
            let link = self.numbers.get(&number).copied();
            match (kind, link) {
                (OutKind::Send, Some(link)) => self.said.push_back(Said::Text { link, text }),
                (OutKind::Close, _) => self.close(link, number, &text, now),
                (OutKind::Send, None) => self.service.send(number, Message::Text(text), now),
                (OutKind::SendBytes, _) => self.service.send(number, Message::Binary(bytes.into()), now),
                (OutKind::Port, _) => {
                    let port = u16::try_from(number).unwrap_or_default();
                    if text.is_empty() {
                        self.service.ports.remove(&port);
                    } else {
                        self.service.ports.insert(port);
                    }
                }
                (OutKind::Returned, _) => {
                    if let Some(caller) = caller {
                        self.say(caller.link, Line::Returned(&text));
                    }
                    outcome.returned = Some(text);
                }
                (OutKind::Threw, _) => outcome.thrown = Some(Thrown::read(&text)),
                (OutKind::StoppedAt, _) => {
                    outcome.thrown = Some(Thrown { stack: text, ..Thrown::new("stopped") });
                }
                (OutKind::Log, _) => self.log(&text),
                (OutKind::Timer, _) => match text.parse::<f64>() {
                    Ok(after) => {
                        let after = Duration::from_secs_f64((after / 1_000.0).clamp(0.001, 1e7));
                        self.timers.insert(number, now + after);
                    }
                    Err(_) => drop(self.timers.remove(&number)),
                },
                (OutKind::Answer, _) => outcome.answer = Some(text),
                (OutKind::Running, _) => {
                    if let Some(caller) = caller {
                        self.say(caller.link, Line::Evaluating(caller.name));
                    }
                }
                (OutKind::Unknown, _) => outcome.is_unknown = true,
                (OutKind::Settled, Some(link)) => {
                    if let Some((number, value)) = text.split_once(' ')
                        && let Ok(number) = number.parse()
                        && self.pending.settle(link, number)
                    {
                        self.say_answered(link, number, value, outcome.spent);
                    }
                }
                (OutKind::Settled, None) => {}
                (OutKind::Tunnel, _) => self.said.push_back(Said::Tunnel {
                    namespace: self.settings.namespace.clone(),
                    is_injected: text == "1",
                }),
            }
        }
    }

    fn close(&mut self, link: Option<LinkId>, number: u32, text: &str, now: Instant) {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let code = value.get(0).and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let reason = value.get(1).and_then(Value::as_str).unwrap_or_default();
        let reason = reason[..reason.floor_char_boundary(MAX_REASON)].to_owned();
        let code = CloseCode(code.unwrap_or(1_000));
        match link {
            Some(link) => self.said.push_back(Said::Close { link, code, reason }),
            None => {
                let code = if code.is_for_applications() { code } else { CloseCode::NORMAL };
                self.service.close(number, code, &reason, now);
            }
        }
    }

    /// Makes everything what it was at the last checkpoint, and tells those who have to know.
    fn go_back(&mut self, thrown: &Thrown, caller: Option<LinkId>, now: Instant) {
        let image = self.checkpoint.clone();
        if self.sandbox.bring_back(&image).is_err() {
            // It is this sandbox's own image: only the machine's memory can be short.
            return;
        }
        self.resume(now);
        let line = thrown.line();
        let configurers = self.links.iter().filter(|(id, link)| link.is_configurer && Some(**id) != caller);
        let told: Vec<_> = configurers.map(|(id, _)| *id).collect();
        for link in told {
            self.notice(link, Line::Returned(&line).to_string());
        }
    }

    /// Has the sandbox go on after its memory was brought back: its timers start, and links that are gone close.
    pub(super) fn resume(&mut self, now: Instant) {
        let image = self.sandbox.image();
        self.timers.clear();
        self.left.clear();
        self.service.ports.clear();
        let open: Vec<u32> = self.numbers.keys().copied().chain(self.service.open_numbers()).collect();
        let server = self.service.server_id().to_string();
        for is_silent in [false, true] {
            let text = resume_text(&self.program.limits, &open, is_silent, &server);
            let Called { how, out, spent } = self.sandbox.call(Op::Resume, 0, &text);
            self.stats.spent += spent;
            self.share.take(spent, now);
            self.turns.charge(Who::Nobody, spent, how != How::Well, now);
            if !matches!(how, How::Dropped(_)) {
                self.deliver(out, None, &mut Outcome::default(), now);
                break;
            }
            // A listener that does not end: without the listeners, then.
            if self.sandbox.bring_back(&image).is_err() {
                return;
            }
        }
        self.keep_checkpoint(now);
    }

    /// Notes that the command's answer is due, if the peer wants one that can be told apart.
    fn expect(&mut self, link: LinkId, members: &Members<'_>, now: Instant) {
        if let Some(answer) = members.answer
            && !self.pending.expect(link, answer, now)
        {
            let thrown = Thrown::new("too many answers are waited for");
            self.say_answered(link, answer, &threw(&thrown), Duration::ZERO);
        }
    }

    /// Ends an answer whose value the sandbox tells, unless nothing comes from there any more.
    fn finish(&mut self, link: LinkId, members: &Members<'_>, outcome: &Outcome) {
        let Some(thrown) = &outcome.thrown else { return };
        if outcome.returned.is_none() {
            self.say(link, Line::Returned(&thrown.line()));
        }
        self.note_thrown(outcome);
        if let Some(answer) = members.answer
            && self.pending.settle(link, answer)
        {
            self.say_answered(link, answer, &threw(thrown), outcome.spent);
        }
    }

    /// Ends the answer to a privileged command with what the sandbox answered, or with what was thrown.
    pub(super) fn finish_privileged(
        &mut self,
        link: LinkId,
        members: &Members<'_>,
        outcome: &Outcome,
        says_value: bool,
    ) {
        if let Some(thrown) = &outcome.thrown {
            self.say(link, Line::Returned(&thrown.line()));
            self.note_thrown(outcome);
            return self.end_with(link, members, &threw(thrown), outcome.spent);
        }
        let value = outcome.answer.as_deref().unwrap_or("null");
        if says_value {
            self.say(link, Line::Returned(value));
        }
        self.end_with(link, members, &format!(r#"{{"returned":{value}}}"#), outcome.spent);
    }

    /// The last line for those who tell answers apart.
    pub(super) fn end_with(&mut self, link: LinkId, members: &Members<'_>, value: &str, spent: Duration) {
        if let Some(answer) = members.answer {
            self.pending.settle(link, answer);
            self.say_answered(link, answer, value, spent);
        }
    }

    fn say_answered(&mut self, link: LinkId, answer: u64, value: &str, spent: Duration) {
        self.notice(link, answered(answer, value, spent));
    }

    /// Tells a peer what is no part of a command's answer: between answers, for those of 2017 read them line by line.
    pub(super) fn notice(&mut self, id: LinkId, text: String) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.notices.push_back(text);
        if link.notices.len() > MAX_NOTICES {
            link.notices.pop_front();
        }
        if link.commands.is_empty() && self.running != Some(id) {
            self.give_notices(id);
        }
    }

    fn give_notices(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let texts = std::mem::take(&mut link.notices);
        self.said.extend(texts.into_iter().map(|text| Said::Text { link: id, text }));
    }

    pub(super) fn say(&mut self, link: LinkId, line: Line<'_>) {
        self.said.push_back(Said::Text { link, text: line.to_string() });
    }
}
