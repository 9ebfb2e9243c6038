//! The commands of a livecoding relay's peers, read as leniently as JavaScript reads them.

use super::Instruction;
use super::name::{Name, OBJECT};
use crate::ServerId;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest command, in bytes of JSON text: a session record of 64 KiB fits many times.
pub const MAX_COMMAND: usize = 1 << 20;

/// Longest credential that is compared, in bytes.
pub const MAX_CREDENTIAL: usize = 1 << 10;

/// Largest number of an answer: JavaScript has all integers up to it.
const MAX_ANSWER: u64 = (1 << 53) - 1;

/// The number of positional parameters that are kept; no instruction takes more.
const MAX_PARAMETERS: usize = 4;

/// One command of a peer.
///
/// A value that is `undefined`, a number or an object in JavaScript where a text is meant is taken in the form
/// that JavaScript would give it as a text, so that our relay answers as a Node.js server would.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Command {
    name: Option<String>,
    credential: Option<String>,
    parameters: Parameters,
    answer: Option<u64>,
}

/// The named and the positional parameters; a command has either.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Parameters {
    positional: Vec<String>,
    instruction_to_add: Option<String>,
    body: Option<String>,
    package: Option<String>,
}

/// A text is no command: it is too long, no JSON, or `null`. Nothing was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the text is not a command in JSON of at most {MAX_COMMAND} bytes")]
pub struct MalformedCommand;

/// The request of a command.
///
/// IDs and ports are `None` when they are missing or nothing that an ID or a port can be: there is no such server
/// or channel, and the answer is 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request<'a> {
    /// Adds an instruction; privileged.
    AddInstruction {
        /// Its name.
        name: &'a str,
        /// The source of a JavaScript function expression.
        body: &'a str,
    },
    /// Evaluates JavaScript; privileged.
    Eval {
        /// The source.
        body: &'a str,
    },
    /// Installs a Node.js package; privileged.
    Require {
        /// Its name.
        package: &'a str,
    },
    /// Lists the modules that are loaded; privileged.
    Modules,
    /// [`Instruction::Initialize`].
    Initialize,
    /// [`Instruction::CreateServerCredential`].
    CreateServerCredential,
    /// [`Instruction::InstallServer`].
    InstallServer {
        /// The server ID.
        server: Option<u32>,
        /// The credential that came with the server ID.
        credential: &'a str,
    },
    /// [`Instruction::ConnectToServer`].
    ConnectToServer {
        /// The server ID; a key's is understood by our relay only.
        server: Option<ServerId>,
        /// The port.
        port: Option<u16>,
    },
    /// [`Instruction::ForwardToClient`].
    ForwardToClient {
        /// The client's channel.
        channel: Option<u32>,
        /// The data.
        data: &'a str,
    },
    /// [`Instruction::ForwardToServer`].
    ForwardToServer {
        /// The server ID.
        server: Option<ServerId>,
        /// The data.
        data: &'a str,
    },
    /// An instruction that the tunnel does not have.
    Unknown,
}

/// The text that JavaScript makes of no value.
const UNDEFINED: &str = "undefined";

impl Command {
    /// Reads a command.
    ///
    /// Memory is bounded by the length of the text, however deep or wide the JSON is.
    pub fn parse(text: &str) -> Result<Self, MalformedCommand> {
        if text.len() > MAX_COMMAND {
            return Err(MalformedCommand);
        }
        serde_json::from_str(text).map_err(|_| MalformedCommand)
    }

    /// The name of the instruction; `undefined` if there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        or_undefined(self.name.as_deref())
    }

    /// Returns whether the command comes with this credential. Takes the same time for all of one length.
    #[must_use]
    pub fn has_credential(&self, credential: &str) -> bool {
        let Some(presented) = &self.credential else {
            return false;
        };
        if presented.len() > MAX_CREDENTIAL {
            return false;
        }
        // Comparing the hashes tells a guesser nothing about where a guess begins to be wrong.
        Sha256::digest(presented) == Sha256::digest(credential)
    }

    /// The same for a credential of which only the SHA-256 is known.
    #[must_use]
    pub fn has_credential_of(&self, hash: &[u8; 32]) -> bool {
        let Some(presented) = &self.credential else {
            return false;
        };
        presented.len() <= MAX_CREDENTIAL && Sha256::digest(presented)[..] == hash[..]
    }

    /// The number by which the peer tells this command's answer from others', from 0 to 2^53 - 1.
    #[must_use]
    pub const fn answer(&self) -> Option<u64> {
        self.answer
    }

    /// Returns the request of the command. [`has_credential`](Self::has_credential) says whether it may be done: the first
    /// four requests are for those with the relay's credential.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        let named = &self.parameters;
        match self.name() {
            "add instruction" => Request::AddInstruction {
                name: or_undefined(named.instruction_to_add.as_deref()),
                body: or_undefined(named.body.as_deref()),
            },
            "eval" => Request::Eval { body: or_undefined(named.body.as_deref()) },
            "require" => Request::Require { package: or_undefined(named.package.as_deref()) },
            "modules" => Request::Modules,
            name => Instruction::named(name).map_or(Request::Unknown, |added| self.tunnel_request(added)),
        }
    }

    fn tunnel_request(&self, instruction: Instruction) -> Request<'_> {
        let text = |index| or_undefined(self.parameters.positional.get(index).map(String::as_str));
        match instruction {
            Instruction::Initialize => Request::Initialize,
            Instruction::CreateServerCredential => Request::CreateServerCredential,
            Instruction::InstallServer => Request::InstallServer { server: id(text(0)), credential: text(1) },
            Instruction::ConnectToServer => Request::ConnectToServer {
                server: server_id(text(0)),
                port: id(text(1)).and_then(|port| port.try_into().ok()),
            },
            Instruction::ForwardToClient => Request::ForwardToClient { channel: id(text(0)), data: text(1) },
            Instruction::ForwardToServer => {
                Request::ForwardToServer { server: server_id(text(0)), data: text(1) }
            }
        }
    }
}

fn or_undefined(text: Option<&str>) -> &str {
    text.unwrap_or(UNDEFINED)
}

/// An ID as the key of a JavaScript table: decimal, with neither sign nor leading zeros.
fn id(text: &str) -> Option<u32> {
    let id = text.parse::<u32>().ok()?;
    (id.to_string() == text).then_some(id)
}

fn server_id(text: &str) -> Option<ServerId> {
    id(text).map(ServerId::Number).or_else(|| text.parse().ok().filter(|id: &ServerId| id.key().is_some()))
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

/// Takes any JSON value but `null`, of which JavaScript can't read a member.
struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Command, A::Error> {
        let mut command = Command::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Instruction => command.name = Some(map.next_value::<Name>()?.0),
                Key::Credential => command.credential = Some(map.next_value::<Text>()?.0),
                Key::Parameters => command.parameters = map.next_value()?,
                Key::Answer => {
                    let Text(number) = map.next_value()?;
                    command.answer = number.parse().ok().filter(|number| *number <= MAX_ANSWER);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(command)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Command, A::Error> {
        skip(seq).map(|()| Command::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Command, E> {
        Ok(Command::default())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Command, E> {
        Ok(Command::default())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Command, E> {
        Ok(Command::default())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Command, E> {
        Ok(Command::default())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Command, E> {
        Ok(Command::default())
    }
}

/// The members that mean something; all others are skipped without being kept.
enum Key {
    Instruction,
    Credential,
    Parameters,
    InstructionToAdd,
    Body,
    Package,
    Answer,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(match name {
                    "instruction" => Key::Instruction,
                    "credential" => Key::Credential,
                    "parameters" => Key::Parameters,
                    "instructionToAdd" => Key::InstructionToAdd,
                    "body" => Key::Body,
                    "package" => Key::Package,
                    "answer" => Key::Answer,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParametersVisitor)
    }
}

/// Takes any JSON value; those without parameters in them are none.
struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::InstructionToAdd => parameters.instruction_to_add = Some(map.next_value::<Text>()?.0),
                Key::Body => parameters.body = Some(map.next_value::<Text>()?.0),
                Key::Package => parameters.package = Some(map.next_value::<Text>()?.0),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(parameters)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::default();
        while parameters.positional.len() < MAX_PARAMETERS {
            match seq.next_element::<Text>()? {
                Some(Text(parameter)) => parameters.positional.push(parameter),
                None => return Ok(parameters),
            }
        }
        skip(seq).map(|()| parameters)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Parameters, E> {
        Ok(Parameters::default())
    }
}

/// A JSON value as JavaScript's `String()` shows it, but for arrays, which are shown as objects.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Text, E> {
        Ok(Text("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Text, A::Error> {
        skip(seq).map(|()| Text(OBJECT.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(OBJECT.to_owned()))
    }
}

fn skip<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Parameter;
    use super::super::json::{invocation, privileged};
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Command {
        Command::parse(text).expect(text)
    }

    #[test]
    fn each_command_of_the_tunnel_is_understood() {
        for (text, request) in [
            (r#"{"instruction":"initialize","parameters":[]}"#, Request::Initialize),
            (r#"{"instruction":"create server credential"}"#, Request::CreateServerCredential),
            (
                r#"{"instruction":"install server","parameters":[3,"secret"]}"#,
                Request::InstallServer { server: Some(3), credential: "secret" },
            ),
            (
                r#"{"instruction":"connect to server","parameters":["3","1337",{"deep":[{}]}]}"#,
                Request::ConnectToServer { server: Some(ServerId::Number(3)), port: Some(1337) },
            ),
            (
                r#"{"instruction":"forward to client","parameters":[12,"a \" b"]}"#,
                Request::ForwardToClient { channel: Some(12), data: "a \" b" },
            ),
            (
                r#"{"instruction":"forward to server","parameters":[3,"x"],"credential":"no matter"}"#,
                Request::ForwardToServer { server: Some(ServerId::Number(3)), data: "x" },
            ),
            (
                r#"{"instruction":"add instruction","parameters":{"instructionToAdd":"initialize","body":"() => 1"}}"#,
                Request::AddInstruction { name: "initialize", body: "() => 1" },
            ),
            (r#"{"instruction":"eval","parameters":{"body":"1"}}"#, Request::Eval { body: "1" }),
            (
                r#"{"instruction":"require","parameters":{"package":"ws","then":"1"}}"#,
                Request::Require { package: "ws" },
            ),
            (r#"{"instruction":"modules"}"#, Request::Modules),
            (r#"{"instruction":"format disk"}"#, Request::Unknown),
        ] {
            assert_eq!(parse(text).request(), request, "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_taken_as_javascript_takes_it() {
        let nowhere = Request::ForwardToClient { channel: None, data: UNDEFINED };
        for (parameters, request) in [
            ("[]", nowhere),
            ("{}", nowhere),
            ("null", nowhere),
            ("true", nowhere),
            ("-1.5", nowhere),
            ("\"1\"", nowhere),
            ("[null]", nowhere),
            ("[[],[]]", Request::ForwardToClient { channel: None, data: OBJECT }),
            ("[1,null]", Request::ForwardToClient { channel: Some(1), data: "null" }),
            ("[1,{\"a\":{}}]", Request::ForwardToClient { channel: Some(1), data: OBJECT }),
            ("[\"1\",2.5]", Request::ForwardToClient { channel: Some(1), data: "2.5" }),
            ("[1.0,false,3,4,5,6,[7]]", Request::ForwardToClient { channel: Some(1), data: "false" }),
            ("[\"01\",1]", Request::ForwardToClient { channel: None, data: "1" }),
            ("[\"+1\",-7]", Request::ForwardToClient { channel: None, data: "-7" }),
            ("[4294967296]", nowhere),
        ] {
            let text = format!("{{\"instruction\":\"forward to client\",\"parameters\":{parameters}}}");
            assert_eq!(parse(&text).request(), request, "{text}");
        }
        assert_eq!(
            parse(r#"{"instruction":"connect to server","parameters":[1,65536]}"#).request(),
            Request::ConnectToServer { server: Some(ServerId::Number(1)), port: None }
        );
        assert_eq!(
            parse(r#"{"instruction":"add instruction","parameters":["x"]}"#).request(),
            Request::AddInstruction { name: UNDEFINED, body: UNDEFINED }
        );
    }

    #[test]
    fn a_value_without_an_instruction_is_the_instruction_undefined() {
        for text in ["{}", "[]", "[{\"instruction\":\"modules\"}]", "1", "-1", "1e3", "true", "\"modules\""] {
            let command = parse(text);
            assert_eq!(command.name(), "undefined", "{text}");
            assert_eq!(command.request(), Request::Unknown, "{text}");
        }
        assert_eq!(parse(r#"{"instruction":null}"#).name(), "null");
        assert_eq!(parse(r#"{"instruction":5}"#).name(), "5");
        assert_eq!(parse(r#"{"instruction":["a"]}"#).name(), "a");
        assert_eq!(parse(r#"{"instruction":["a",[null,[1]],{},true]}"#).name(), "a,,1,[object Object],true");
        assert_eq!(parse(r#"{"instruction":"a","instruction":"b"}"#).name(), "b");
    }

    #[test]
    fn what_is_no_command_is_an_error() {
        let deep = "[".repeat(100_000);
        let nested = format!("{{\"parameters\":{deep}");
        let long = format!("\"{}\"", "a".repeat(MAX_COMMAND));
        for text in
            ["", "null", " null ", "hello", "{", "{}{}", "{\"a\"}", "\"\\ud800\"", &deep, &nested, &long]
        {
            assert_eq!(Command::parse(text), Err(MalformedCommand), "{text:.40}");
        }
    }

    #[test]
    fn only_the_right_credential_is_the_right_one() {
        let command = parse(r#"{"instruction":"eval","credential":"secret"}"#);
        assert!(command.has_credential("secret"));
        for wrong in ["", "secre", "secret ", "Secret"] {
            assert!(!command.has_credential(wrong), "{wrong:?}");
        }
        assert!(!parse(r#"{"instruction":"eval"}"#).has_credential(""));
        assert!(!parse(r#"{"instruction":"eval"}"#).has_credential(UNDEFINED));
        assert!(parse(r#"{"credential":7}"#).has_credential("7"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_an_error(text in "\\PC*|[\\[\\]{}:,\"0-9a-z.\\\\-]{0,60}") {
            if let Ok(command) = Command::parse(&text) {
                let _ = (command.name(), command.request());
            }
        }

        #[test]
        fn what_a_client_writes_a_relay_reads(channel: u32, data in "(?s:.*)") {
            let text = invocation("forward to client", &[Parameter::Number(channel), Parameter::Text(&data)]);
            let command = parse(&text);
            prop_assert_eq!(
                command.request(),
                Request::ForwardToClient { channel: Some(channel), data: data.as_str() }
            );
        }

        #[test]
        fn what_a_configurer_writes_a_relay_reads(name in "(?s:.*)", body in "(?s:.*)", secret in "(?s:.*)") {
            let text = privileged(
                "add instruction",
                &[("instructionToAdd", &name), ("body", &body)],
                &secret,
            );
            let command = parse(&text);
            prop_assert!(command.has_credential(&secret));
            let expected = Request::AddInstruction { name: &name, body: &body };
            prop_assert_eq!(command.request(), expected);
        }
    }
}
