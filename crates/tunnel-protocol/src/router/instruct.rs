//! Injected instructions: the router passes what it does not know on to an engine, and takes back what that says.

use super::link::Stage;
use super::{Event, LinkId, Peer, ReadCommand, Router};
use crate::CloseCode;
use crate::close::truncate_reason;
use crate::livecode::{Command, Instruction, Line, PRIVILEGED, PROVE, Request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bytes of one namespace's commands that may be with the engine; a further one is answered with an error.
const MAX_INSTRUCTED: usize = 16 << 20;

/// A command of a livecode peer that the owner's engine has to run.
///
/// The link's peer has been told that the command was received. Until [`Said::Done`] comes back, the router
/// [is busy](Router::is_busy) with the link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instruct {
    /// The link of the peer that sent it.
    pub link: LinkId,
    /// The peer. Its [namespace](Peer::namespace) says which engine the command is for.
    pub peer: Arc<Peer>,
    /// The command's name, as JavaScript makes a text of it.
    pub name: String,
    /// The task.
    pub kind: InstructKind,
    /// The whole command in JSON. It may hold the relay's credential, if that was checked.
    pub text: String,
}

/// The tasks of an engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum InstructKind {
    /// To run the injected instruction of the command's name.
    Run,
    /// To add an instruction; the credential was right, as for all that follow.
    Add {
        /// Under which name.
        name: String,
    },
    /// To evaluate JavaScript.
    Eval,
    /// To install a package.
    Require {
        /// Which.
        package: String,
    },
    /// To list the modules that are loaded.
    Modules,
    /// One of [`PRIVILEGED`].
    Manage,
    /// To prove that the peer holds a server's key: [`PROVE`].
    Prove,
}

/// A message of the engine to the router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// A text for a peer.
    Text {
        /// The link of the peer.
        link: LinkId,
        /// As it goes onto the wire.
        text: String,
    },
    /// An instruction closes a link.
    Close {
        /// Which.
        link: LinkId,
        /// The code that the peer is told; a code that applications may not use becomes 1000.
        code: CloseCode,
        /// The reason that the peer is told.
        reason: String,
    },
    /// The link's command is answered: the next one may come.
    Done {
        /// The link of the peer.
        link: LinkId,
    },
    /// Tells whether the engine has an instruction of one of the tunnel's six names: then it runs all six, and the router none.
    Tunnel {
        /// The namespace.
        namespace: String,
        /// True if it has.
        is_injected: bool,
    },
}

/// The state of a namespace's engine, as far as the router needs it.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// True if the engine runs the tunnel's instructions.
    is_tunnel_injected: bool,
    /// Commands that the engine has, and their bytes.
    under_way: usize,
    instructed: usize,
    /// Links that have a command that waits until the engine has fewer, in the order in which they came.
    held: BTreeMap<u64, LinkId>,
    /// The place of the next one.
    next_place: u64,
}

impl Program {
    /// Takes the link out that has waited longest.
    fn pop_held(&mut self) -> Option<LinkId> {
        self.held.pop_first().map(|(_, link)| link)
    }
}

impl Router {
    /// Returns whether a livecode peer's last command is with the engine. The owner hands in no other one of the peer's until
    /// [`Event::Answered`]: it leaves them unread.
    #[must_use]
    pub fn is_busy(&self, link: LinkId) -> bool {
        let state = self.links.get(link.0).and_then(|state| state.livecode.as_ref());
        state.is_some_and(|livecode| livecode.is_busy)
    }

    /// Returns whether a livecode peer's command has to wait: because the one before it is with the engine, or because the engine has as
    /// many as it takes. The owner hands it in after [`Event::Answered`], and reads nothing more of the peer until then.
    #[must_use]
    pub fn must_wait(&mut self, link: LinkId, read: &ReadCommand) -> bool {
        if self.is_busy(link) {
            return true;
        }
        let Some(peer) = self.links.get(link.0).map(|state| state.peer.clone()) else { return false };
        let Ok(command) = &read.command else { return false };
        if self.instruct_kind(&peer, command).is_none() {
            return false;
        }
        let max = self.config.livecode_queue.max(1);
        let Some(program) = self.programs.get_mut(peer.namespace()) else { return false };
        let Some(livecode) = self.links.get_mut(link.0).and_then(|state| state.livecode.as_deref_mut())
        else {
            return false;
        };
        if program.under_way < max {
            return false;
        }
        let is_held = livecode.held_at.is_some_and(|place| program.held.contains_key(&place));
        if !is_held {
            livecode.held_at = Some(program.next_place);
            program.held.insert(program.next_place, link);
            program.next_place += 1;
        }
        true
    }

    /// Takes in what an engine says. What concerns a link that is gone has no effect.
    pub fn handle_said(&mut self, said: Said) {
        match said {
            Said::Text { link, text } => self.tell(link, text),
            Said::Close { link, code, reason } => {
                let code = if code.is_for_applications() { code } else { CloseCode::NORMAL };
                // Texts that instructions sent before are still sent.
                let Some(state) = self.links.get_mut(link.0).filter(|state| state.stage != Stage::Ended)
                else {
                    return;
                };
                state.stage = Stage::Ended;
                self.release(link);
                self.events.push_back(Event::Close {
                    link,
                    code,
                    reason: truncate_reason(&reason).to_owned(),
                });
            }
            Said::Done { link } => {
                // Said twice, it takes no place away from a command of the link that waits for one.
                if self.is_busy(link) && self.take_back_command(link) {
                    self.events.push_back(Event::Answered(link));
                }
            }
            Said::Tunnel { namespace, is_injected } => {
                self.programs.entry(namespace).or_default().is_tunnel_injected = is_injected;
            }
        }
    }

    /// Notes that the engine has a link's command no longer, or never will; returns whether it had.
    pub(super) fn take_back_command(&mut self, link: LinkId) -> bool {
        let Some(state) = self.links.get_mut(link.0) else { return false };
        let Some(livecode) = state.livecode.as_deref_mut() else { return false };
        let was_busy = std::mem::take(&mut livecode.is_busy);
        let instructed = std::mem::take(&mut livecode.instructed);
        let place = livecode.held_at.take();
        let Some(program) = self.programs.get_mut(state.peer.namespace()) else { return was_busy };
        if let Some(place) = place {
            program.held.remove(&place);
        }
        program.instructed -= instructed;
        program.under_way -= usize::from(was_busy);
        if let Some(next) = program.pop_held() {
            self.events.push_back(Event::Answered(next));
        }
        was_busy
    }

    /// A link's command has been carried out without the engine. If the link had waited for a place there, the next one has it.
    pub(super) fn give_place_on(&mut self, link: LinkId) {
        let max = self.config.livecode_queue.max(1);
        let Some(state) = self.links.get_mut(link.0) else { return };
        let Some(livecode) = state.livecode.as_deref_mut() else { return };
        if livecode.is_busy {
            return;
        }
        let Some(place) = livecode.held_at.take() else { return };
        let Some(program) = self.programs.get_mut(state.peer.namespace()) else { return };
        let was_told = program.held.remove(&place).is_none();
        if was_told
            && program.under_way < max
            && let Some(next) = program.pop_held()
        {
            self.events.push_back(Event::Answered(next));
        }
    }

    /// Ends the answer to one of the tunnel's instructions for a peer that wants to tell answers apart, as the engine does for all others.
    pub(super) fn say_answered(&mut self, link: LinkId, command: &Command, returned: &str) {
        if let (Some(answer), true) = (command.answer(), self.config.livecode_programs) {
            // They return numbers and plain words.
            let text = format!(
                r#"server: answered {answer} {{"returned":"{returned}","printed":"{returned}","ms":0}}"#
            );
            self.tell(link, text);
        }
    }

    /// The engine's task for a command; `None`: it is the router's own.
    fn instruct_kind(&self, peer: &Peer, command: &Command) -> Option<InstructKind> {
        if !self.config.livecode_programs {
            return None;
        }
        let is_injected =
            || self.programs.get(peer.namespace()).is_some_and(|program| program.is_tunnel_injected);
        Some(match command.request() {
            // The tunnel's own sources are built in: bulk traffic then needs no engine.
            Request::AddInstruction { name, body }
                if !is_injected() && Instruction::named(name).is_some_and(|it| it.source() == body) =>
            {
                return None;
            }
            Request::AddInstruction { name, .. } => InstructKind::Add { name: name.to_owned() },
            Request::Eval { .. } => InstructKind::Eval,
            Request::Require { package } => InstructKind::Require { package: package.to_owned() },
            Request::Modules => InstructKind::Modules,
            Request::Unknown if PRIVILEGED.contains(&command.name()) => InstructKind::Manage,
            Request::Unknown if command.name() == PROVE => InstructKind::Prove,
            Request::Unknown => InstructKind::Run,
            _ if is_injected() => InstructKind::Run,
            _ => return None,
        })
    }

    /// Passes a command on to the engine, if one runs programs; answers it, if it is not allowed. What is left is the router's own.
    pub(super) fn pass_on(&mut self, link: LinkId, command: &Command, text: &mut String) -> bool {
        let Some(peer) = self.links.get(link.0).map(|state| state.peer.clone()) else { return true };
        let Some(kind) = self.instruct_kind(&peer, command) else { return false };
        let name = command.name();
        let is_open = matches!(kind, InstructKind::Run | InstructKind::Prove);
        if !is_open && !self.is_configurer(link, command) {
            self.say(link, Line::Rejected(name));
            return true;
        }
        let program = self.programs.entry(peer.namespace().to_owned()).or_default();
        let total = program.instructed + text.len();
        if total > MAX_INSTRUCTED || program.under_way >= self.config.livecode_queue.max(1) {
            self.say(link, Line::Returned("Error: too many commands wait for their turn; try again later"));
            return true;
        }
        let Some(livecode) = self.links.get_mut(link.0).and_then(|state| state.livecode.as_deref_mut())
        else {
            return true;
        };
        livecode.is_busy = true;
        livecode.held_at = None;
        livecode.instructed = text.len();
        livecode.is_instructed = true;
        program.instructed = total;
        program.under_way += 1;
        let (name, text) = (name.to_owned(), std::mem::take(text));
        self.events.push_back(Event::Instruct(Box::new(Instruct { link, peer, name, kind, text })));
        true
    }
}
