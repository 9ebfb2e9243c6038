//! The Rust half of the clients in `js/clients.js`: the livecode dialect as a client speaks it, and what a configurer injects.

use serde::Serialize;
use std::cell::RefCell;
use tunnel_protocol::ServerId;
use tunnel_protocol::livecode::{
    Answer, CallId, DELIMITER, Instruction, Line, LivecodeClient, LivecodeEvent, Parameter,
};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// One WebSocket, and what its `LivecodeCore` tells it.
    #[derive(Debug)]
    pub type Connection;

    #[wasm_bindgen(method)]
    fn log(this: &Connection, line: &str);
    #[wasm_bindgen(method)]
    fn returned(this: &Connection, call: f64, answer: &JsValue);
    #[wasm_bindgen(method)]
    fn failed(this: &Connection, call: f64, rejected: bool);
    #[wasm_bindgen(method)]
    fn connected(this: &Connection, members: &JsValue);
    #[wasm_bindgen(method)]
    fn data(this: &Connection, from: &JsValue, data: &str);
    #[wasm_bindgen(method)]
    fn text(this: &Connection, text: &str);
}

#[wasm_bindgen(module = "/js/clients.js")]
extern "C" {
    /// Never called, as those below: `reexport` puts the class or function on the module's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = Client, reexport)]
    fn client_class();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = prepare, reexport)]
    fn prepare();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = isDead, reexport)]
    fn is_dead();
}

/// The answer to a call, as `LivecodeAnswer` in `js/livecode.d.ts` describes it.
#[derive(Serialize)]
struct Returned {
    sent: Vec<String>,
    returned: String,
}

/// The members of a `connected` event.
#[derive(Serialize)]
struct Connected {
    channel: u32,
    port: u16,
    address: String,
}

/// A value as JavaScript sees it. Structures of numbers and texts always have one.
fn to_js(value: &impl Serialize) -> JsValue {
    serde_wasm_bindgen::to_value(value).unwrap_or(JsValue::UNDEFINED)
}

/// One connection to a livecoding server: commands in, texts out, news to its `Connection`.
///
/// Commands return their number, under which the connection hears of the answer.
#[wasm_bindgen]
#[derive(Debug)]
pub struct LivecodeCore {
    client: RefCell<LivecodeClient>,
}

impl LivecodeCore {
    fn call(&self, command: impl FnOnce(&mut LivecodeClient) -> CallId) -> f64 {
        number(command(&mut self.client.borrow_mut()))
    }
}

fn number(call: CallId) -> f64 {
    call.number() as f64
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl LivecodeCore {
    /// Nothing has been said yet.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "for JavaScript")]
    pub fn new() -> Self {
        Self { client: RefCell::new(LivecodeClient::with_log()) }
    }

    /// Takes in one text message; returns what is wrong with it, if something is.
    #[wasm_bindgen(js_name = handleText)]
    pub fn handle_text(&self, text: &str, connection: &Connection) -> Option<String> {
        let result = self.client.borrow_mut().handle_text(text);
        loop {
            // Listeners may give commands: hold no borrow while one runs.
            let event = self.client.borrow_mut().poll_event();
            let Some(event) = event else { break };
            dispatch(event, connection);
        }
        result.err().map(|error| error.to_string())
    }

    /// The next message to send.
    #[wasm_bindgen(js_name = pollTransmit)]
    pub fn poll_transmit(&self) -> Option<String> {
        self.client.borrow_mut().poll_transmit()
    }

    /// Runs an added instruction. The parameters are an array of texts, each of them JSON; anything else is an error.
    pub fn invoke(&self, name: &str, parameters: JsValue) -> Result<f64, JsValue> {
        let parameters: Vec<String> = serde_wasm_bindgen::from_value(parameters)?;
        let parameters: Vec<_> = parameters.iter().map(|json| Parameter::Json(json)).collect();
        Ok(self.call(|client| client.invoke(name, &parameters)))
    }

    /// Has each answer end with a line that has its number.
    #[wasm_bindgen(js_name = numberAnswers)]
    pub fn number_answers(&self) {
        self.client.borrow_mut().number_answers();
    }

    /// Gives a privileged command that a server of 2017 does not have. The parameters are an object as JSON.
    pub fn manage(&self, name: &str, parameters: &str, credential: &str) -> f64 {
        self.call(|client| client.manage(name, parameters, credential))
    }

    /// Adds an instruction.
    #[wasm_bindgen(js_name = addInstruction)]
    pub fn add_instruction(&self, name: &str, source: &str, credential: &str) -> f64 {
        self.call(|client| client.add_instruction(name, source, credential))
    }

    /// Evaluates source.
    pub fn eval(&self, source: &str, credential: &str) -> f64 {
        self.call(|client| client.eval(source, credential))
    }

    /// Installs a package.
    pub fn require(&self, package: &str, then: &str, credential: &str) -> f64 {
        self.call(|client| client.require(package, then, credential))
    }

    /// Lists the modules.
    pub fn modules(&self, credential: &str) -> f64 {
        self.call(|client| client.modules(credential))
    }

    /// Adds the tunnel's instructions. The first one is run before the others are added: it makes what they need.
    #[wasm_bindgen(js_name = addTunnel)]
    pub fn add_tunnel(&self, credential: &str) -> Vec<f64> {
        let client = &mut *self.client.borrow_mut();
        let mut calls = Vec::new();
        for instruction in Instruction::ALL {
            calls.push(number(client.add_instruction(instruction.name(), instruction.source(), credential)));
            if instruction == Instruction::Initialize {
                calls.push(number(client.invoke(instruction.name(), &[Parameter::Text(DELIMITER)])));
            }
        }
        calls
    }

    /// Takes `"<serverID> <credential>"` apart; undefined if it is something else.
    #[wasm_bindgen(js_name = splitCredential)]
    pub fn split_credential(&self, text: &str) -> Option<Vec<String>> {
        Line::parse_server_credential(text)
            .map(|(id, credential)| vec![id.to_string(), credential.to_owned()])
    }
}

fn dispatch(event: LivecodeEvent, connection: &Connection) {
    match event {
        LivecodeEvent::Log(line) => connection.log(&line),
        LivecodeEvent::Answered { call, answer: Answer::Returned { sent, returned } } => {
            connection.returned(number(call), &to_js(&Returned { sent, returned }));
        }
        LivecodeEvent::Answered { call, answer } => {
            connection.failed(number(call), answer == Answer::Rejected)
        }
        LivecodeEvent::Connected { channel, port, address } => {
            connection.connected(&to_js(&Connected { channel, port, address }));
        }
        LivecodeEvent::Data { from: ServerId::Number(from), data } => connection.data(&from.into(), &data),
        LivecodeEvent::Data { from, data } => connection.data(&from.to_string().into(), &data),
        LivecodeEvent::Text(text) => connection.text(&text),
        _ => {}
    }
}
