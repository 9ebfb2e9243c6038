//! Channels from CONNECT to CLOSE, and the races between the two peers.

use super::*;

#[test]
fn a_channel_is_offered_accepted_used_and_closed() {
    let mut net = Net::new(config());
    let server = net.server(1);
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    let incoming = Frame::Incoming {
        channel: ChannelId(2),
        port: 1337,
        kind: ChannelKind::Session,
        address: "192.0.2.2:1000".to_owned(),
        payload: Bytes::from_static(b"first"),
    };
    assert_eq!(net.received(server), [incoming]);
    net.send(server, accept(2));
    net.send(server, data(2, "welcome"));
    assert_eq!(net.received(client), [accept(1), data(1, "welcome")]);
    net.send(client, data(1, "hello"));
    assert_eq!(net.received(server), [data(2, "hello")]);
    net.send(client, close(1, CloseCode(4_000)));
    assert_eq!(net.take(server), Some(close(2, CloseCode(4_000))));
    assert_eq!(net.received(client), []);
    net.hang_up(client);
    net.hang_up(server);
    net.assert_empty();
}

#[test]
fn a_server_refuses_a_channel_with_close() {
    let mut net = Net::new(config());
    let server = net.server(1);
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    net.received(server);
    net.send(server, close(2, CloseCode::PORT_CLOSED));
    assert_eq!(net.take(client), Some(close(1, CloseCode::PORT_CLOSED)));
    assert_eq!(net.router.stats().channel_ends, 0);
}

#[test]
fn a_link_can_be_client_and_server_at_once_even_of_itself() {
    let mut net = Net::new(config());
    let link = net.server(1);
    net.send(link, connect(1, server_id(1)));
    assert!(matches!(net.received(link)[..], [Frame::Incoming { channel: ChannelId(2), .. }]));
    net.send(link, accept(2));
    net.send(link, data(1, "to me"));
    assert_eq!(net.received(link), [accept(1), data(2, "to me")]);
    net.hang_up(link);
    net.assert_empty();
}

#[test]
fn channel_numbers_are_odd_and_only_rise() {
    for (first, second) in [(1, 1), (3, 1), (3, 3), (1, 2), (1, 4)] {
        let mut net = Net::new(config());
        net.server(1);
        let client = net.link();
        net.send(client, connect(first, server_id(1)));
        assert_eq!(net.closes(), []);
        net.send(client, connect(second, server_id(1)));
        let Some(Frame::Error { text, .. }) = net.take(client) else { panic!("no ERROR") };
        assert!(text.contains(&format!("CONNECT on channel {second}")), "{text}");
        assert_eq!(net.closes(), [(client, CloseCode::PROTOCOL_ERROR)]);
    }
}

#[test]
fn a_closed_channel_is_not_opened_again() {
    let mut net = Net::new(config());
    let (client, _) = net.pair();
    net.send(client, close(1, CloseCode::NORMAL));
    net.send(client, connect(1, server_id(1)));
    assert_eq!(net.received(client), [error(CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn frames_that_cross_a_close_are_ignored() {
    for frame in [data(2, "late"), close(2, CloseCode::NORMAL)] {
        let mut net = Net::new(config());
        let (client, server) = net.pair();
        net.send(client, close(1, CloseCode::NORMAL));
        net.send(server, frame.clone());
        net.send(server, data(2, "and more"));
        assert_eq!(net.closes(), [], "{frame:?} before the server has seen CLOSE");
        net.received(server);
        net.send(server, frame.clone());
        assert_eq!(net.closes(), [], "{frame:?} after it");
        assert_eq!(net.received(client), [], "{frame:?}");
        assert_eq!(net.router.stats().channel_ends, 0);
    }
}

#[test]
fn an_accept_that_crosses_a_close_is_ignored() {
    let mut net = Net::new(config());
    let server = net.server(1);
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    assert_eq!(net.received(server).len(), 1);
    net.send(client, close(1, CloseCode::ABORTED));
    net.send(server, accept(2));
    net.send(server, data(2, "welcome"));
    assert_eq!(net.received(server), [closed(2, CloseCode::ABORTED)]);
    net.send(server, accept(2));
    assert_eq!((net.received(client), net.closes()), (vec![], vec![]));
}

#[test]
fn both_peers_may_close_at_once() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, close(1, CloseCode::NORMAL));
    net.send(server, close(2, CloseCode::GOING_AWAY));
    assert_eq!((net.received(client), net.received(server)), (vec![], vec![]));
    assert_eq!(net.router.stats().channel_ends, 0);
}

#[test]
fn a_channel_that_was_never_opened_is_a_violation() {
    for frame in [
        data(1, "x"),
        data(2, "x"),
        accept(2),
        close(1, CloseCode::NORMAL),
        close(2, CloseCode::NORMAL),
        data(u32::MAX, "x"),
    ] {
        let mut net = Net::new(config());
        net.pair();
        let link = net.link();
        net.send(link, frame.clone());
        assert_eq!(net.closes(), [(link, CloseCode::PROTOCOL_ERROR)], "{frame:?}");
    }
}

#[test]
fn what_a_state_does_not_allow_is_a_violation_that_is_named() {
    let at_client = [(data(1, "early"), "not accepted yet"), (accept(1), "not accepted yet")];
    for (frame, words) in at_client {
        let mut net = Net::new(config());
        net.server(1);
        let client = net.link();
        net.send(client, connect(1, server_id(1)));
        net.send(client, frame);
        let Some(Frame::Error { text, .. }) = net.take(client) else { panic!("no ERROR") };
        assert!(text.contains("channel 1") && text.contains(words), "{text}");
    }
    let at_server = [(data(2, "early"), "not accepted yet", false), (accept(2), "accepted already", true)];
    for (frame, words, accepted) in at_server {
        let mut net = Net::new(config());
        let server = net.server(1);
        let client = net.link();
        net.send(client, connect(1, server_id(1)));
        net.received(server);
        if accepted {
            net.send(server, accept(2));
        }
        net.send(server, frame);
        let Some(Frame::Error { text, .. }) = net.take(server) else { panic!("no ERROR") };
        assert!(text.contains("channel 2") && text.contains(words), "{text}");
    }
}

#[test]
fn a_client_that_waits_for_its_server_may_not_send_yet_but_may_give_up() {
    let mut net = Net::new(config());
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    net.send(client, close(1, CloseCode::ABORTED));
    assert_eq!((net.router.stats().waiting, net.router.stats().buffered), (0, 0));
    net.send(client, data(1, "late"));
    assert_eq!(net.closes(), [], "a race");
    net.send(client, connect(3, server_id(1)));
    net.send(client, data(3, "early"));
    assert_eq!(net.closes(), [(client, CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_client_waits_for_a_server_that_is_not_there_yet() {
    let mut net = Net::new(config());
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    net.send(client, connect(3, server_id(1)));
    net.send(client, connect(5, server_id(2)));
    net.advance(Duration::from_millis(1_999));
    assert_eq!(net.received(client), []);
    let (server, welcome) = net.welcomed();
    net.send(server, register(1, &welcome.challenge));
    let frames = net.received(server);
    assert_eq!(frames[0], Frame::Registered { server_id: server_id(1) });
    assert!(
        matches!(
            frames[1..],
            [Frame::Incoming { channel: ChannelId(2), .. }, Frame::Incoming { channel: ChannelId(4), .. }]
        ),
        "{frames:?}"
    );
    net.send(server, accept(2));
    assert_eq!(net.received(client), [accept(1)]);
    net.advance(Duration::from_millis(1));
    assert_eq!(net.received(client), [closed(5, CloseCode::SERVER_NOT_FOUND)]);
    assert_eq!(net.router.stats().waiting, 0);
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, data(1, "last words"));
    net.send(client, close(1, CloseCode::NORMAL));
    assert_eq!(net.received(server), [data(2, "last words"), closed(2, CloseCode::NORMAL)]);
}

#[test]
fn what_was_sent_before_a_link_went_away_arrives_before_the_close() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(server, data(2, "last words"));
    net.hang_up(server);
    assert_eq!(net.received(client), [data(1, "last words"), closed(1, CloseCode::PEER_GONE)]);
}

#[test]
fn a_peer_that_closes_gets_nothing_more_on_the_channel() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(server, data(2, "unread"));
    net.send(client, close(1, CloseCode::NORMAL));
    assert_eq!(net.received(client), []);
    assert_eq!(net.received(server), [closed(2, CloseCode::NORMAL)]);
    assert_eq!(net.router.stats().buffered, 0);
}

#[test]
fn a_server_never_hears_of_a_client_that_gave_up_before_its_turn() {
    let mut net = Net::new(config());
    let server = net.server(1);
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    net.send(client, close(1, CloseCode::ABORTED));
    assert_eq!(net.received(server), []);
    assert_eq!(net.router.stats().channel_ends, 0);
    net.send(client, connect(3, server_id(1)));
    assert!(matches!(net.received(server)[..], [Frame::Incoming { channel: ChannelId(4), .. }]));
}

#[test]
fn channels_belong_to_their_links() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    for channel in [1, 2] {
        let stranger = net.link();
        net.send(stranger, data(channel, "spoofed"));
        assert_eq!(net.closes(), [(stranger, CloseCode::PROTOCOL_ERROR)]);
    }
    // The same number on another link is another channel.
    let other = net.link();
    net.send(other, connect(1, server_id(1)));
    net.received(server);
    net.send(server, accept(4));
    net.received(other);
    net.send(other, data(1, "from the other"));
    assert_eq!(net.received(server), [data(4, "from the other")]);
    net.send(server, data(2, "to the first"));
    assert_eq!((net.received(client), net.received(other)), (vec![data(1, "to the first")], vec![]));
}

#[test]
fn forwarded_data_keeps_its_memory() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    let message = BytesMut::from(&data(1, vec![7; 10_000]).encode()[..]);
    let memory = message.as_ptr();
    net.router.handle_message(client, message, net.now);
    let Some(Transmit::Binary(forwarded)) = net.router.poll_transmit(server) else { panic!("nothing") };
    assert_eq!(forwarded.as_ptr(), memory);
    assert_eq!(forwarded, data(2, vec![7; 10_000]).encode());
}

#[test]
fn the_owner_is_told_once_that_there_is_something_to_send() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, data(1, "a"));
    net.send(client, data(1, "b"));
    assert_eq!(net.events(), [Event::Writable(server)]);
    assert!(net.take(server).is_some());
    net.send(client, data(1, "c"));
    assert_eq!(net.events(), [], "the owner has not seen the end yet");
    net.received(server);
    net.send(client, data(1, "d"));
    assert_eq!(net.events(), [Event::Writable(server)]);
}

#[test]
fn a_chat_channel_does_not_wait_behind_a_file_channel() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, connect(3, server_id(1)));
    net.received(server);
    net.send(server, accept(4));
    net.received(client);
    for _ in 0..20 {
        net.send(client, data(1, vec![0; 50_000]));
    }
    net.send(client, data(3, "chat"));
    let place = net.received(server).iter().position(|frame| *frame == data(4, "chat"));
    assert!(
        place.is_some_and(|place| place <= 2),
        "at most one turn of the file channel goes first: {place:?}"
    );
}

#[test]
fn channels_are_offered_in_their_order_whosever_turn_it_is() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    // The server is a client, too, and its own channel 5 had the last turn.
    net.send(server, connect(5, server_id(9)));
    net.advance(Duration::from_secs(2));
    assert_eq!(net.received(server), [closed(5, CloseCode::SERVER_NOT_FOUND)]);
    for channel in [3, 5, 7] {
        net.send(client, connect(channel, server_id(1)));
    }
    let offered: Vec<_> = net.received(server).iter().map(Frame::channel).collect();
    assert_eq!(offered, [4, 6, 8].map(ChannelId));
}

#[test]
fn channels_share_a_link_by_bytes_not_by_frames() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, connect(3, server_id(1)));
    net.received(server);
    net.send(server, accept(4));
    net.received(client);
    for _ in 0..30 {
        net.send(client, data(1, vec![0; 40_000]));
    }
    for _ in 0..300 {
        net.send(client, data(3, vec![0; 1_000]));
    }
    let mut bytes = [0, 0];
    for _ in 0..200 {
        if let Some(Frame::Data { channel, payload }) = net.take(server) {
            bytes[usize::from(channel == ChannelId(4))] += payload.len();
        }
    }
    let [large, small] = bytes;
    assert!(large.abs_diff(small) < 2 * 65_536, "{bytes:?}");
}
