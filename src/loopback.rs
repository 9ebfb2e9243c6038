//! A relay inside the page, for `browser/warm_up.rs`: it answers the one server and the one client that it has.

use bytes::{BufMut, Bytes, BytesMut};
use tunnel_protocol::ServerId;
use tunnel_protocol::codec::{Reader, put_str8};
use tunnel_protocol::frame::{
    ACCEPT, CLOSE, CONNECT, ChannelId, DATA, HELLO, INCOMING, REGISTER, REGISTERED, restamp,
};
use tunnel_protocol::server_id::PublicKey;

/// The client's channel on its link, and the server's on its own.
const CLIENTS: ChannelId = ChannelId(1);
const SERVERS: ChannelId = ChannelId(2);

/// The answer to HELLO: version 1, frames of 64 KiB, one channel, silence for 1 s. Nobody checks what is proven
/// against its challenge.
const WELCOME: &[u8] = b"\x82\0\0\0\0\
    \0\x01\0\0\0\0\0\x01\0\0\0\0\0\x01\0\0\0\0\0\0\x03\xe8\
    \x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0";

/// Returns what a relay sends after a frame of its one server or its one client, and whether that goes back to the sender; if not,
/// it goes to the other.
///
/// It changes bytes where a relay reads and writes frames, so that a page needs no code for what only relays do.
pub(crate) fn answer(frame: Bytes) -> Option<(bool, Bytes)> {
    let mut reader = Reader::new(frame.clone());
    let (kind, channel) = (reader.u8("type"), ChannelId(reader.u32("channel")));
    if kind == HELLO {
        return Some((true, Bytes::from_static(WELCOME)));
    }
    let mut said = BytesMut::new();
    match kind {
        REGISTER => {
            said.put_slice(&[REGISTERED, 0, 0, 0, 0]);
            put_str8(&mut said, &ServerId::Key(PublicKey(reader.array("key"))).to_string());
            return Some((true, said.freeze()));
        }
        CONNECT => {
            reader.str8("server_id");
            said.put_slice(&[INCOMING, 0, 0, 0, 0]);
            said.put_slice(&reader.bytes(3, "port and kind"));
            // The client's address.
            said.put_u8(0);
            said.put_slice(&reader.rest());
        }
        ACCEPT | DATA | CLOSE => said.put_slice(&frame),
        _ => return None,
    }
    restamp(&mut said, if channel == CLIENTS { SERVERS } else { CLIENTS });
    Some((false, said.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage};
    use tunnel_protocol::identity::StaticKey;
    use tunnel_protocol::time::Duration;
    use tunnel_protocol::{CloseCode, Frame, Instant, Message};

    const LINK: LinkId = LinkId(0);

    #[test]
    fn the_answer_to_hello_is_a_welcome_without_limits_that_a_warm_up_would_meet() {
        let Ok(Some(Frame::Welcome(welcome))) = Frame::decode(Bytes::from_static(WELCOME)) else {
            panic!("no WELCOME")
        };
        assert_eq!((welcome.version, welcome.features), (tunnel_protocol::VERSION, 0));
        assert_eq!(welcome.max_frame, tunnel_protocol::frame::DEFAULT_MAX_FRAME);
        assert_eq!((welcome.max_channels, welcome.idle_timeout), (1, Duration::from_secs(1)));
    }

    /// Has the relay carry what one says. Whether there was anything.
    fn carry(from: &mut Endpoint, to: &mut Endpoint, now: Instant) -> bool {
        let mut any = false;
        while let Some(message) = from.poll_transmit(LINK, now) {
            any = true;
            let LinkMessage::Binary(frame) = message else { continue };
            let Some((is_answer, frame)) = answer(frame) else { continue };
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
        server.handle_link_opened(LINK, false, now);
        let (mut socket, mut end) = (None, None);
        while end.is_none() {
            let mut moved = carry(&mut server, &mut client, now) | carry(&mut client, &mut server, now);
            while let Some(event) = server.poll_event() {
                match event {
                    Event::Hosting { .. } => {
                        socket = Some(client.connect(id, 0, ConnectOptions::default(), now));
                        client.handle_link_opened(LINK, false, now);
                    }
                    Event::Incoming { socket, .. } => server.accept(socket, "", now),
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
