//! The livecode dialect, which another WebAssembly module speaks. The driver loads it when a relay turns out to speak it.

use bytes::Bytes;
use tunnel_protocol::endpoint::Translator;
use tunnel_protocol::frame::ChannelId;
use tunnel_protocol::link::{LinkError, LinkEvent};
use tunnel_protocol::livecode::{LinkCommand, decode_link_event};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{CloseCode, Instant};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/livecode.js")]
extern "C" {
    /// A `LivecodeLinkCore` of the crate `tunnel-livecode`, which documents its methods.
    #[wasm_bindgen(js_name = Object)]
    type LinkCore;

    #[wasm_bindgen(method)]
    fn ask(this: &LinkCore, command: u8, first: u32, second: f64, data: &[u8]) -> Vec<u8>;

    /// Loads the other module if need be, and makes a core for a link. Rejects with a `TunnelError`.
    #[wasm_bindgen(js_name = openLivecodeLink, catch)]
    async fn open_livecode_link() -> Result<JsValue, JsValue>;

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

/// Speaks the dialect on a link. An error says why nothing does.
pub(crate) async fn translator() -> Result<Box<dyn Translator>, String> {
    match open_livecode_link().await {
        Ok(core) => Ok(Box::new(LivecodeLink(core.unchecked_into()))),
        Err(error) => Err(error.unchecked_into::<js_sys::Error>().message().into()),
    }
}

/// The other module's half of a link.
struct LivecodeLink(LinkCore);

impl LivecodeLink {
    fn ask(&self, command: LinkCommand, first: u32, second: f64, data: &[u8]) -> Vec<u8> {
        self.0.ask(command as u8, first, second, data)
    }

    fn ask_text(&self, command: LinkCommand, now: f64) -> String {
        String::from_utf8(self.ask(command, 0, now, &[])).unwrap_or_default()
    }
}

impl Translator for LivecodeLink {
    fn register(&mut self, key: PublicKey, installation: &str) {
        self.ask(LinkCommand::Register, 0, 0.0, &[&key.0, installation.as_bytes()].concat());
    }

    fn installation(&self) -> String {
        self.ask_text(LinkCommand::Installation, 0.0)
    }

    fn connect(&mut self, number: u32, port: u16) -> ChannelId {
        let channel = self.ask(LinkCommand::Connect, number, port.into(), &[]);
        ChannelId(channel.try_into().map_or(0, u32::from_be_bytes))
    }

    fn initiate(&mut self, channel: ChannelId, message: Bytes) {
        self.ask(LinkCommand::Initiate, channel.0, 0.0, &message);
    }

    fn respond(&mut self, channel: ChannelId, message: Bytes) {
        self.ask(LinkCommand::Respond, channel.0, 0.0, &message);
    }

    fn send_record(&mut self, channel: ChannelId, record: Bytes) {
        self.ask(LinkCommand::SendRecord, channel.0, 0.0, &record);
    }

    fn send_plain(&mut self, channel: ChannelId, text: &str) {
        self.ask(LinkCommand::SendPlain, channel.0, 0.0, text.as_bytes());
    }

    fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        self.ask(LinkCommand::Close, channel.0, code.0.into(), reason.as_bytes());
    }

    fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), LinkError> {
        result(self.ask(LinkCommand::HandleText, 0, micros(now), text.as_bytes()))
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        result(self.ask(LinkCommand::HandleTimeout, 0, micros(now), &[]))
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        Some(self.ask_text(LinkCommand::PollTransmit, micros(now))).filter(|text| !text.is_empty())
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        // Nothing, which is no event, is what there is most of the time.
        decode_link_event(self.ask(LinkCommand::PollEvent, 0, 0.0, &[]).into())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let at = self.ask(LinkCommand::PollTimeout, 0, 0.0, &[]).try_into().ok()?;
        Some(Instant::from_micros(u64::from_be_bytes(at)))
    }

    fn may_send(&mut self, channel: ChannelId) -> bool {
        !self.ask(LinkCommand::MaySend, channel.0, 0.0, &[]).is_empty()
    }
}

fn micros(now: Instant) -> f64 {
    now.as_micros() as f64
}

/// A problem is a close code and words.
fn result(problem: Vec<u8>) -> Result<(), LinkError> {
    let Some((code, reason)) = problem.split_first_chunk() else { return Ok(()) };
    let reason = String::from_utf8(reason.to_vec()).unwrap_or_default();
    Err(LinkError::Livecode { code: CloseCode(u16::from_be_bytes(*code)), reason })
}
