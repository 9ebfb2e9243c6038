//! The livecode dialect, which another WebAssembly module speaks: loaded when a relay turns out to.

use bytes::Bytes;
use tunnel_protocol::endpoint::Translator;
use tunnel_protocol::frame::ChannelId;
use tunnel_protocol::link::{LinkError, LinkEvent};
use tunnel_protocol::livecode::{Installation, Line, decode_link_event};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{CloseCode, Instant};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    /// A `LivecodeLinkCore` of the crate `tunnel-livecode`, which documents its methods.
    #[wasm_bindgen(js_name = Object)]
    #[derive(Debug)]
    pub(crate) type LinkCore;

    #[wasm_bindgen(method)]
    fn register(this: &LinkCore, key: &[u8], installation: &str);
    #[wasm_bindgen(method)]
    fn installation(this: &LinkCore) -> String;
    #[wasm_bindgen(method)]
    fn connect(this: &LinkCore, number: u32, port: u16) -> u32;
    #[wasm_bindgen(method)]
    fn initiate(this: &LinkCore, channel: u32, message: &[u8]);
    #[wasm_bindgen(method)]
    fn respond(this: &LinkCore, channel: u32, message: &[u8]);
    #[wasm_bindgen(method, js_name = sendRecord)]
    fn send_record(this: &LinkCore, channel: u32, record: &[u8]);
    #[wasm_bindgen(method, js_name = sendPlain)]
    fn send_plain(this: &LinkCore, channel: u32, text: &str);
    #[wasm_bindgen(method)]
    fn close(this: &LinkCore, channel: u32, code: u16, reason: &str);
    #[wasm_bindgen(method, js_name = handleText)]
    fn handle_text(this: &LinkCore, text: &str, now: f64) -> Option<String>;
    #[wasm_bindgen(method, js_name = handleTimeout)]
    fn handle_timeout(this: &LinkCore, now: f64) -> Option<String>;
    #[wasm_bindgen(method, js_name = pollTransmit)]
    fn poll_transmit(this: &LinkCore, now: f64) -> Option<String>;
    #[wasm_bindgen(method, js_name = pollEvent)]
    fn poll_event(this: &LinkCore) -> Option<Vec<u8>>;
    #[wasm_bindgen(method, js_name = pollTimeout)]
    fn poll_timeout(this: &LinkCore) -> Option<f64>;
    #[wasm_bindgen(method, js_name = maySend)]
    fn may_send(this: &LinkCore, channel: u32) -> bool;

    /// Loads the other module if need be; the driver of this number hears later of a new core for its link, or that the
    /// link has closed.
    #[wasm_bindgen(js_name = openLivecodeLink)]
    pub(crate) fn open_livecode_link(driver: f64, link: f64);

    /// Never called, as those below: `reexport` puts the class or function on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = NodeJSLivecodingClient, reexport, skip_typescript)]
    fn livecoding_client_class();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = NodeJSTunnelingClient, reexport, skip_typescript)]
    fn tunneling_client_class();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = ForwardingWebSocket, reexport, skip_typescript)]
    fn forwarding_web_socket_class();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = ForwardingClientWebSocket, reexport, skip_typescript)]
    fn forwarding_client_web_socket_class();
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = useLivecode, reexport, skip_typescript)]
    fn use_livecode();
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("../js/livecode.d.ts");

/// Who speaks the dialect on a link.
pub(crate) fn translator(core: LinkCore) -> Box<dyn Translator> {
    Box::new(LivecodeLink(core))
}

/// The other module's half of a link.
#[derive(Debug)]
struct LivecodeLink(LinkCore);

impl Translator for LivecodeLink {
    fn register(&mut self, key: PublicKey, installation: Option<Installation>) {
        let installation = installation.map_or_else(String::new, |installation| {
            Line::server_credential(installation.number, &installation.credential)
        });
        self.0.register(&key.0, &installation);
    }

    fn installation(&self) -> Option<Installation> {
        let text = self.0.installation();
        let (number, credential) = Line::parse_server_credential(&text)?;
        Some(Installation { number, credential: credential.to_owned() })
    }

    fn connect(&mut self, number: u32, port: u16) -> ChannelId {
        ChannelId(self.0.connect(number, port))
    }

    fn initiate(&mut self, channel: ChannelId, message: Bytes) {
        self.0.initiate(channel.0, &message);
    }

    fn respond(&mut self, channel: ChannelId, message: Bytes) {
        self.0.respond(channel.0, &message);
    }

    fn send_record(&mut self, channel: ChannelId, record: Bytes) {
        self.0.send_record(channel.0, &record);
    }

    fn send_plain(&mut self, channel: ChannelId, text: &str) {
        self.0.send_plain(channel.0, text);
    }

    fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        self.0.close(channel.0, code.0, reason);
    }

    fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), LinkError> {
        result(self.0.handle_text(text, micros(now)))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        result(self.0.handle_timeout(micros(now)))
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        self.0.poll_transmit(micros(now))
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        decode_link_event(Bytes::from(self.0.poll_event()?)).ok()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout().map(|micros| Instant::from_micros(micros as u64))
    }

    fn may_send(&mut self, channel: ChannelId) -> bool {
        self.0.may_send(channel.0)
    }
}

fn micros(now: Instant) -> f64 {
    now.as_micros() as f64
}

/// A problem is a close code, a space, and words.
fn result(problem: Option<String>) -> Result<(), LinkError> {
    let Some(problem) = problem else { return Ok(()) };
    let (code, reason) = problem.split_once(' ').unwrap_or_default();
    let code = code.parse().map_or(CloseCode::PROTOCOL_ERROR, CloseCode);
    Err(LinkError::Livecode { code, reason: reason.to_owned() })
}
