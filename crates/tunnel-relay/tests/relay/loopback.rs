//! A real relay and real WebSockets: what peers that keep to the protocol get.

use crate::support::{Peer, accept, close, connect, data, relay, relay_with, until, within};
use futures_util::StreamExt as _;
use tunnel_protocol::{ChannelId, CloseCode, Frame};

#[tokio::test]
async fn two_peers_connect_talk_and_part() {
    let relay = relay().await;
    let mut server = Peer::server(&relay, 1).await;
    let mut client = Peer::link(&relay).await;
    client.send(connect(1, 1)).await;
    let Frame::Incoming { channel, port, address, payload, .. } = server.frame().await else {
        panic!("no INCOMING")
    };
    assert_eq!((channel, port, address.as_str()), (ChannelId(2), 1337, "127.0.0.1"));
    assert_eq!(payload, "first");
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));

    client.send(data(1, "question")).await;
    assert_eq!(server.frame().await, data(2, "question"));
    server.send(data(2, "answer")).await;
    assert_eq!(client.frame().await, data(1, "answer"));

    client.send(close(1, CloseCode(4_000))).await;
    assert_eq!(server.frame().await, close(2, CloseCode(4_000)));
    assert_eq!(server.fence().await, []);
    assert_eq!(relay.stats().channel_ends, 0);
}

#[tokio::test]
async fn frames_in_the_handshake_are_answered_behind_it() {
    let relay = relay().await;
    let mut server = Peer::server(&relay, 1).await;
    let hello = Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
    let mut client =
        Peer::greet_early(&relay, &[hello.clone(), connect(1, 1)]).await.expect("a relay that takes them");
    let incoming = server.frame().await;
    assert!(matches!(incoming, Frame::Incoming { channel: ChannelId(2), .. }), "{incoming:?}");
    assert!(matches!(client.frame().await, Frame::Welcome(_)));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));

    assert!(Peer::greet_early(&relay, &[connect(1, 1)]).await.is_none(), "HELLO is the first frame");
    let mut rude = Peer::greet_early(&relay, &[hello.clone(), hello]).await.expect("a relay that takes them");
    assert_eq!(crate::support::code(&rude.frame().await), CloseCode::PROTOCOL_ERROR);
}

#[tokio::test]
async fn a_peer_that_says_the_frames_of_its_handshake_again_is_heard_once() {
    let relay = relay().await;
    let mut server = Peer::server(&relay, 1).await;
    let hello = Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
    let early = [hello.clone(), connect(1, 1)];
    let mut client = Peer::greet_early(&relay, &early).await.expect("a relay that takes them");
    for frame in early {
        client.send(frame).await;
    }
    assert!(matches!(client.frame().await, Frame::Welcome(_)));
    assert!(matches!(server.frame().await, Frame::Incoming { channel: ChannelId(2), .. }));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    assert_eq!(server.fence().await, [], "it was connected once");
    client.send(hello).await;
    assert_eq!(crate::support::code(&client.frame().await), CloseCode::PROTOCOL_ERROR);
}

#[tokio::test]
async fn the_welcome_names_the_limits_that_hold() {
    let relay = relay_with(|config| config.max_frame = 9_000).await;
    let (mut peer, welcome) = Peer::link_to(relay.address()).await;
    assert_eq!((welcome.version, welcome.max_frame, welcome.address.as_str()), (1, 9_000, "127.0.0.1"));
    // Exactly as long as it may be: what is wrong with it is its channel.
    peer.send(data(1, vec![0; 9_000 - 5])).await;
    assert_eq!(crate::support::code(&peer.frame().await), CloseCode::PROTOCOL_ERROR);
}

#[tokio::test]
async fn any_number_of_messages_keeps_its_order() {
    const COUNT: u32 = 20_000;
    let relay = relay().await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let send = async {
        for number in 0..COUNT {
            // All sizes, those around the library's buffers included.
            let mut payload = vec![0; (number as usize * 37) % 1_500];
            payload.splice(0..0, number.to_be_bytes());
            client.send(data(1, payload)).await;
            // The protocol's own acknowledgements would do this: never more on its way than a channel's buffer takes.
            if number % 500 == 0 {
                client.fence().await;
            }
        }
    };
    let receive = async {
        for number in 0..COUNT {
            let Frame::Data { channel: ChannelId(2), payload } = server.frame().await else {
                panic!("no DATA")
            };
            assert_eq!(payload[..4], number.to_be_bytes());
            assert_eq!(payload.len(), (number as usize * 37) % 1_500 + 4);
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn the_largest_frames_arrive_whole_both_ways() {
    let relay = relay().await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let payload: Vec<u8> = (0..65_536 - 5).map(|number: u32| (number % 253) as u8).collect();
    for _ in 0..20 {
        client.send(data(1, payload.clone())).await;
        assert_eq!(server.frame().await, data(2, payload.clone()));
        server.send(data(2, payload.clone())).await;
        assert_eq!(client.frame().await, data(1, payload.clone()));
    }
}

#[tokio::test]
async fn nobody_under_the_server_id_is_told_when_the_wait_is_over() {
    let relay = relay_with(|config| config.absent_wait = std::time::Duration::from_millis(20)).await;
    let mut client = Peer::link(&relay).await;
    client.send(connect(1, 7)).await;
    assert_eq!(crate::support::code(&client.frame().await), CloseCode::SERVER_NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_is_faster_than_its_server_waits_for_it() {
    let relay = relay().await;
    let mut client = Peer::link(&relay).await;
    client.send(connect(1, 1)).await;
    assert_eq!(client.fence().await, []);
    let mut server = Peer::server(&relay, 1).await;
    assert!(matches!(server.frame().await, Frame::Incoming { .. }));
}

#[tokio::test]
async fn the_newer_link_of_a_server_takes_over() {
    let relay = relay().await;
    let (mut client, mut old) = Peer::pair(&relay).await;
    let mut new = Peer::server(&relay, 1).await;
    assert_eq!(crate::support::code(&old.frame().await), CloseCode::ID_TAKEN_OVER);
    assert_eq!(old.closed().await, CloseCode::ID_TAKEN_OVER);
    assert_eq!(crate::support::code(&client.frame().await), CloseCode::PEER_GONE);
    client.send(connect(3, 1)).await;
    assert!(matches!(new.frame().await, Frame::Incoming { .. }));
}

#[tokio::test]
async fn one_server_has_many_clients_each_with_its_own_channel() {
    let relay = relay().await;
    let mut server = Peer::server(&relay, 1).await;
    let mut clients = Vec::new();
    for number in 0..200 {
        let mut client = Peer::link(&relay).await;
        client.send(connect(1, 1)).await;
        let channel = match server.frame().await {
            Frame::Incoming { channel, .. } => channel,
            other => panic!("no INCOMING but {other:?}"),
        };
        assert_eq!(channel, ChannelId(2 * (number + 1)));
        server.send(accept(channel.0)).await;
        assert_eq!(client.frame().await, accept(1));
        clients.push((client, channel));
    }
    for (client, channel) in &mut clients {
        client.send(data(1, channel.0.to_be_bytes().to_vec())).await;
    }
    let mut channels = Vec::new();
    for _ in 0..clients.len() {
        let Frame::Data { channel, payload } = server.frame().await else { panic!("no DATA") };
        assert_eq!(*payload, channel.0.to_be_bytes());
        channels.push(channel);
    }
    channels.sort();
    assert_eq!(channels, clients.iter().map(|(_, channel)| *channel).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_thousand_idle_links_are_held_and_forgotten() {
    let _whatever_the_system_allows = rlimit::increase_nofile_limit(4_096);
    let relay = relay().await;
    let mut links = Vec::new();
    for _ in 0..1_000 {
        links.push(Peer::link(&relay).await);
    }
    assert_eq!(relay.stats().links, 1_000);
    let (mut client, mut server) = Peer::pair(&relay).await;
    client.send(data(1, "still here")).await;
    assert_eq!(server.frame().await, data(2, "still here"));
    for link in &mut links {
        assert_eq!(link.fence().await, []);
    }
    drop(links);
    until("the links are forgotten", || relay.stats().links == 2).await;
}

#[tokio::test]
async fn a_silent_link_is_pinged_and_a_dead_one_is_ended() {
    let relay = relay_with(|config| {
        config.websocket_ping_interval = std::time::Duration::from_millis(60);
        config.ping_interval = std::time::Duration::from_millis(20);
        config.idle_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let mut alive = Peer::server(&relay, 1).await;
    let mut dead = Peer::server(&relay, 2).await;
    // The one answers pings while it waits for frames; the other reads nothing, so answers nothing.
    tokio::select! {
        received = alive.received() => panic!("{received:?}"),
        () = until("the dead link is ended", || relay.stats().registrations == 1) => {}
    }
    assert_eq!(crate::support::code(&dead.frame().await), CloseCode::TIMEOUT);
    assert_eq!(dead.closed().await, CloseCode::TIMEOUT);
    assert_eq!(alive.fence().await, []);
}

#[tokio::test]
async fn a_frozen_tab_whose_browser_answers_pings_is_kept_and_still_asked() {
    let relay = relay_with(|config| {
        config.websocket_ping_interval = std::time::Duration::from_millis(60);
        config.ping_interval = std::time::Duration::from_millis(20);
        config.idle_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let mut frozen = Peer::server(&relay, 1).await;
    // A link that is not kept gets one PING and is ended after the idle timeout.
    let mut pings = 0;
    while pings < 5 {
        let message = within("a PING", frozen.socket.next()).await.unwrap().unwrap();
        assert!(!message.is_close());
        // Reading has the WebSocket library answer pings; nothing answers the PINGs.
        pings += u32::from(message.is_binary());
    }
    assert_eq!(relay.stats().registrations, 1);
}

#[tokio::test]
async fn draining_tells_everybody_and_ends_when_they_have_left() {
    let relay = relay().await;
    let address = relay.address();
    let (mut client, mut server) = Peer::pair(&relay).await;
    let peers = async {
        assert!(matches!(server.frame().await, Frame::GoAway { .. }));
        assert!(matches!(client.frame().await, Frame::GoAway { .. }));
        client.send(data(1, "last words")).await;
        assert_eq!(server.frame().await, data(2, "last words"));
        drop((client, server));
    };
    tokio::join!(within("draining", relay.shut_down()), peers);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn those_who_stay_are_closed_when_the_relay_ends() {
    let relay = relay_with(|config| config.drain_timeout = std::time::Duration::from_millis(50)).await;
    let mut server = Peer::server(&relay, 1).await;
    let peer = async {
        assert!(matches!(server.frame().await, Frame::GoAway { .. }));
        assert_eq!(crate::support::code(&server.frame().await), CloseCode::DRAINING);
        assert_eq!(server.closed().await, CloseCode::DRAINING);
    };
    tokio::join!(within("draining", relay.shut_down()), peer);
}

#[tokio::test]
async fn a_relay_that_is_dropped_is_gone_at_once() {
    let relay = relay().await;
    let mut server = Peer::server(&relay, 1).await;
    drop(relay);
    assert_eq!(server.received().await, crate::support::Received::Lost);
}

#[tokio::test]
async fn two_relays_in_one_process_know_nothing_of_each_other() {
    let (one, other) = (relay().await, relay().await);
    let _server = Peer::server(&one, 1).await;
    assert_eq!((one.stats().registrations, other.stats().registrations), (1, 0));
    assert_ne!(one.address(), other.address());
}
