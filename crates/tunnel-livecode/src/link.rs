//! One link through a relay that speaks the dialect. The main module calls it through its `Translator`.

use bytes::Bytes;
use std::cell::RefCell;
use tunnel_protocol::endpoint::Translator;
use tunnel_protocol::frame::ChannelId;
use tunnel_protocol::link::LinkError;
use tunnel_protocol::livecode::{LinkCommand, LivecodeLink, encode_link_event};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{CloseCode, Instant};
use wasm_bindgen::prelude::*;

/// Protocol state of one WebSocket to a livecoding relay.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct LivecodeLinkCore {
    link: RefCell<LivecodeLink>,
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl LivecodeLinkCore {
    /// The relay has turned out to speak the dialect.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Obeys a [`LinkCommand`], which says what the numbers and the bytes are; the answer is empty if there is none.
    pub fn ask(&self, command: u8, first: u32, second: f64, data: &[u8]) -> Vec<u8> {
        let Some(command) = LinkCommand::numbered(command) else { return Vec::new() };
        answer(&mut self.link.borrow_mut(), command, first, second, data)
    }
}

fn answer(link: &mut LivecodeLink, command: LinkCommand, first: u32, second: f64, data: &[u8]) -> Vec<u8> {
    let (channel, now) = (ChannelId(first), Instant::from_micros(second as u64));
    let bytes = || Bytes::copy_from_slice(data);
    let text = || String::from_utf8_lossy(data);
    match command {
        LinkCommand::Register => {
            if let Some((key, installation)) = data.split_first_chunk() {
                link.register(PublicKey(*key), &String::from_utf8_lossy(installation));
            }
        }
        LinkCommand::Installation => return link.installation().into(),
        LinkCommand::Connect => return link.connect(first, second as u16).0.to_be_bytes().into(),
        LinkCommand::Initiate => link.initiate(channel, bytes()),
        LinkCommand::Respond => link.respond(channel, bytes()),
        LinkCommand::SendRecord => link.send_record(channel, bytes()),
        LinkCommand::SendPlain => link.send_plain(channel, &text()),
        LinkCommand::Close => link.close(channel, CloseCode(second as u16), &text()),
        LinkCommand::HandleText => return problem(link.handle_text(&text(), now)),
        LinkCommand::HandleTimeout => return problem(link.handle_timeout(now)),
        LinkCommand::PollTransmit => return link.poll_transmit(now).unwrap_or_default().into(),
        LinkCommand::PollEvent => {
            let mut events = std::iter::from_fn(|| link.poll_event());
            return events.find_map(|event| encode_link_event(&event)).unwrap_or_default();
        }
        LinkCommand::PollTimeout => {
            return link.poll_timeout().map_or_else(Vec::new, |at| at.as_micros().to_be_bytes().into());
        }
        LinkCommand::MaySend => return vec![1; usize::from(link.may_send(channel))],
    }
    Vec::new()
}

fn problem(result: Result<(), LinkError>) -> Vec<u8> {
    result.err().map_or_else(Vec::new, |error| {
        let mut problem = Vec::from(error.code().0.to_be_bytes());
        problem.extend(error.to_string().as_bytes());
        problem
    })
}
