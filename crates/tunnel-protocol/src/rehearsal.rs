//! A first connection before the first connection: a relay between a page and itself.
//!
//! Engines compile code function by function, when each is called first, and run the first result slowly. A page that
//! connects to itself when it has nothing else to do has that behind it when it matters, on either side.

use crate::ServerId;
use crate::frame::{ChannelId, Frame, Welcome};
use crate::identity::StaticKey;
use crate::time::Duration;
use bytes::Bytes;

/// The client's channel on its link, and the server's on its own.
const CLIENTS: ChannelId = ChannelId(1);
const SERVERS: ChannelId = ChannelId(2);

/// What a relay says to a frame of the one server or the one client that it has, and whether it is the answer to the
/// sender; else it is for the other.
#[must_use]
pub fn relay(frame: Bytes) -> Option<(bool, Bytes)> {
    let (is_answer, frame) = match Frame::decode(frame).ok()?? {
        Frame::Hello { max_version, .. } => (true, welcome(max_version)),
        Frame::Register { key, .. } => (true, Frame::Registered { server_id: ServerId::Key(key) }),
        Frame::Connect { port, kind, payload, .. } => {
            (false, Frame::Incoming { channel: SERVERS, port, kind, address: String::new(), payload })
        }
        Frame::Accept { payload, .. } => (false, Frame::Accept { channel: CLIENTS, payload }),
        Frame::Data { channel, payload } => (false, Frame::Data { channel: other(channel), payload }),
        Frame::Close { channel, code, reason } => {
            (false, Frame::Close { channel: other(channel), code, reason })
        }
        _ => return None,
    };
    Some((is_answer, frame.encode()))
}

fn other(channel: ChannelId) -> ChannelId {
    if channel == CLIENTS { SERVERS } else { CLIENTS }
}

fn welcome(version: u16) -> Frame {
    Frame::Welcome(Box::new(Welcome {
        version,
        features: 0,
        max_frame: crate::frame::DEFAULT_MAX_FRAME,
        max_channels: 1,
        channel_buffer: 0,
        idle_timeout: Duration::from_secs(1),
        // Nobody checks what is proven against it.
        challenge: StaticKey::from_secret([1; 32]).public(),
        address: String::new(),
        node: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close::CloseCode;
    use crate::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage};
    use crate::{Instant, Message};

    const LINK: LinkId = LinkId(0);

    /// Has the relay carry what one says. Whether there was anything.
    fn carry(from: &mut Endpoint, to: &mut Endpoint, now: Instant) -> bool {
        let mut any = false;
        while let Some(message) = from.poll_transmit(LINK, now) {
            any = true;
            let LinkMessage::Binary(frame) = message else { continue };
            let Some((is_answer, frame)) = relay(frame) else { continue };
            let receiver = if is_answer { &mut *from } else { &mut *to };
            receiver.handle_message(LINK, LinkMessage::Binary(frame), now);
        }
        any
    }

    #[test]
    fn server_and_client_meet_and_part_in_order() {
        let now = Instant::default();
        let [mut server, mut client] = [[7; 32], [8; 32]].map(|seed| Endpoint::new(Config::default(), seed));
        let key = StaticKey::from_secret([9; 32]);
        let id = ServerId::Key(key.public());
        server.host(key, now);
        server.handle_link_opened(LINK, now);
        let (mut socket, mut end) = (None, None);
        while end.is_none() {
            let mut moved = carry(&mut server, &mut client, now) | carry(&mut client, &mut server, now);
            while let Some(event) = server.poll_event() {
                match event {
                    Event::Hosting { .. } => {
                        socket = Some(client.connect(id, 0, ConnectOptions::default(), now));
                        client.handle_link_opened(LINK, now);
                    }
                    Event::Offer { socket, .. } => server.accept(socket, "", now),
                    Event::Message { socket, message } => server.send(socket, message).unwrap(),
                    _ => {}
                }
                moved = true;
            }
            while let Some(event) = client.poll_event() {
                let socket = socket.unwrap();
                match event {
                    Event::Opened { .. } => client.send(socket, Message::Text("echo".into())).unwrap(),
                    Event::Message { message, .. } => {
                        assert_eq!(message, Message::Text("echo".into()));
                        client.close(socket, Some(CloseCode::NORMAL), "", now);
                    }
                    Event::Closed { was_clean, .. } => end = Some(was_clean),
                    _ => {}
                }
                moved = true;
            }
            assert!(moved, "nothing moves any more");
        }
        assert_eq!(end, Some(true));
    }
}
