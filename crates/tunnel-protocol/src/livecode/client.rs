//! A peer's side of the livecode dialect: which answer belongs to which command.

use super::json::{invocation, privileged, privileged_json};
use super::{DELIMITER, Instruction, Line, Notification, Parameter};
use crate::ServerId;
use std::collections::VecDeque;

/// Most that one instruction may send, in bytes, each text counted with [`TEXT_COST`].
const MAX_SENT: usize = 4 << 20;

/// The cost of keeping a text beside its bytes.
const TEXT_COST: usize = 32;

/// A command whose answer ends what an `eval` sends, because commands are answered in order. No relay has it.
const FENCE: &str = "end of evaluation";

/// One command and its answer, numbered in the order of the commands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(u64);

impl CallId {
    /// The number, from 0.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The outcome of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It was carried out.
    Returned {
        /// The texts that it sent.
        sent: Vec<String>,
        /// The value that it returned, or the relay's line about a privileged command.
        returned: String,
    },
    /// The relay has no instruction of this name, or the credential of a privileged one is wrong.
    Rejected,
    /// The relay could not read the command.
    Malformed,
}

impl Answer {
    /// Returns whether a tunnel instruction that answers with 1 or 0 answered with 1.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self, Self::Returned { sent, .. } if sent.last().is_some_and(|text| text == "1"))
    }
}

/// Something that a client tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LivecodeEvent {
    /// The relay said this, for people to read; only from [`LivecodeClient::with_log`].
    Log(String),
    /// A command was answered.
    Answered {
        /// The command.
        call: CallId,
        /// The outcome.
        answer: Answer,
    },
    /// A client has connected to this server.
    Connected {
        /// The client's channel.
        channel: u32,
        /// The port that it wants.
        port: u16,
        /// Its address as the relay sees it.
        address: String,
    },
    /// Data from the other side of a channel.
    Data {
        /// The number of the client's channel, at a server; the server ID, at a client.
        from: ServerId,
        /// The data.
        data: String,
    },
    /// A text that belongs to no command and is no notification.
    Text(String),
}

/// The relay can't be understood any more; the connection is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LivecodeError {
    /// One instruction sent more than a client keeps.
    #[error("an instruction sent more than {MAX_SENT} bytes before it returned")]
    Overflow,
}

/// A peer's side of one WebSocket to a livecoding relay.
///
/// The owner gives commands and feeds each text message to [`handle_text`](Self::handle_text); after each call it
/// drains [`poll_transmit`](Self::poll_transmit), whose texts are messages to send, and
/// [`poll_event`](Self::poll_event).
///
/// Commands are answered in order. Notifications may come in between, and are told apart by their beginning.
#[derive(Debug)]
pub struct LivecodeClient {
    delimiter: String,
    keeps_log: bool,
    numbers_answers: bool,
    next_call: u64,
    waiting: VecDeque<Waiting>,
    transmits: VecDeque<String>,
    events: VecDeque<LivecodeEvent>,
}

/// A command that is not answered in full.
#[derive(Debug)]
struct Waiting {
    call: CallId,
    kind: Kind,
    progress: Progress,
}

/// The end of a command's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// With the line of what was returned.
    Added,
    /// With the line that says that it is done.
    Privileged,
    /// With the list of the modules.
    Modules,
    /// With the beginning of the next answer.
    Eval,
    /// As any unknown instruction's, and nobody waits for it.
    Fence,
}

#[derive(Debug)]
enum Progress {
    /// Nothing of the answer has come.
    Sent,
    /// The relay has the command.
    Received,
    /// The relay carries it out.
    Evaluating { sent: Vec<String>, cost: usize, returned: String },
}

impl Default for LivecodeClient {
    fn default() -> Self {
        Self::new()
    }
}

impl LivecodeClient {
    /// A client that drops the relay's lines once it has understood them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            delimiter: DELIMITER.to_owned(),
            keeps_log: false,
            numbers_answers: false,
            next_call: 0,
            waiting: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A client that hands each of the relay's lines on as [`LivecodeEvent::Log`].
    #[must_use]
    pub fn with_log() -> Self {
        Self { keeps_log: true, ..Self::new() }
    }

    /// Returns the number of commands that are not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    /// From now on, asks the relay to end each answer with the line `server: answered NUMBER JSON`, which comes as [`Event::Log`]. The number
    /// is the call's. A relay that does not say `hello livecode 1` ignores it.
    pub fn number_answers(&mut self) {
        self.numbers_answers = true;
    }

    /// Gives one of the [`PRIVILEGED`](super::PRIVILEGED) commands; `parameters` is a JSON object, which is not checked.
    pub fn manage(&mut self, name: &str, parameters: &str, credential: &str) -> CallId {
        self.call(Kind::Privileged, privileged_json(name, parameters, credential))
    }

    /// Runs the added instruction of a name.
    pub fn invoke(&mut self, name: &str, parameters: &[Parameter<'_>]) -> CallId {
        self.call(Kind::Added, invocation(name, parameters))
    }

    /// Adds an instruction: `body` is the source of a JavaScript function expression.
    pub fn add_instruction(&mut self, name: &str, body: &str, credential: &str) -> CallId {
        let parameters = [("instructionToAdd", name), ("body", body)];
        self.call(Kind::Privileged, privileged("add instruction", &parameters, credential))
    }

    /// Evaluates JavaScript. What it sends before it ends is in the answer.
    pub fn eval(&mut self, source: &str, credential: &str) -> CallId {
        let call = self.call(Kind::Eval, privileged("eval", &[("body", source)], credential));
        self.call(Kind::Fence, invocation(FENCE, &[]));
        call
    }

    /// Installs a Node.js package, then evaluates `then`. Answered when the installation begins.
    pub fn require(&mut self, package: &str, then: &str, credential: &str) -> CallId {
        let parameters = [("package", package), ("then", then)];
        self.call(Kind::Privileged, privileged("require", &parameters, credential))
    }

    /// Lists the loaded modules: what is sent is one JSON array.
    pub fn modules(&mut self, credential: &str) -> CallId {
        self.call(Kind::Modules, privileged("modules", &[], credential))
    }

    /// Asks for a server ID and its credential: what is sent is for
    /// [`Line::parse_server_credential`].
    pub fn create_server_credential(&mut self) -> CallId {
        self.invoke(Instruction::CreateServerCredential.name(), &[])
    }

    /// Makes this peer the server with an ID.
    pub fn install_server(&mut self, server: u32, credential: &str) -> CallId {
        let parameters = [Parameter::Number(server), Parameter::Text(credential)];
        self.invoke(Instruction::InstallServer.name(), &parameters)
    }

    /// Connects this peer to a server, as a client. One peer is one client of one server.
    pub fn connect_to_server(&mut self, server: impl Into<ServerId>, port: u16) -> CallId {
        self.invoke_for(server.into(), Instruction::ConnectToServer, Parameter::Number(port.into()))
    }

    /// Passes data on to one of this server's clients.
    pub fn forward_to_client(&mut self, channel: u32, data: &str) -> CallId {
        self.invoke(Instruction::ForwardToClient.name(), &[Parameter::Number(channel), Parameter::Text(data)])
    }

    /// Passes data on to the server that this client is connected to.
    pub fn forward_to_server(&mut self, server: impl Into<ServerId>, data: &str) -> CallId {
        self.invoke_for(server.into(), Instruction::ForwardToServer, Parameter::Text(data))
    }

    /// Takes in one text message. After an error the connection is to be closed.
    pub fn handle_text(&mut self, text: &str) -> Result<(), LivecodeError> {
        if let Some(line) = Line::parse(text) {
            if self.keeps_log {
                self.events.push_back(LivecodeEvent::Log(text.to_owned()));
            }
            self.handle_line(line, text);
            return Ok(());
        }
        if Notification::is_one(text)
            && let Some(event) = self.notification(text)
        {
            self.events.push_back(event);
            return Ok(());
        }
        self.handle_sent(text)
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<String> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LivecodeEvent> {
        self.events.pop_front()
    }

    /// Runs an instruction whose first parameter is a server ID.
    fn invoke_for(&mut self, server: ServerId, instruction: Instruction, parameter: Parameter<'_>) -> CallId {
        match server {
            ServerId::Number(number) => {
                self.invoke(instruction.name(), &[Parameter::Number(number), parameter])
            }
            ServerId::Key(_) => {
                self.invoke(instruction.name(), &[Parameter::Text(&server.to_string()), parameter])
            }
        }
    }

    fn call(&mut self, kind: Kind, mut text: String) -> CallId {
        let call = CallId(self.next_call);
        if self.numbers_answers && kind != Kind::Fence && text.pop().is_some() {
            text.push_str(",\"answer\":");
            text.push_str(&call.0.to_string());
            text.push('}');
        }
        self.next_call += 1;
        self.waiting.push_back(Waiting { call, kind, progress: Progress::Sent });
        self.transmits.push_back(text);
        call
    }

    /// Takes in a line of the relay. What it means depends on how far the answer is that is expected now.
    fn handle_line(&mut self, line: Line<'_>, text: &str) {
        let words = || Line::parse_words(text).to_owned();
        let evaluating = || Progress::Evaluating { sent: Vec::new(), cost: 0, returned: words() };
        let Some(Waiting { kind, progress, .. }) = self.waiting.front_mut() else {
            return;
        };
        match (&mut *progress, line, *kind) {
            (Progress::Sent, Line::Received(_), _) => *progress = Progress::Received,
            (Progress::Sent, Line::Malformed(_), _) => self.answer(Answer::Malformed),
            // Said of something else: of what an earlier `eval` left running, for instance.
            (Progress::Sent, ..) => {}
            (Progress::Received, Line::Rejected(_), _) => self.answer(Answer::Rejected),
            (Progress::Received, Line::Evaluating(_), Kind::Added | Kind::Fence)
            | (Progress::Received, _, Kind::Modules | Kind::Eval) => *progress = evaluating(),
            (Progress::Received, ..) => {
                self.answer(Answer::Returned { sent: Vec::new(), returned: words() });
            }
            (Progress::Evaluating { sent, returned, .. }, Line::Received(_), Kind::Eval) => {
                let answer =
                    Answer::Returned { sent: std::mem::take(sent), returned: std::mem::take(returned) };
                self.answer(answer);
                self.handle_line(line, text);
            }
            (Progress::Evaluating { .. }, _, Kind::Eval | Kind::Modules) => {}
            (Progress::Evaluating { sent, .. }, ..) => {
                let sent = std::mem::take(sent);
                self.answer(Answer::Returned { sent, returned: words() });
            }
        }
    }

    /// Takes in what an instruction sent.
    fn handle_sent(&mut self, text: &str) -> Result<(), LivecodeError> {
        let Some(Waiting { kind, progress: Progress::Evaluating { sent, cost, returned }, .. }) =
            self.waiting.front_mut()
        else {
            self.events.push_back(LivecodeEvent::Text(text.to_owned()));
            return Ok(());
        };
        *cost += text.len() + TEXT_COST;
        if *cost > MAX_SENT {
            return Err(LivecodeError::Overflow);
        }
        sent.push(text.to_owned());
        if *kind == Kind::Modules {
            let answer = Answer::Returned { sent: std::mem::take(sent), returned: std::mem::take(returned) };
            self.answer(answer);
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(Waiting { call, kind, .. }) = self.waiting.pop_front()
            && kind != Kind::Fence
        {
            self.events.push_back(LivecodeEvent::Answered { call, answer });
        }
    }

    /// Reads a notification; one that doesn't fit the delimiter may show which one the relay's configurer chose.
    fn notification(&mut self, text: &str) -> Option<LivecodeEvent> {
        let notification = Notification::parse(text, &self.delimiter).or_else(|| {
            Notification::delimiter_in(text)?.clone_into(&mut self.delimiter);
            Notification::parse(text, &self.delimiter)
        })?;
        Some(match notification {
            Notification::Connected { channel, port, address } => {
                LivecodeEvent::Connected { channel, port, address: address.to_owned() }
            }
            Notification::Data { from, data } => LivecodeEvent::Data { from, data: data.to_owned() },
        })
    }
}

#[cfg(test)]
mod tests;
