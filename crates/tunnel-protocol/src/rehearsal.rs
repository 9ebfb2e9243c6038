//! A first connection before the first connection.

use crate::close::CloseCode;
use crate::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage};
use crate::entropy::Entropy;
use crate::frame::{ChannelId, Frame, Welcome};
use crate::identity::StaticKey;
use crate::server_id::PublicKey;
use crate::time::Duration;
use crate::{Instant, Message, ServerId};
use bytes::Bytes;

/// The first link that an endpoint asks for.
const LINK: LinkId = LinkId(0);

/// The client's channel on its link, and the server's on its own.
const CLIENTS: ChannelId = ChannelId(1);
const SERVERS: ChannelId = ChannelId(2);

/// A server and a client meet in memory and exchange one message each way; whether all of that went as it should.
///
/// Engines compile WebAssembly function by function, when each is called first, and run the first result slowly. A page
/// that rehearses when it has nothing else to do has that behind it when it matters, on either side.
#[must_use]
pub fn rehearse(seed: [u8; 32]) -> bool {
    let mut entropy = Entropy::new(seed);
    let now = Instant::default();
    let [mut server, mut client] =
        [entropy.bytes(), entropy.bytes()].map(|seed| Endpoint::new(Config::default(), seed));
    let key = StaticKey::from_secret(entropy.bytes());
    let socket = client.connect(ServerId::Key(key.public()), 0, ConnectOptions::default(), now);
    client.prepare(now);
    server.host(key, now);
    server.handle_link_opened(LINK, now);
    client.handle_link_opened(LINK, now);
    loop {
        let mut moved = forward(&mut server, &mut client, CLIENTS, now);
        moved |= forward(&mut client, &mut server, SERVERS, now);
        while let Some(event) = server.poll_event() {
            match event {
                Event::Offer { socket, .. } => server.accept(socket, "", now),
                Event::Message { socket, message } => {
                    server.consume(socket, message.len(), now);
                    // Nothing is lost if it does not arrive: this is a rehearsal, and says how it went.
                    let _ = server.send(socket, message);
                }
                _ => {}
            }
            moved = true;
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Opened { .. } => {
                    let _ = client.send(socket, Message::Binary(Bytes::from_static(b"echo")));
                }
                Event::Message { message, .. } => {
                    client.consume(socket, message.len(), now);
                    client.close(socket, Some(CloseCode::NORMAL), "", now);
                }
                Event::Closed { was_clean, .. } => return was_clean,
                _ => {}
            }
            moved = true;
        }
        if !moved {
            return false;
        }
    }
}

/// The relay's part: hands what one side says to the other, whose channel is `channel`. Whether there was anything.
fn forward(from: &mut Endpoint, to: &mut Endpoint, channel: ChannelId, now: Instant) -> bool {
    let mut any = false;
    while let Some(message) = from.poll_transmit(LINK, now) {
        any = true;
        let LinkMessage::Binary(message) = message else { continue };
        let Ok(Some(frame)) = Frame::decode(message) else { continue };
        let frame = match frame {
            Frame::Hello { max_version, .. } => {
                let welcome = LinkMessage::Binary(welcome(max_version).encode());
                from.handle_message(LINK, welcome, now);
                continue;
            }
            Frame::Connect { port, kind, payload, .. } => {
                Frame::Incoming { channel, port, kind, address: String::new(), payload }
            }
            Frame::Accept { payload, .. } => Frame::Accept { channel, payload },
            Frame::Data { payload, .. } => Frame::Data { channel, payload },
            _ => continue,
        };
        to.handle_message(LINK, LinkMessage::Binary(frame.encode()), now);
    }
    any
}

fn welcome(version: u16) -> Frame {
    Frame::Welcome(Box::new(Welcome {
        version,
        features: 0,
        max_frame: crate::frame::DEFAULT_MAX_FRAME,
        max_channels: 1,
        channel_buffer: 0,
        idle_timeout: Duration::from_secs(1),
        // Of low order: nobody registers with it.
        challenge: PublicKey([0; 32]),
        address: String::new(),
        node: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn server_and_client_meet_and_part_in_order() {
        assert!(super::rehearse([7; 32]));
    }
}
