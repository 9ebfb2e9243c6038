//! Injected instructions: the router passes what it does not know on to an engine, and takes back what that says.

use super::link::Stage;
use super::{Event, LinkId, Router};
use crate::CloseCode;
use crate::close::truncate_reason;
use crate::livecode::{Command, Instruction, Line, PRIVILEGED, Request};

/// The bytes of commands that may be with the engine; a further one is answered with an error.
const MAX_INSTRUCTED: usize = 16 << 20;

/// A command of a livecode peer that the owner's engine has to run.
///
/// The link's peer has been told that the command was received. Until [`Said::Done`] comes back, the router
/// [is busy](Router::is_busy) with the link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instruct {
    /// The link of the peer that sent it.
    pub link: LinkId,
    /// The peer's address, as instructions may see it.
    pub address: String,
    /// The URL under which the peer reached the relay.
    pub url: String,
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
        /// True if it has.
        is_injected: bool,
    },
}

impl Router {
    /// Returns whether a livecode peer's last command is with the engine. The owner hands in no other one of the peer's until
    /// [`Event::Answered`]: it leaves them unread.
    #[must_use]
    pub fn is_busy(&self, link: LinkId) -> bool {
        let state = self.links.get(link.0).and_then(|state| state.livecode.as_ref());
        state.is_some_and(|livecode| livecode.is_busy)
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
                if let Some(livecode) = self.livecode(link) {
                    livecode.is_busy = false;
                    let instructed = std::mem::take(&mut livecode.instructed);
                    self.instructed -= instructed;
                    self.events.push_back(Event::Answered(link));
                }
            }
            Said::Tunnel { is_injected } => self.is_tunnel_injected = is_injected,
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

    /// Passes a command on to the engine, if one runs programs; answers it, if it is not allowed. What is left is the router's own.
    pub(super) fn pass_on(&mut self, link: LinkId, command: &Command, text: &mut String) -> bool {
        if !self.config.livecode_programs {
            return false;
        }
        let name = command.name();
        let is_manage = PRIVILEGED.contains(&name);
        let kind = match command.request() {
            Request::AddInstruction { name, .. } => InstructKind::Add { name: name.to_owned() },
            Request::Eval { .. } => InstructKind::Eval,
            Request::Require { package } => InstructKind::Require { package: package.to_owned() },
            Request::Modules => InstructKind::Modules,
            Request::Unknown if is_manage => InstructKind::Manage,
            Request::Unknown => InstructKind::Run,
            _ if self.is_tunnel_injected => InstructKind::Run,
            _ => return false,
        };
        if kind != InstructKind::Run && !self.is_configurer(link, command) {
            self.say(link, Line::Rejected(name));
            return true;
        }
        // The tunnel's own sources are built in: bulk traffic then needs no engine.
        if let Request::AddInstruction { name, body } = command.request()
            && !self.is_tunnel_injected
            && Instruction::named(name).is_some_and(|instruction| instruction.source() == body)
        {
            self.say(link, Line::Adding(name));
            self.say_answered(link, command, "built in");
            return true;
        }
        let total = self.instructed + text.len();
        if total > MAX_INSTRUCTED {
            self.say(link, Line::Returned("Error: too many commands wait for their turn; try again later"));
            return true;
        }
        let Some(state) = self.links.get_mut(link.0) else { return true };
        let Some(livecode) = state.livecode.as_deref_mut() else { return true };
        livecode.is_busy = true;
        livecode.instructed = text.len();
        self.instructed = total;
        livecode.is_instructed = true;
        self.events.push_back(Event::Instruct(Box::new(Instruct {
            link,
            address: state.peer.address.clone(),
            url: state.peer.url.clone(),
            name: name.to_owned(),
            kind,
            text: std::mem::take(text),
        })));
        true
    }
}
