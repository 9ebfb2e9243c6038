//! The consequences of every limit, and whom they meet.

use super::*;
use crate::router::config::{CONNECT_BURST, SERVER_CONNECT_BURST};

fn small() -> Config {
    Config {
        channel_buffer: 40_000,
        channel_high: 20_000,
        channel_low: 5_000,
        link_buffer: 100_000,
        total_buffer: 150_000,
        ..config()
    }
}

/// A second channel of a pair: 3 at the client, 4 at the server.
fn second_channel(net: &mut Net, client: LinkId, server: LinkId) {
    net.send(client, connect(3, server_id(1)));
    assert_eq!(net.received(server).len(), 1);
    net.send(server, accept(4));
    assert_eq!(net.received(client), [accept(3)]);
}

#[test]
fn a_sender_is_paused_when_its_receiver_is_behind_and_resumed_when_it_has_caught_up() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    for _ in 0..2 {
        net.send(client, data(1, vec![0; 9_000]));
        assert_eq!(net.received(client), []);
    }
    net.send(client, data(1, vec![0; 9_000]));
    assert_eq!(net.received(client), [Frame::Pause { channel: ChannelId(1) }]);
    net.send(client, data(1, "on its way already"));
    assert_eq!(net.received(client), [], "told once");

    net.take(server);
    net.take(server);
    assert_eq!(net.received(client), []);
    net.take(server);
    assert_eq!(net.received(client), [Frame::Resume { channel: ChannelId(1) }]);
    assert_eq!(net.received(server), [data(2, "on its way already")]);
}

#[test]
fn the_server_is_paused_by_the_same_rules() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    for _ in 0..3 {
        net.send(server, data(2, vec![0; 9_000]));
    }
    assert_eq!(net.received(server), [Frame::Pause { channel: ChannelId(2) }]);
    net.received(client);
    assert_eq!(net.received(server), [Frame::Resume { channel: ChannelId(2) }]);
}

#[test]
fn pauses_that_nobody_reads_do_not_pile_up() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    for _ in 0..100 {
        for _ in 0..3 {
            net.send(client, data(1, vec![0; 9_000]));
        }
        net.received(server);
    }
    assert_eq!(net.received(client), [], "paused and resumed again before it looked");
}

#[test]
fn other_channels_of_a_slow_receiver_are_not_paused() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    second_channel(&mut net, client, server);
    for _ in 0..3 {
        net.send(client, data(1, vec![0; 9_000]));
    }
    net.send(client, data(3, "chat"));
    assert_eq!(net.received(client), [Frame::Pause { channel: ChannelId(1) }]);
}

#[test]
fn a_sender_that_ignores_pause_loses_the_channel_and_nothing_else() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    second_channel(&mut net, client, server);
    net.events();
    for _ in 0..5 {
        net.send(client, data(1, vec![0; 9_000]));
    }
    net.send(client, data(3, "chat"));
    assert_eq!(net.received(client), [closed(1, CloseCode::OVERFLOW)]);
    assert_eq!(net.received(server), [closed(2, CloseCode::OVERFLOW), data(4, "chat")]);
    assert!(net.events().contains(&Event::Refused { link: client, code: CloseCode::OVERFLOW }));
    net.send(client, data(1, "late"));
    assert_eq!(net.closes(), []);
    assert_eq!(net.router.stats().channel_ends, 2);
}

#[test]
fn empty_frames_count_too() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    for _ in 0..1_000 {
        net.send(client, data(1, ""));
    }
    assert_eq!(net.received(server), [closed(2, CloseCode::OVERFLOW)]);
}

#[test]
fn too_many_channels_are_refused_one_by_one() {
    let mut net = Net::new(Config { max_channels: 2, ..config() });
    let server = net.server(1);
    let client = net.link();
    for channel in [1, 3, 5] {
        net.send(client, connect(channel, server_id(1)));
    }
    assert_eq!(net.received(client), [closed(5, CloseCode::TRY_AGAIN_LATER)]);
    assert_eq!(net.received(server).len(), 2);
    net.send(client, data(5, "a race"));
    assert_eq!(net.closes(), []);
    net.send(client, close(1, CloseCode::NORMAL));
    net.send(client, connect(7, server_id(1)));
    assert_eq!(net.received(client), []);
}

#[test]
fn refusals_that_nobody_reads_end_the_link() {
    let mut net = Net::new(Config { max_channels: 0, ..config() });
    let client = net.link();
    for number in 0..400 {
        net.send(client, connect(2 * number + 1, server_id(1)));
    }
    assert_eq!(net.closes(), [], "400 are few");
    for number in 400..1_000 {
        net.send(client, connect(2 * number + 1, server_id(1)));
    }
    assert_eq!(net.closes(), [(client, CloseCode::POLICY)]);
    assert_eq!(net.received(client), [error(CloseCode::POLICY)]);
}

#[test]
fn a_server_takes_a_bounded_number_of_channels() {
    let mut net = Net::new(Config { max_incoming: 1, ..config() });
    let (client, server) = net.pair();
    let other = net.link();
    net.send(other, connect(1, server_id(1)));
    assert_eq!(net.received(other), [closed(1, CloseCode::TRY_AGAIN_LATER)]);
    net.send(client, close(1, CloseCode::NORMAL));
    net.received(server);
    net.send(other, connect(3, server_id(1)));
    assert_eq!(net.received(server).len(), 1);
}

#[test]
fn the_waiting_room_is_bounded_for_each_link_and_in_all() {
    let mut net = Net::new(Config { max_waiting: 3, max_waiting_per_link: 2, ..config() });
    let (first, second) = (net.link(), net.link());
    for channel in [1, 3, 5] {
        net.send(first, connect(channel, server_id(1)));
        net.send(second, connect(channel, server_id(1)));
    }
    assert_eq!(net.received(first), [closed(5, CloseCode::TRY_AGAIN_LATER)]);
    let refused = [closed(3, CloseCode::TRY_AGAIN_LATER), closed(5, CloseCode::TRY_AGAIN_LATER)];
    assert_eq!(net.received(second), refused);
    net.hang_up(first);
    assert_eq!(net.router.stats().waiting, 1);
    net.hang_up(second);
    net.assert_empty();
}

#[test]
fn what_waits_counts_as_buffered() {
    let mut net = Net::new(Config { link_buffer: 20_000, ..config() });
    let client = net.link();
    for channel in [1, 3, 5] {
        let payload = Bytes::from(vec![0; 9_000]);
        let (channel, server_id) = (ChannelId(channel), server_id(1));
        net.send(client, Frame::Connect { channel, server_id, port: 1, kind: ChannelKind::Session, payload });
    }
    assert_eq!(net.received(client), [closed(5, CloseCode::TRY_AGAIN_LATER)]);
    assert_eq!(net.router.stats().buffered, 2 * (9_000 + FRAME_OVERHEAD));
    net.advance(Duration::from_secs(2));
    net.received(client);
    assert_eq!(net.router.stats().buffered, 0);
}

#[test]
fn a_frame_over_the_limit_ends_the_link() {
    let mut net = Net::new(config());
    let (client, _) = net.pair();
    net.send(client, data(1, vec![0; 65_536 - 5]));
    assert_eq!(net.closes(), []);
    net.send(client, data(1, vec![0; 65_536 - 4]));
    assert_eq!(net.received(client), [error(CloseCode::TOO_BIG)]);
    assert_eq!(net.closes(), [(client, CloseCode::TOO_BIG)]);
}

#[test]
fn a_limit_that_no_handshake_fits_into_is_raised() {
    let mut net = Net::new(Config { max_frame: 1, ..config() });
    assert_eq!(net.welcomed().1.max_frame, 8_192);
}

/// Opens channels from a client of its own to the server of a pair, and returns the client.
fn flood(net: &mut Net, server: LinkId, channels: u32, bytes: usize) -> LinkId {
    let client = net.link();
    for number in 0..channels {
        net.send(client, connect(2 * number + 1, server_id(1)));
    }
    let offered: Vec<_> = net.received(server).iter().map(Frame::channel).collect();
    for channel in offered {
        net.send(server, accept(channel.0));
    }
    net.received(client);
    for number in 0..channels {
        net.send(client, data(2 * number + 1, vec![0; bytes]));
    }
    client
}

#[test]
fn whoever_fills_a_links_buffer_loses_a_channel_and_a_small_one_gets_through() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    let flooder = flood(&mut net, server, 3, 33_000);
    assert!(net.router.stats().buffered > 99_000);
    net.send(client, data(1, vec![7; 1_000]));
    let lost = net.received(flooder).into_iter().filter(|frame| matches!(frame, Frame::Close { .. })).count();
    assert_eq!((lost, net.received(client)), (1, vec![]));
    assert!(net.received(server).contains(&data(2, vec![7; 1_000])));
}

#[test]
fn whoever_fills_the_relay_loses_a_channel_and_those_of_others_get_through() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    let mut flooders = Vec::new();
    for secret in [2, 3] {
        let receiver = net.server(secret);
        let sender = net.link();
        for channel in [1, 3] {
            net.send(sender, connect(channel, server_id(secret)));
        }
        net.received(receiver);
        for channel in [1, 3] {
            net.send(receiver, accept(channel + 1));
            net.received(sender);
            net.send(sender, data(channel, vec![0; 37_400]));
        }
        net.received(sender);
        flooders.push(sender);
    }
    assert!(net.router.stats().buffered > 149_500);
    net.send(client, data(1, vec![7; 1_000]));
    assert_eq!(net.received(client), []);
    assert_eq!(net.received(server), [data(2, vec![7; 1_000])]);
    let lost: Vec<_> = flooders.into_iter().flat_map(|flooder| net.received(flooder)).collect();
    assert!(matches!(lost[..], [Frame::Close { code: CloseCode::OVERFLOW, .. }]), "{lost:?}");
}

#[test]
fn whoever_has_the_longest_queue_loses_its_own_channel() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    let flooder = flood(&mut net, server, 3, 30_000);
    net.send(client, data(1, vec![7; 39_000]));
    assert_eq!(net.received(client), [closed(1, CloseCode::OVERFLOW)]);
    assert!(net.received(flooder).iter().all(|frame| matches!(frame, Frame::Pause { .. })));
}

#[test]
fn a_channel_that_fills_the_relay_the_other_way_is_lost_whole() {
    let mut net = Net::new(Config { total_buffer: 39_000, ..small() });
    let (client, server) = net.pair();
    net.send(server, data(2, vec![0; 38_000]));
    net.send(client, data(1, vec![0; 2_000]));
    assert_eq!(net.received(server), [closed(2, CloseCode::OVERFLOW)]);
    assert_eq!(net.received(client), [closed(1, CloseCode::OVERFLOW)]);
    assert_eq!((net.router.stats().channel_ends, net.router.stats().buffered), (0, 0));
}

#[test]
fn senders_are_paused_early_when_the_receivers_link_holds_much() {
    let mut net = Net::new(small());
    let (client, server) = net.pair();
    flood(&mut net, server, 3, 18_000);
    net.send(client, data(1, vec![0; 6_000]));
    assert_eq!(net.received(client), [Frame::Pause { channel: ChannelId(1) }]);
}

#[test]
fn no_address_takes_all_places_of_the_waiting_room_and_of_servers() {
    let limits =
        Config { max_waiting: 100, max_waiting_per_address: 3, max_registrations_per_address: 2, ..config() };
    let mut net = Net::new(limits);
    let from = |net: &mut Net, address: &str| {
        net.opened += 1;
        let challenge = StaticKey::from_secret([net.opened; 32]);
        let peer =
            Peer { dialect: Dialect::Tunnel, address: address.to_owned(), url: ORIGIN.to_owned(), challenge };
        let link = net.router.open_link(peer, net.now);
        net.send(link, hello());
        net.received(link);
        link
    };
    let (mut waiting, mut registered) = (Vec::new(), Vec::new());
    // Two of a /64, two more /64 of its /56, two more /56 of its /48, and a stranger.
    let addresses = [
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
        "2001:db8:0:2::1",
        "2001:db8:0:100::1",
        "2001:db8:0:200::1",
        "2001:db8:1::1",
    ];
    for address in addresses {
        let link = from(&mut net, address);
        let before = net.router.stats().waiting;
        for channel in 0..5 {
            net.send(link, connect(1 + 2 * channel, server_id(99)));
        }
        waiting.push(net.router.stats().waiting - before);
        let before = net.router.stats().registrations;
        for _ in 0..3 {
            let link = from(&mut net, address);
            let own = StaticKey::from_secret([net.opened; 32]).public();
            let frame = register(net.opened, &own);
            net.send(link, frame);
        }
        registered.push(net.router.stats().registrations - before);
    }
    assert_eq!(waiting, [3, 0, 3, 0, 3, 3, 3]);
    assert_eq!(registered, [2, 0, 2, 0, 2, 2, 2]);
    net.router.assert_consistent("at the end");
    net.advance(Duration::from_secs(3));
    net.router.assert_consistent("when nobody waits");
}

#[test]
fn a_link_opens_so_many_channels_a_second_and_others_are_not_slowed_down() {
    let mut net = Net::new(Config { connect_rate: 2, ..config() });
    let server = net.server(1);
    let (greedy, other) = (net.link(), net.link());
    let burst = 2 * CONNECT_BURST.as_secs() as u32;
    for number in 0..burst {
        net.send(greedy, connect(2 * number + 1, server_id(1)));
    }
    assert_eq!(net.received(server).len() as u32, burst);
    assert_eq!(net.received(greedy), []);
    net.send(greedy, connect(2 * burst + 1, server_id(1)));
    assert_eq!(net.received(greedy), [closed(2 * burst + 1, CloseCode::TRY_AGAIN_LATER)]);
    net.send(other, connect(1, server_id(1)));
    assert_eq!(net.received(server).len(), 1);
    net.advance(Duration::from_secs(1));
    for number in 0..10 {
        net.send(greedy, connect(2 * burst + 3 + 2 * number, server_id(1)));
    }
    assert_eq!(net.received(server).len(), 2, "two a second");
}

#[test]
fn a_server_gets_so_many_channels_a_second_from_all_links_together() {
    let mut net = Net::new(Config { server_connect_rate: 1, ..config() });
    let (server, another) = (net.server(1), net.server(2));
    let burst = SERVER_CONNECT_BURST.as_secs() as usize;
    let links: Vec<_> = (0..burst + 5).map(|_| net.link()).collect();
    for link in &links {
        net.send(*link, connect(1, server_id(1)));
    }
    assert_eq!(net.received(server).len(), burst);
    assert_eq!(net.received(links[burst]), [closed(1, CloseCode::TRY_AGAIN_LATER)]);
    net.send(links[burst], connect(3, server_id(2)));
    assert_eq!(net.received(another).len(), 1, "that one has a pace of its own");
}
