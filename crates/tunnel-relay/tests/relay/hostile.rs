//! Peers that break off, break rules or mean harm: what they get, and that the others notice nothing.

use crate::support::{
    Peer, Received, accept, code, connect, data, get, raw_frame, relay, relay_with, until, within,
};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tunnel_protocol::{ChannelId, CloseCode, Frame};
use tunnel_relay::Relay;

/// First bytes of WebSocket frames.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const BINARY_TO_BE_CONTINUED: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// Checks that a pair that was there before is still served.
async fn assert_served((client, server): &mut (Peer, Peer)) {
    client.send(data(1, "all is well")).await;
    assert_eq!(server.frame().await, data(2, "all is well"));
}

/// Numbers that look random and are the same on every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
}

#[tokio::test]
async fn a_peer_that_is_killed_under_traffic_is_announced_to_the_other() {
    let relay = relay().await;
    for server_dies in [true, false] {
        let (client, server) = Peer::pair(&relay).await;
        let (mut survivor, mut victim, channel) =
            if server_dies { (client, server, 2) } else { (server, client, 1) };
        for number in 0..100 {
            victim.send(data(channel, vec![number; 10_000])).await;
        }
        victim.reset();
        // Messages that were received before the end are delivered before it.
        loop {
            match survivor.frame().await {
                Frame::Data { .. } => {}
                end => {
                    assert_eq!(code(&end), CloseCode::PEER_GONE);
                    break;
                }
            }
        }
        drop(survivor);
        until("nothing is left", || relay.stats().links == 0 && relay.stats().buffered == 0).await;
    }
}

#[tokio::test]
async fn a_tab_that_closes_is_announced_before_its_socket_is_closed() {
    // So that nothing but the close frame ends the link.
    let relay = relay_with(|config| {
        config.close_timeout = Duration::from_secs(3_600);
        config.idle_timeout = Duration::from_secs(3_600);
    })
    .await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    server.write_raw(&raw_frame(CLOSE, 2, &1001_u16.to_be_bytes())).await;
    assert_eq!(code(&client.frame().await), CloseCode::PEER_GONE);
    assert_eq!(server.closed().await, CloseCode::GOING_AWAY);
    assert_eq!(relay.stats().registrations, 0);
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_close_frame_is_announced_too() {
    let relay = relay().await;
    let (client, mut server) = Peer::pair(&relay).await;
    drop(client);
    assert_eq!(code(&server.frame().await), CloseCode::PEER_GONE);
    assert_eq!(server.fence().await, []);
}

#[tokio::test]
async fn a_sender_is_paused_while_its_receiver_does_not_read_and_nothing_is_lost() {
    let relay = relay().await;
    let mut other = two_more(&relay).await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let mut sent = 0_u32;
    let paused = loop {
        assert!(sent < 10_000, "600 MB went where nobody reads");
        let mut payload = vec![0; 50_000];
        payload[..4].copy_from_slice(&sent.to_be_bytes());
        client.send(data(1, payload)).await;
        sent += 1;
        let frames = client.fence().await;
        if !frames.is_empty() {
            break frames;
        }
    };
    assert_eq!(paused, [Frame::Pause { channel: ChannelId(1) }]);
    assert!(relay.stats().buffered > 0);
    assert_served(&mut other).await;

    for number in 0..sent {
        let Frame::Data { payload, .. } = server.frame().await else { panic!("no DATA") };
        assert_eq!(payload[..4], number.to_be_bytes());
    }
    assert_eq!(client.frame().await, Frame::Resume { channel: ChannelId(1) });
    assert_eq!(relay.stats().buffered, 0);
}

/// A pair that uses other keys than [`Peer::pair`].
async fn two_more(relay: &Relay) -> (Peer, Peer) {
    let mut server = Peer::server(relay, 77).await;
    let mut client = Peer::link(relay).await;
    client.send(connect(1, 77)).await;
    assert!(matches!(server.frame().await, Frame::Incoming { .. }));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    (client, server)
}

#[tokio::test]
async fn a_sender_that_ignores_pause_loses_its_channel_and_the_relay_no_memory() {
    let relay = relay().await;
    let mut other = two_more(&relay).await;
    let (mut client, server) = Peer::pair(&relay).await;
    let overflow = loop {
        client.send(data(1, vec![0; 59_000])).await;
        let frames = client.fence().await;
        assert!(relay.stats().buffered <= 3 << 20, "{:?}", relay.stats());
        if let Some(close) = frames.into_iter().find(|frame| matches!(frame, Frame::Close { .. })) {
            break close;
        }
    };
    assert_eq!(code(&overflow), CloseCode::OVERFLOW);
    assert_eq!(client.fence().await, [], "the link itself goes on");
    assert_served(&mut other).await;
    drop(server);
}

#[tokio::test]
async fn a_receiver_whose_socket_takes_nothing_is_ended() {
    let relay = relay_with(|config| {
        config.write_timeout = Duration::from_millis(200);
        config.websocket_ping_interval = Duration::from_millis(50);
    })
    .await;
    let (mut client, server) = Peer::pair(&relay).await;
    let gone = loop {
        client.send(data(1, vec![0; 50_000])).await;
        let frames = client.fence().await;
        if frames.contains(&Frame::Pause { channel: ChannelId(1) }) {
            break client.frame().await;
        }
    };
    assert_eq!(code(&gone), CloseCode::PEER_GONE);
    until("nothing is held for it", || relay.stats().buffered == 0 && relay.stats().links == 1).await;
    drop(server);
}

#[tokio::test]
async fn when_most_of_the_buffers_are_in_use_newcomers_are_refused_and_others_go_on() {
    const MOST: usize = 6 << 20;
    let relay = relay_with(|config| {
        (config.channel_buffer, config.link_buffer, config.total_buffer) = (8 << 20, 8 << 20, 8 << 20);
    })
    .await;
    let mut other = two_more(&relay).await;
    // A server that reads nothing, and little of whose frames the system keeps.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = within("connecting", socket.connect(relay.address())).await.unwrap();
    let mut server = Peer::open_on(stream, relay.address(), Some("tunnel.v1")).await.unwrap();
    let welcome = server.greet().await;
    server.register(1, &welcome).await;
    let mut client = Peer::link(&relay).await;
    client.send(connect(1, 1)).await;
    assert!(matches!(server.frame().await, Frame::Incoming { .. }));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    let fill = async {
        while relay.stats().buffered <= MOST {
            client.send(data(1, vec![0; 50_000])).await;
            for frame in client.fence().await {
                assert_eq!(frame, Frame::Pause { channel: ChannelId(1) }, "nothing is dropped");
            }
        }
    };
    within("much that waits", fill).await;

    let refused = Peer::open(relay.address(), Some("tunnel.v1")).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    let readiness = get(relay.address(), "/readyz").await;
    assert_eq!(readiness.status, 503);
    assert!(readiness.text().starts_with("not ready: so much waits for slow peers"), "{}", readiness.text());
    other.0.send(connect(3, 77)).await;
    assert_eq!(code(&other.0.frame().await), CloseCode::TRY_AGAIN_LATER);
    assert_served(&mut other).await;

    // The server reads again: all of it is there, and newcomers are let in.
    while relay.stats().buffered > 0 {
        assert!(matches!(server.frame().await, Frame::Data { .. }));
    }
    assert_eq!(get(relay.address(), "/readyz").await.text(), "ready\n");
    other.0.send(connect(5, 77)).await;
    assert!(matches!(other.1.frame().await, Frame::Incoming { .. }));
    drop(Peer::link(&relay).await);
    assert_served(&mut other).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_with_1009() {
    let relay = relay().await;
    let mut pair = Peer::pair(&relay).await;
    let too_long = vec![0; 65_537];
    let half = vec![0; 32_769];
    for bytes in [
        raw_frame(BINARY, 65_537, &too_long),
        // Lengths that nobody has the memory for: refused before anything is set aside.
        raw_frame(BINARY, u64::from(u32::MAX), &[]),
        raw_frame(BINARY, u64::MAX / 2, &[]),
        raw_frame(TEXT, 1 << 40, &[]),
        // Each fragment is short enough by itself.
        [raw_frame(BINARY_TO_BE_CONTINUED, 32_769, &half), raw_frame(CONTINUATION, 32_769, &half)].concat(),
    ] {
        let mut peer = Peer::link(&relay).await;
        peer.write_raw(&bytes).await;
        assert_eq!(peer.closed().await, CloseCode::TOO_BIG);
    }
    assert_served(&mut pair).await;
}

#[tokio::test]
async fn the_reason_for_a_close_arrives_although_the_sender_goes_on_sending() {
    let relay = relay().await;
    let mut peer = Peer::link(&relay).await;
    peer.write_raw(&raw_frame(BINARY, 2_000_000, &vec![0; 2_000_000])).await;
    assert_eq!(peer.closed().await, CloseCode::TOO_BIG);
}

#[tokio::test]
async fn a_message_in_fragments_is_put_together() {
    let relay = relay().await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let message = data(1, "in three parts").encode();
    let (first, rest) = message.split_at(3);
    let (second, third) = rest.split_at(5);
    client.write_raw(&raw_frame(BINARY_TO_BE_CONTINUED, 3, first)).await;
    client.write_raw(&raw_frame(CONTINUATION, 5, second)).await;
    client.write_raw(&raw_frame(PING, 2, b"in")).await;
    client.write_raw(&raw_frame(0x80, third.len() as u64, third)).await;
    assert_eq!(server.frame().await, data(2, "in three parts"));
}

#[tokio::test]
async fn a_breach_of_the_web_socket_protocol_is_named_by_its_code() {
    let relay = relay().await;
    let mut pair = Peer::pair(&relay).await;
    let mut unmasked = raw_frame(BINARY, 3, b"abc");
    unmasked[1] &= 0x7f;
    for (what, bytes, expected) in [
        ("no mask", unmasked, CloseCode::PROTOCOL_ERROR),
        ("a compressed message", raw_frame(0xc2, 1, b"a"), CloseCode::PROTOCOL_ERROR),
        ("an unknown opcode", raw_frame(0x83, 1, b"a"), CloseCode::PROTOCOL_ERROR),
        ("a continuation of nothing", raw_frame(0x80, 1, b"a"), CloseCode::PROTOCOL_ERROR),
        ("a ping in fragments", raw_frame(0x09, 1, b"a"), CloseCode::PROTOCOL_ERROR),
        ("a long ping", raw_frame(PING, 126, &[0; 126]), CloseCode::PROTOCOL_ERROR),
        ("a reserved close code", raw_frame(CLOSE, 2, &1005_u16.to_be_bytes()), CloseCode::PROTOCOL_ERROR),
        ("a text that is not UTF-8", raw_frame(TEXT, 2, b"\xc3\x28"), CloseCode(1007)),
    ] {
        let mut peer = Peer::link(&relay).await;
        peer.write_raw(&bytes).await;
        match peer.received().await {
            Received::Closed(code, _) => assert_eq!(code, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_served(&mut pair).await;
}

#[tokio::test]
async fn a_breach_of_the_link_protocol_is_explained_and_ends_the_link() {
    let relay = relay().await;
    let mut pair = Peer::pair(&relay).await;
    for bytes in [&b""[..], b"\0", b"\xff\0\0\0\0", b"\x80\0\0\0\0", &[0x85; 5], &[0xee; 100]] {
        let mut peer = Peer::link(&relay).await;
        peer.send_bytes(bytes.to_vec()).await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR, "{bytes:02x?}");
        assert_eq!(peer.closed().await, CloseCode::PROTOCOL_ERROR, "{bytes:02x?}");
    }
    for text in ["", "null", "{}", "[]", r#"{"instruction":null}"#, "{\"instruction\":\"initialize\"}"] {
        let mut peer = Peer::link(&relay).await;
        peer.send_text(text).await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR, "{text}");
        assert_eq!(peer.closed().await, CloseCode::PROTOCOL_ERROR, "{text}");
    }
    assert_served(&mut pair).await;
}

#[tokio::test]
async fn noise_ends_nobody_but_its_sender() {
    let relay =
        relay_with(|config| config.livecode_credential = Some("a secret of the test".parse().unwrap())).await;
    let mut pair = Peer::pair(&relay).await;
    for seed in 0..300 {
        let mut bytes = noise(seed);
        let len = bytes.by_ref().take(2).fold(0, |len, byte| len * 256 + usize::from(byte)) % 3_000;
        let noise: Vec<u8> = bytes.take(len).collect();
        match seed % 4 {
            // Below HTTP.
            0 => {
                let mut stream = TcpStream::connect(relay.address()).await.unwrap();
                let _maybe_closed = stream.write_all(&noise).await;
            }
            // Below the WebSocket.
            1 => Peer::link(&relay).await.write_raw(&noise).await,
            // As a frame, in each of the dialects.
            2 => Peer::link(&relay).await.send_bytes(noise).await,
            _ => {
                let mut peer = Peer::open(relay.address(), None).await.unwrap();
                peer.send_text(&String::from_utf8_lossy(&noise)).await;
                peer.write_raw(&raw_frame(BINARY, noise.len() as u64, &noise)).await;
            }
        }
    }
    assert_served(&mut pair).await;
    until("the noisy links are gone", || relay.stats().links == 2).await;
}

#[tokio::test]
async fn a_flood_of_empty_fragments_takes_no_memory_and_nobody_elses_turn() {
    let relay =
        relay_with(|config| (config.max_fragments, config.link_frames_per_second) = (1_000_000, 0)).await;
    let mut pair = Peer::pair(&relay).await;
    let mut peer = Peer::link(&relay).await;
    peer.write_raw(&raw_frame(BINARY_TO_BE_CONTINUED, 0, &[])).await;
    let flood = raw_frame(CONTINUATION, 0, &[]).repeat(10_000);
    for _ in 0..50 {
        peer.write_raw(&flood).await;
        assert_served(&mut pair).await;
    }
    // The message that they were all part of is a PING.
    let ping = Frame::Ping { nonce: 5 }.encode();
    peer.write_raw(&raw_frame(0x80, ping.len() as u64, &ping)).await;
    assert_eq!(peer.frame().await, Frame::Pong { nonce: 5 });
}

#[tokio::test]
async fn a_message_in_too_many_fragments_ends_its_link() {
    let relay = relay().await;
    let mut pair = Peer::pair(&relay).await;
    let ping = Frame::Ping { nonce: 5 }.encode();
    let in_fragments = |count: usize| {
        let first = raw_frame(BINARY_TO_BE_CONTINUED, 0, &[]);
        let last = raw_frame(0x80, ping.len() as u64, &ping);
        [first, raw_frame(CONTINUATION, 0, &[]).repeat(count - 2), last].concat()
    };
    let mut peer = Peer::link(&relay).await;
    peer.write_raw(&in_fragments(256)).await;
    assert_eq!(peer.frame().await, Frame::Pong { nonce: 5 });
    peer.write_raw(&in_fragments(257)).await;
    assert_eq!(peer.closed().await, CloseCode::POLICY);
    assert_served(&mut pair).await;
}

#[tokio::test]
async fn fragments_count_towards_what_a_link_may_send() {
    let relay = relay_with(|config| config.link_frames_per_second = 1_000).await;
    let mut peer = Peer::link(&relay).await;
    let ping = Frame::Ping { nonce: 7 }.encode();
    let first = raw_frame(BINARY_TO_BE_CONTINUED, 0, &[]);
    let last = raw_frame(0x80, ping.len() as u64, &ping);
    let message = [first, raw_frame(CONTINUATION, 0, &[]).repeat(98), last].concat();
    let start = std::time::Instant::now();
    for _ in 0..30 {
        peer.write_raw(&message).await;
    }
    // The surplus is noticed once it is read; the second answer comes after that.
    peer.fence().await;
    peer.fence().await;
    assert!(start.elapsed() >= Duration::from_secs(1), "3,000 frames took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_flood_of_pings_ends_those_who_do_not_read_the_pongs() {
    // So that it is not this that ends it.
    let relay = relay_with(|config| config.write_timeout = Duration::from_secs(3_600)).await;
    let mut pair = Peer::pair(&relay).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap(); // so that not reading is soon felt
    let stream = within("connecting", socket.connect(relay.address())).await.unwrap();
    let mut peer = Peer::open_on(stream, relay.address(), Some("tunnel.v1")).await.unwrap();
    peer.send(crate::support::hello()).await;
    assert!(matches!(peer.frame().await, Frame::Welcome(_)));
    let flood = raw_frame(PING, 125, &[7; 125]).repeat(1_000);
    let ended = async { while peer.socket.get_mut().write_all(&flood).await.is_ok() {} };
    within("the end of the flood", ended).await;
    assert_served(&mut pair).await;
    until("the link is forgotten", || relay.stats().links == 2).await;
}

#[tokio::test]
async fn a_subprotocol_that_is_not_known_is_refused_before_the_upgrade() {
    for livecode in [None, Some("a secret of the test".parse().unwrap())] {
        let relay = relay_with(|config| config.livecode_credential = livecode.clone()).await;
        for name in ["mqtt", "tunnel.v2", "tunnel"] {
            let error = Peer::open(relay.address(), Some(name)).await.map(drop).unwrap_err();
            assert!(error.to_string().contains("400"), "{error}");
        }
        assert_eq!(Peer::open(relay.address(), None).await.is_ok(), livecode.is_some());
    }
}

#[tokio::test]
async fn a_peer_that_never_says_hello_is_sent_away() {
    let relay = relay_with(|config| config.hello_timeout = Duration::from_millis(50)).await;
    let mut peer = Peer::open(relay.address(), Some("tunnel.v1")).await.unwrap();
    assert_eq!(code(&peer.frame().await), CloseCode::TIMEOUT);
    assert_eq!(peer.closed().await, CloseCode::TIMEOUT);
}

#[tokio::test]
async fn a_flood_of_frames_is_read_as_fast_as_the_link_may_send_and_harms_nobody() {
    let relay = relay_with(|config| {
        config.link_frames_per_second = 1_000;
        config.link_bytes_per_second = 1 << 20;
    })
    .await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let mut flooder = Peer::link(&relay).await;
    let ping = Frame::Ping { nonce: 7 }.encode();
    let start = std::time::Instant::now();
    for _ in 0..6_000 {
        flooder.send_bytes(ping.clone()).await;
    }
    client.send(data(1, "meanwhile")).await;
    assert_eq!(server.frame().await, data(2, "meanwhile"));
    // All of it is read in the end, and not before its time: 2,000 at once and then 1,000 a second.
    flooder.fence().await;
    assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn messages_that_do_not_come_to_their_end_are_in_a_budget() {
    for livecode in [false, true] {
        let relay = relay_with(|config| {
            config.half_sent_buffer_per_address = 2 << 20;
            config.livecode_credential = livecode.then(|| "a secret of the test".parse().unwrap());
        })
        .await;
        let (first, len, subprotocol) =
            if livecode { (0x81, 900_000, None) } else { (0x82, 60_000, Some("tunnel.v1")) };
        let mut payload = if livecode {
            vec![b' '; len as usize]
        } else {
            data(1, vec![b' '; len as usize - 5]).encode().to_vec()
        };
        payload.pop();
        let message = raw_frame(first, len, &payload);
        let (mut halves, mut refused) = (Vec::new(), 0);
        while refused == 0 {
            let mut peer = Peer::open(relay.address(), subprotocol).await.unwrap();
            peer.write_raw(&message).await;
            halves.push(peer);
            if halves.len() as u64 * len > 4 << 20 {
                let mut last = halves.pop().unwrap();
                assert_eq!(last.closed().await, CloseCode::TRY_AGAIN_LATER);
                refused += 1;
            }
        }
        drop(halves);
        // The memory that the others held is free again.
        loop {
            let mut peer = Peer::open(relay.address(), subprotocol).await.unwrap();
            peer.write_raw(&message).await;
            peer.write_raw(b" ").await;
            match peer.received().await {
                Received::Closed(CloseCode::TRY_AGAIN_LATER, _) => {}
                Received::Text(text) if livecode => break assert!(text.starts_with("server: "), "{text}"),
                Received::Frame(frame) if !livecode => {
                    break assert_eq!(code(&frame), CloseCode::PROTOCOL_ERROR);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
