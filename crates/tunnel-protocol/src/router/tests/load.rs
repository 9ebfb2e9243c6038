//! The load that the router reports, and the time that frames have waited.

use super::*;

#[test]
fn the_wait_of_a_frame_is_measured_from_its_arrival_to_its_departure() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    assert_eq!(net.router.poll_waited(), Some(net.now), "ACCEPT was forwarded, too");
    assert_eq!(net.router.poll_waited(), None);
    let arrival = net.now;
    net.send(client, data(1, "first"));
    net.advance(Duration::from_millis(5));
    net.send(client, data(1, "second"));
    net.send(client, data(1, "third"));
    net.take(server);
    assert_eq!(net.router.poll_waited(), Some(arrival));
    assert_eq!(net.router.poll_waited(), None, "said once");
    net.received(server);
    assert_eq!(net.router.poll_waited(), None, "one at a time is measured");
}

#[test]
fn a_frame_that_is_measured_may_have_others_before_it() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, data(1, "measured"));
    net.send(client, data(1, "not measured"));
    net.take(server);
    net.router.poll_waited();
    net.advance(Duration::from_millis(3));
    let arrival = net.now;
    net.send(client, data(1, "behind one"));
    net.take(server);
    assert_eq!(net.router.poll_waited(), None);
    net.take(server);
    assert_eq!(net.router.poll_waited(), Some(arrival));
}

#[test]
fn of_several_channels_the_longest_wait_is_told() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, connect(3, server_id(1)));
    net.received(server);
    net.send(server, accept(4));
    net.received(client);
    net.send(client, data(3, "early"));
    let early = net.now;
    net.advance(Duration::from_millis(1));
    net.send(client, data(1, "late"));
    net.received(server);
    assert_eq!(net.router.poll_waited(), Some(early));
}

#[test]
fn frames_of_a_lost_channel_are_not_measured() {
    let mut net = Net::new(Config { channel_buffer: 1_000, ..config() });
    let (client, server) = net.pair();
    net.router.poll_waited();
    net.send(client, data(1, "waits"));
    net.send(client, data(1, vec![0; 2_000]));
    assert_eq!(net.received(server), [closed(2, CloseCode::OVERFLOW)]);
    assert_eq!(net.router.poll_waited(), None);
}

#[test]
fn the_load_shows_who_is_behind_and_what_is_held() {
    let mut net = Net::new(config());
    let quiet = Load { links_waiting: 0, longest_queue: 0, paused: 0, ..net.router.load() };
    assert_eq!(net.router.load(), quiet);
    let (client, server) = net.pair();
    let before = net.router.load();
    assert_eq!((before.links_waiting, before.longest_queue, before.paused), (0, 0, 0));
    assert!(before.links_memory > quiet.links_memory && before.channels_memory > quiet.channels_memory);
    assert!(before.registrations_memory > quiet.registrations_memory);
    for _ in 0..6 {
        net.send(client, data(1, vec![0; 50_000]));
    }
    assert!(matches!(net.received(client)[..], [Frame::Pause { .. }]));
    let behind = net.router.load();
    assert_eq!((behind.links_waiting, behind.paused), (1, 1));
    assert_eq!(behind.longest_queue, net.router.stats().buffered);
    net.received(server);
    net.received(client);
    let after = net.router.load();
    assert_eq!((after.links_waiting, after.longest_queue, after.paused), (0, 0, 0));
}
