//! The scripted engine.

use super::peers::{Command, Expected};
use super::{MAX_UNREAD, NAMESPACES, Plan, Story};
use std::collections::BTreeMap;
use tunnel_protocol::CloseCode;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::{Instruct, InstructKind, LinkId, Said};

/// Something that the engine does at its time.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// It answers the command of this number, if the link still has it.
    Answer(LinkId, u64),
    /// It says more than a link may leave unread.
    Flood(LinkId, u64),
    /// It ends a command without an answer.
    Drop(LinkId, u64),
    /// An instruction closes a link.
    Close(LinkId, u64),
}

/// A command that the engine has.
#[derive(Debug)]
pub(super) struct Run {
    number: u64,
    namespace: usize,
    len: usize,
    name: String,
    kind: InstructKind,
    /// The version of the instruction that runs.
    version: u64,
    /// True if it ends when the instruction has been replaced.
    waits: bool,
}

/// The engine's own books.
#[derive(Debug, Default)]
pub(super) struct Engine {
    runs: BTreeMap<LinkId, Run>,
    /// By namespace and name: the newest version.
    versions: BTreeMap<(usize, String), u64>,
    /// By namespace: true if one of the tunnel's names is injected.
    pub(super) is_tunnel_injected: [bool; NAMESPACES.len()],
}

impl Engine {
    /// The commands of a namespace that are not answered, and their bytes.
    pub(super) fn under_way(&self, namespace: usize) -> (usize, usize) {
        let runs = self.runs.values().filter(|run| run.namespace == namespace);
        runs.fold((0, 0), |(commands, bytes), run| (commands + 1, bytes + run.len))
    }

    pub(super) fn any_under_way(&self) -> Option<LinkId> {
        self.runs.keys().next().copied()
    }
}

impl Story {
    /// The router hands a command over: it must be one that its link's peer has sent, and in the link's namespace.
    pub(super) fn take_instruct(&mut self, instruct: Instruct) -> Result<(), String> {
        let Instruct { link, peer: facts, name, kind, text } = instruct;
        let Some(peer) = self.peers.get_mut(&link) else {
            return Err(format!("{link} is gone, and its command '{name}' comes"));
        };
        let Some(asked) = peer.asked.back_mut() else { return Err(format!("{link} has sent no '{name}'")) };
        let namespace = peer.namespace;
        if asked.name != name || facts.namespace() != NAMESPACES[namespace].0 {
            return Err(format!("'{name}' in the namespace {:?} for {asked:?}", facts.namespace()));
        }
        let is_tunnels = Instruction::named(&name).is_some();
        if is_tunnels && !self.engine.is_tunnel_injected[namespace] {
            return Err(format!("'{name}' is built in, and comes to the engine"));
        }
        if kind != InstructKind::Run && kind != InstructKind::Prove && !asked.is_privileged {
            return Err(format!("'{name}' comes without the credential"));
        }
        asked.expected = Expected::Engine;
        let number = asked.number;
        let version = self.engine.versions.get(&(namespace, name.clone())).copied().unwrap_or(0);
        let waits = self.random.one_in(6);
        let run = Run { number, namespace, len: text.len(), name, kind, version, waits };
        if self.trace {
            eprintln!("{:>12} the engine has {run:?} of {link}", self.now.as_micros());
        }
        if let Some(before) = self.engine.runs.insert(link, run) {
            return Err(format!("{link} has two commands with the engine: {before:?}"));
        }
        self.report.instructed += 1;
        let deed = match self.random.below(100) {
            0..3 => Deed::Flood(link, number),
            3..7 => Deed::Drop(link, number),
            7..10 => Deed::Close(link, number),
            // Never, unless everything is answered at the end.
            10..14 => return Ok(()),
            _ => Deed::Answer(link, number),
        };
        let most = if self.is_heavy { 20_000 } else { self.random.choose(&[1, 50, 3_000]) };
        let after = self.random.below(most);
        self.plan(after, Plan::Engine(deed));
        Ok(())
    }

    /// A link of which the engine knows has left: its command ends, and no answer is wanted.
    pub(super) fn forget(&mut self, link: LinkId) -> Result<(), String> {
        self.engine.runs.remove(&link);
        if self.router.is_busy(link) {
            return Err(format!("{link} has left and is busy"));
        }
        Ok(())
    }

    pub(super) fn perform(&mut self, deed: Deed) -> Result<(), String> {
        let (Deed::Answer(link, number)
        | Deed::Flood(link, number)
        | Deed::Drop(link, number)
        | Deed::Close(link, number)) = deed;
        if self.engine.runs.get(&link).is_none_or(|run| run.number != number) {
            return self.say_to_the_gone(link);
        }
        match deed {
            Deed::Answer(..) => {
                if let Some(run) = self.engine.runs.get_mut(&link).filter(|run| run.waits) {
                    // It is answered when the instruction is replaced, or a second later.
                    run.waits = false;
                    self.plan(1_000, Plan::Engine(Deed::Answer(link, number)));
                    return Ok(());
                }
                self.answer(link)
            }
            Deed::Flood(..) => {
                // Half of it is too much for a link that reads nothing and has the other half already.
                let len = self.random.choose(&[MAX_UNREAD / 2, MAX_UNREAD]);
                self.tell(link, format!("note for {link} {}", "x".repeat(len)));
                self.plan(1_000, Plan::Engine(Deed::Answer(link, number)));
                Ok(())
            }
            Deed::Drop(..) => {
                if let Some(asked) = self.peers.get_mut(&link).and_then(|peer| peer.asked.back_mut()) {
                    asked.expected = Expected::Nothing;
                }
                self.end(link)
            }
            Deed::Close(..) => {
                if let Some(peer) = self.peers.get_mut(&link) {
                    peer.is_closed = true;
                }
                let code = CloseCode(self.random.choose(&[1000, 1006, 3000, 4999, 0]));
                self.say(Said::Close { link, code, reason: "é".repeat(100) });
                Ok(())
            }
        }
    }

    /// Answers a link's command, after a note for another link.
    pub(super) fn answer(&mut self, link: LinkId) -> Result<(), String> {
        let Some(run) = self.engine.runs.get(&link) else { return Ok(()) };
        let (number, namespace, version) = (run.number, run.namespace, run.version);
        let (name, kind) = (run.name.clone(), run.kind.clone());
        let newest = self.engine.versions.get(&(namespace, name.clone())).copied().unwrap_or(0);
        self.report.outdated += u64::from(newest > version);
        let others: Vec<_> = self.peers.keys().copied().collect();
        if let Some(other) = (!others.is_empty()).then(|| self.random.choose(&others)) {
            let text = format!("note for {other} {}", "x".repeat(self.random.below(3_000) as usize));
            self.tell(other, text);
        }
        self.tell(link, format!(r#"server: answered {number} {{"returned":{version}}}"#));
        self.end(link)?;
        self.change(namespace, kind, name)
    }

    /// An instruction was added, or everything was rolled back.
    fn change(&mut self, namespace: usize, kind: InstructKind, command: String) -> Result<(), String> {
        let is_tunnels = match kind {
            InstructKind::Add { name } => {
                *self.engine.versions.entry((namespace, name.clone())).or_default() += 1;
                let is_replaced = |run: &Run| run.waits && run.namespace == namespace && run.name == name;
                let replaced: Vec<_> = self
                    .engine
                    .runs
                    .iter()
                    .filter(|(_, run)| is_replaced(run))
                    .map(|(link, _)| *link)
                    .collect();
                for link in replaced {
                    self.answer(link)?;
                }
                Instruction::named(&name).is_some()
            }
            InstructKind::Manage if command == "roll back" => false,
            _ => return Ok(()),
        };
        if is_tunnels || command == "roll back" {
            self.engine.is_tunnel_injected[namespace] = is_tunnels;
            self.say(Said::Tunnel { namespace: NAMESPACES[namespace].0.to_owned(), is_injected: is_tunnels });
        }
        Ok(())
    }

    fn tell(&mut self, link: LinkId, text: String) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.unread += text.len() + 64;
        }
        self.say(Said::Text { link, text });
    }

    /// Tells the router that a command is over; sometimes twice, of which the second time has no effect.
    fn end(&mut self, link: LinkId) -> Result<(), String> {
        let Some(run) = self.engine.runs.remove(&link) else { return Ok(()) };
        if self.trace {
            eprintln!("{:>12} {link}: {} is over", self.now.as_micros(), run.number);
        }
        self.say(Said::Done { link });
        if self.router.is_busy(link) {
            return Err(format!("{link} is busy with {run:?}, which is over"));
        }
        if self.random.one_in(20) {
            self.say(Said::Done { link });
        }
        Ok(())
    }

    /// The engine does not know yet that a link is gone.
    fn say_to_the_gone(&mut self, link: LinkId) -> Result<(), String> {
        if self.peers.contains_key(&link) {
            return Ok(());
        }
        self.report.in_vain += 1;
        let text = format!("note for {link}");
        let code = CloseCode::NORMAL;
        for said in [
            Said::Text { link, text },
            Said::Close { link, code, reason: String::new() },
            Said::Done { link },
        ] {
            self.say(said);
        }
        if self.router.is_busy(link) {
            return Err(format!("{link} is gone and busy"));
        }
        Ok(())
    }

    fn say(&mut self, said: Said) {
        self.router.handle_said(said);
    }

    /// As many new links as the queue takes have a command taken each, and a further one waits.
    pub(super) fn fill_queue(&mut self, namespace: usize) -> Result<(), String> {
        let places = self.queue.min(16);
        for number in 0..places {
            let link = self.open(namespace);
            let command = Command::new(self.number, "say 0", false);
            self.number += 1;
            if let Some(peer) = self.peers.get_mut(&link) {
                peer.commands.push_back(command);
            }
            self.feed(link)?;
            self.settle()?;
            if self.engine.under_way(namespace).0 != number + 1 {
                return Err(format!("of {} places in the queue, {number} are free at the end", self.queue));
            }
        }
        Ok(())
    }
}
