//! The peers: what they send, and what they may hear.

use super::{MAX_UNREAD, NAMESPACES, Plan, Report, Story};
use std::collections::VecDeque;
use tunnel_protocol::CloseCode;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::{LinkId, ReadCommand};

/// A command that is on its way.
#[derive(Debug)]
pub(super) struct Command {
    number: u64,
    name: String,
    is_privileged: bool,
    read: ReadCommand,
    /// True if it has waited.
    has_waited: bool,
}

impl Command {
    /// A command with parameters and without a credential.
    pub(super) fn new(number: u64, name: &str, is_long: bool) -> Self {
        let long = if is_long { "x".repeat(900_000) } else { String::new() };
        let text = format!(r#"{{"instruction":"{name}","parameters":["{long}"],"answer":{number}}}"#);
        Self::of_text(number, name, false, text)
    }

    fn of_text(number: u64, name: &str, is_privileged: bool, text: String) -> Self {
        let read = ReadCommand::read(text);
        Self { number, name: name.to_owned(), is_privileged, read, has_waited: false }
    }
}

/// The answer that a peer waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expected {
    /// The router's own, at once.
    Router,
    /// The engine's.
    Engine,
    /// None: the engine has ended the command without.
    Nothing,
}

/// A command that the router has taken.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) name: String,
    /// True if it came with the right credential.
    pub(super) is_privileged: bool,
    pub(super) expected: Expected,
    is_received: bool,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) namespace: usize,
    /// Texts that it has sent and the relay has not read.
    pub(super) commands: VecDeque<Command>,
    /// Commands that the relay has read and not answered.
    pub(super) asked: VecDeque<Asked>,
    pub(super) reads: bool,
    /// Bytes that the engine has said since it read, overhead included.
    pub(super) unread: usize,
    /// True if the engine has closed it.
    pub(super) is_closed: bool,
}

impl Peer {
    pub(super) const fn new(namespace: usize) -> Self {
        Self {
            namespace,
            commands: VecDeque::new(),
            asked: VecDeque::new(),
            reads: true,
            unread: 0,
            is_closed: false,
        }
    }

    /// Returns whether nothing is missing.
    pub(super) fn has_all_answers(&self) -> bool {
        self.asked.iter().all(|asked| asked.is_received && asked.expected == Expected::Nothing)
    }

    /// Takes in a text of the relay.
    pub(super) fn hear(&mut self, link: LinkId, text: &str, report: &mut Report) -> Result<(), String> {
        let start: String = text.chars().take(80).collect();
        let unexpected = |asked: Option<&Asked>| Err(format!("{start:?} while {asked:?}"));
        if let Some(note) = text.strip_prefix("note for ") {
            let is_mine = note.strip_prefix(&link.to_string()).is_some_and(|rest| rest.starts_with(' '));
            return if is_mine { Ok(()) } else { Err(format!("it gets a text of another link: {start:?}")) };
        }
        if let Some(name) = text.strip_prefix("server: received command '") {
            // Commands that ended without an answer are over.
            while self.asked.front().is_some_and(|it| it.is_received && it.expected == Expected::Nothing) {
                self.asked.pop_front();
            }
            return match self.asked.front_mut() {
                Some(asked) if !asked.is_received && name.strip_suffix('\'') == Some(&asked.name) => {
                    asked.is_received = true;
                    Ok(())
                }
                asked => unexpected(asked.as_deref()),
            };
        }
        let Some(asked) = self.asked.front().filter(|asked| asked.is_received) else {
            return unexpected(None);
        };
        if let Some(answer) = text.strip_prefix("server: answered ") {
            let number = answer.split(' ').next().and_then(|number| number.parse().ok());
            if number != Some(asked.number) || asked.expected == Expected::Nothing {
                return unexpected(Some(asked));
            }
            report.answered += u64::from(asked.expected == Expected::Engine);
            self.asked.pop_front();
        } else if text.starts_with("server: rejected command '") {
            let is_open = |name: &str| name.starts_with("say") || name == "prove";
            let is_managing = !is_open(&asked.name) && Instruction::named(&asked.name).is_none();
            if !is_managing || asked.expected == Expected::Engine {
                return unexpected(Some(asked));
            }
            self.asked.pop_front();
        } else if text.starts_with("server: Error: too many commands wait") {
            if asked.expected == Expected::Engine {
                return unexpected(Some(asked));
            }
            report.refused += 1;
            self.asked.pop_front();
        }
        // The rest are the router's lines for people.
        Ok(())
    }
}

impl Story {
    /// A peer sends some commands at once, and some more later.
    pub(super) fn speak(&mut self, link: LinkId) -> Result<(), String> {
        if !self.peers.contains_key(&link) {
            return Ok(());
        }
        let most = self.random.choose(&[1, 5]);
        for _ in 0..1 + self.random.below(most) {
            let namespace = self.peers.get(&link).map_or(0, |peer| peer.namespace);
            let command = self.command(namespace);
            self.number += 1;
            self.report.commands += 1;
            if let Some(peer) = self.peers.get_mut(&link) {
                peer.commands.push_back(command);
            }
        }
        let after = self.random.below(if self.is_heavy { 16_000 } else { 4_000 });
        self.plan(after, Plan::Speak(link));
        self.feed(link)
    }

    fn command(&mut self, namespace: usize) -> Command {
        let number = self.number;
        let credential = NAMESPACES[namespace].1;
        let say = format!("say {}", self.random.below(4));
        let privileged = |name: &str, parameters: &str, credential: &str, is_right| {
            let text = format!(
                r#"{{"instruction":"{name}","parameters":{parameters},"credential":"{credential}","answer":{number}}}"#
            );
            Command::of_text(number, name, is_right, text)
        };
        let add = |name: &str, body: &str| {
            let body: String = body.escape_default().collect();
            let parameters = format!(r#"{{"instructionToAdd":"{name}","body":"{body}"}}"#);
            privileged("add instruction", &parameters.replace("\\'", "'"), credential, true)
        };
        let tunnels = self.random.choose(&Instruction::ALL);
        if self.is_heavy && !self.random.one_in(8) {
            return Command::new(number, &say, true);
        }
        match self.random.below(100) {
            0..15 => add(&say, "() => 1"),
            15..18 => add(tunnels.name(), "() => 1"),
            18..21 => add(tunnels.name(), tunnels.source()),
            21..23 => privileged("roll back", "{}", credential, true),
            23..28 => {
                let name = self.random.choose(&["hello", "eval", "quota", "modules", "require"]);
                privileged(name, "{}", credential, true)
            }
            28..34 => {
                let wrong = self.random.choose(&["", "wrong", NAMESPACES[1 - namespace].1]);
                privileged("eval", r#"{"body":"1"}"#, wrong, false)
            }
            34..37 => Command::new(number, "prove", false),
            37..44 => Command::new(number, self.random.choose(&["initialize", "forward to server"]), false),
            _ => Command::new(number, &say, false),
        }
    }

    /// The owner of the router reads a link's commands, until one has to wait.
    pub(super) fn feed(&mut self, link: LinkId) -> Result<(), String> {
        while let Some(peer) = self.peers.get_mut(&link)
            && let Some(command) = peer.commands.front_mut()
        {
            if self.router.must_wait(link, &command.read) {
                let is_first = !std::mem::replace(&mut command.has_waited, true);
                self.report.waited += u64::from(is_first && !self.router.is_busy(link));
                return Ok(());
            }
            let Some(Command { number, name, is_privileged, read, .. }) = peer.commands.pop_front() else {
                break;
            };
            let asked = Asked { number, name, is_privileged, expected: Expected::Router, is_received: false };
            let wants_engine = asked.name.starts_with("say") || asked.name == "prove";
            peer.asked.push_back(asked);
            self.router.handle_read_command(link, read, self.now);
            if self.router.is_busy(link) {
                return Ok(());
            }
            if wants_engine && !self.is_heavy && !self.is_draining {
                return Err(format!("{link}: the router keeps {number} for itself"));
            }
        }
        Ok(())
    }

    /// The router closes a link: for a reason.
    pub(super) fn see_close(&mut self, link: LinkId, code: CloseCode, reason: &str) -> Result<(), String> {
        let Some(peer) = self.peers.get(&link) else { return Err(format!("{link} is gone and is closed")) };
        let (unread, is_closed) = (peer.unread, peer.is_closed);
        match code {
            CloseCode::DRAINING if self.is_draining => {}
            CloseCode::POLICY if unread * 2 > MAX_UNREAD => self.report.overfilled += 1,
            CloseCode::POLICY => {
                return Err(format!("{link} is closed with {unread} bytes unread: {reason}"));
            }
            code if is_closed && code.is_for_applications() && reason.len() <= 123 => self.report.closed += 1,
            code => return Err(format!("{link} is closed with {code}: {reason}")),
        }
        // Texts sent before the close still arrive.
        if !self.is_draining && code != CloseCode::POLICY {
            self.read(link)?;
        }
        self.leave(link);
        Ok(())
    }
}
