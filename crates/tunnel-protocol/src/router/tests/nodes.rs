//! Several relays, told by hand which of them has a server: a client at one, a server at another.

use super::*;
use crate::node::{ClusterSecret, NodeFrame};

const ENTRY: usize = 0;
const OWNER: usize = 1;

/// Two relays of one cluster and the link between them.
struct Pair {
    nets: [Net; 2],
    /// The link at the entry, and at the owner.
    node: [LinkId; 2],
}

fn cluster(secret: u8) -> ClusterConfig {
    ClusterConfig::new(ClusterSecret::new(&[secret; 32]).expect("long enough"))
}

fn clustered(node: &str) -> Config {
    Config { node: node.to_owned(), cluster: Some(cluster(1)), ..Config::default() }
}

fn net(config: Config) -> Net {
    let mut net = Net::new(config);
    net.now = Instant::from_micros(1_000_000);
    net
}

impl Net {
    fn node_link(&mut self, side: NodeSide) -> LinkId {
        self.opened += 1;
        let peer = Peer {
            dialect: Dialect::Tunnel,
            address: format!("10.0.0.{}:8089", self.opened),
            url: String::new(),
            challenge: StaticKey::from_secret([100 + self.opened; 32]),
        };
        self.router.open_node_link(peer, side, self.now)
    }
}

impl Pair {
    fn new(entry: Config, owner: Config) -> Self {
        let name = owner.node.clone();
        let mut nets = [net(entry), net(owner)];
        let node =
            [nets[0].node_link(NodeSide::Dialled { node: name }), nets[1].node_link(NodeSide::Accepted)];
        let mut pair = Self { nets, node };
        pair.pump();
        pair
    }

    /// Brings all that the two relays have for each other.
    fn pump(&mut self) {
        while self.carry(ENTRY, usize::MAX) + self.carry(OWNER, usize::MAX) > 0 {}
    }

    /// Brings some frames from one relay to the other; returns the number of them.
    fn carry(&mut self, from: usize, max: usize) -> usize {
        let mut moved = 0;
        while moved < max
            && let Some(Transmit::Binary(message)) = self.nets[from].router.poll_transmit(self.node[from])
        {
            let (to, link) = (&mut self.nets[1 - from], self.node[1 - from]);
            to.send_bytes(link, &message);
            moved += 1;
        }
        for net in &self.nets {
            net.router.assert_consistent("while frames are brought");
        }
        moved
    }

    /// A client at the entry whose channel 1 is open with a server at the owner, where it is 2.
    fn spliced(&mut self) -> (LinkId, LinkId) {
        let server = self.nets[OWNER].server(1);
        let client = self.nets[ENTRY].link();
        self.nets[ENTRY].send(client, connect(1, server_id(1)));
        assert!(self.nets[ENTRY].router.handle_route(&server_id(1), self.node[ENTRY]));
        self.pump();
        assert_eq!(self.nets[OWNER].received(server).len(), 1, "INCOMING");
        self.nets[OWNER].send(server, accept(2));
        self.pump();
        assert_eq!(self.nets[ENTRY].received(client), [accept(1)]);
        (client, server)
    }

    fn assert_empty(mut self) {
        for (net, node) in self.nets.iter_mut().zip(self.node) {
            net.hang_up(node);
            net.assert_empty();
        }
    }
}

#[test]
fn a_client_at_one_relay_reaches_a_server_at_another_with_its_own_address() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let server = pair.nets[OWNER].server(1);
    let client = pair.nets[ENTRY].link();
    pair.nets[ENTRY].events();
    pair.nets[ENTRY].send(client, connect(1, server_id(1)));
    assert!(pair.nets[ENTRY].events().contains(&Event::Wanted { server_id: server_id(1) }));
    assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), pair.node[ENTRY]));
    pair.pump();
    let incoming = Frame::Incoming {
        channel: ChannelId(2),
        port: 1337,
        kind: ChannelKind::Session,
        address: "192.0.2.2:1000".to_owned(),
        payload: Bytes::from_static(b"first"),
    };
    assert_eq!(pair.nets[OWNER].received(server), [incoming]);
    pair.nets[OWNER].send(server, accept(2));
    pair.nets[OWNER].send(server, data(2, "welcome"));
    pair.pump();
    assert_eq!(pair.nets[ENTRY].received(client), [accept(1), data(1, "welcome")]);
    for text in ["one", "two", "three"] {
        pair.nets[ENTRY].send(client, data(1, text));
    }
    pair.pump();
    assert_eq!(pair.nets[OWNER].received(server), [data(2, "one"), data(2, "two"), data(2, "three")]);
    pair.nets[ENTRY].send(client, data(1, "last"));
    pair.nets[ENTRY].send(client, close(1, CloseCode(4_000)));
    pair.pump();
    assert_eq!(pair.nets[OWNER].received(server), [data(2, "last"), closed(2, CloseCode(4_000))]);
    let stats = [ENTRY, OWNER].map(|at| pair.nets[at].router.stats());
    assert_eq!((stats[ENTRY].spliced_out, stats[OWNER].spliced_in), (1, 1));
    assert_eq!((stats[ENTRY].frames_from_owners, stats[OWNER].frames_from_entries), (2, 4));
    assert_eq!((stats[ENTRY].channel_ends, stats[OWNER].channel_ends), (0, 0));
    pair.nets[ENTRY].hang_up(client);
    pair.nets[OWNER].hang_up(server);
    pair.assert_empty();
}

#[test]
fn a_slow_receiver_pauses_the_sender_through_both_relays_and_lets_it_go_on() {
    for (from, to) in [(ENTRY, OWNER), (OWNER, ENTRY)] {
        let mut pair = Pair::new(clustered("a"), clustered("b"));
        let (client, server) = pair.spliced();
        let links = [client, server];
        let mut sent = 0;
        let pause = loop {
            let payload = format!("{sent:010}").repeat(1_000);
            pair.nets[from].send(links[from], data(if from == ENTRY { 1 } else { 2 }, payload));
            sent += 1;
            pair.pump();
            if let Some(frame) = pair.nets[from].take(links[from]) {
                break frame;
            }
            assert!(sent < 200, "nobody is paused");
        };
        assert_eq!(pause, Frame::Pause { channel: ChannelId(if from == ENTRY { 1 } else { 2 }) });
        let held = [ENTRY, OWNER].map(|at| pair.nets[at].router.stats().buffered);
        assert!(held.iter().all(|held| (200_000..400_000).contains(held)), "{held:?}");
        let mut got = 0;
        let mut resumed = false;
        while got < sent {
            let Some(frame) = pair.nets[to].take(links[to]) else {
                pair.pump();
                continue;
            };
            let Frame::Data { payload, .. } = frame else { panic!("{frame:?}") };
            assert_eq!(payload, format!("{got:010}").repeat(1_000), "in order");
            got += 1;
            pair.pump();
            resumed |=
                pair.nets[from].take(links[from]).is_some_and(|frame| matches!(frame, Frame::Resume { .. }));
        }
        assert!(resumed);
        assert_eq!([ENTRY, OWNER].map(|at| pair.nets[at].router.stats().buffered), [0, 0]);
    }
}

#[test]
fn what_waits_behind_a_pause_arrives_before_the_close() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let (client, server) = pair.spliced();
    let sent = 80;
    for number in 0..sent {
        pair.nets[ENTRY].send(client, data(1, format!("{number:010}").repeat(1_000)));
        pair.pump();
    }
    pair.nets[ENTRY].send(client, close(1, CloseCode(4_001)));
    pair.nets[ENTRY].hang_up(client);
    let mut got = Vec::new();
    while got.len() <= sent {
        pair.pump();
        got.push(pair.nets[OWNER].take(server).expect("all of it comes"));
    }
    assert_eq!(wordless(got.pop().expect("CLOSE")), closed(2, CloseCode(4_001)));
    assert!(got.iter().enumerate().all(|(number, frame)| {
        matches!(frame, Frame::Data { payload, .. } if payload.starts_with(format!("{number:010}").as_bytes()))
    }));
    pair.nets[OWNER].hang_up(server);
    pair.assert_empty();
}

#[test]
fn a_small_message_of_one_channel_passes_the_large_ones_of_another() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let (client, server) = pair.spliced();
    let other = pair.nets[ENTRY].link();
    pair.nets[ENTRY].send(other, connect(1, server_id(1)));
    assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), pair.node[ENTRY]));
    pair.pump();
    assert_eq!(pair.nets[OWNER].received(server).len(), 1, "INCOMING");
    pair.nets[OWNER].send(server, accept(4));
    pair.pump();
    for _ in 0..20 {
        pair.nets[ENTRY].send(client, data(1, vec![0; 10_000]));
    }
    pair.nets[ENTRY].send(other, data(1, "small"));
    pair.carry(ENTRY, 8);
    assert!(pair.nets[OWNER].received(server).contains(&data(4, "small")));
}

#[test]
fn a_link_between_relays_that_breaks_closes_both_ends_with_peer_gone() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let (client, server) = pair.spliced();
    for at in [ENTRY, OWNER] {
        let link = pair.node[at];
        pair.nets[at].hang_up(link);
    }
    assert_eq!(pair.nets[ENTRY].received(client), [closed(1, CloseCode::PEER_GONE)]);
    assert_eq!(pair.nets[OWNER].received(server), [closed(2, CloseCode::PEER_GONE)]);
    pair.nets[ENTRY].hang_up(client);
    pair.nets[OWNER].hang_up(server);
    pair.assert_empty();
}

#[test]
fn a_relay_that_falls_silent_is_given_up_after_five_seconds() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let (client, _) = pair.spliced();
    let mut silent = Duration::ZERO;
    pair.nets[ENTRY].events();
    while pair.nets[ENTRY].closes().is_empty() {
        pair.nets[ENTRY].advance(Duration::from_millis(100));
        silent += Duration::from_millis(100);
        assert!(silent < Duration::from_secs(6));
    }
    assert!(silent > Duration::from_secs(4), "{silent:?}");
    let node = pair.node[ENTRY];
    pair.nets[ENTRY].hang_up(node);
    assert_eq!(pair.nets[ENTRY].received(client), [closed(1, CloseCode::PEER_GONE)]);
}

#[test]
fn relays_that_answer_keep_an_idle_link() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    for _ in 0..600 {
        for at in [ENTRY, OWNER] {
            pair.nets[at].advance(Duration::from_millis(100));
        }
        pair.pump();
    }
    assert!([ENTRY, OWNER].iter().all(|at| pair.nets[*at].closes().is_empty()));
    assert_eq!([ENTRY, OWNER].map(|at| pair.nets[at].router.stats().node_links), [1, 1]);
}

#[test]
fn a_server_that_has_left_its_relay_is_looked_for_again_and_never_forwarded_twice() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let client = pair.nets[ENTRY].link();
    pair.nets[ENTRY].send(client, connect(1, server_id(1)));
    assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), pair.node[ENTRY]));
    pair.pump();
    assert_eq!(pair.nets[ENTRY].received(client), [closed(1, CloseCode::PEER_GONE)]);
    let wanted = |event: &Event| matches!(event, Event::Wanted { .. });
    assert!(!pair.nets[OWNER].events().iter().any(wanted), "one hop");
}

#[test]
fn a_client_without_a_server_hears_not_found_only_when_all_relays_are_certain() {
    let mut net = net(clustered("a"));
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    net.advance(Duration::from_millis(1_900));
    net.router.handle_absent(&server_id(1), true, net.now);
    assert_eq!(net.received(client), [], "it has not waited long enough");
    net.advance(Duration::from_millis(200));
    net.router.handle_absent(&server_id(1), true, net.now);
    assert_eq!(net.received(client), [closed(1, CloseCode::SERVER_NOT_FOUND)]);
    net.send(client, connect(3, server_id(1)));
    net.advance(Duration::from_millis(2_100));
    net.router.handle_absent(&server_id(1), false, net.now);
    assert_eq!(net.received(client), [closed(3, CloseCode::TRY_AGAIN_LATER)]);
    net.send(client, connect(5, server_id(1)));
    net.advance(Duration::from_secs(14));
    assert_eq!(net.received(client), [closed(5, CloseCode::TRY_AGAIN_LATER)], "nobody said anything");
    net.hang_up(client);
    net.assert_empty();
}

#[test]
fn a_relay_without_a_cluster_says_not_found_by_itself_and_takes_no_relays_in() {
    let mut net = net(config());
    let client = net.link();
    net.send(client, connect(1, server_id(1)));
    assert!(!net.events().iter().any(|event| matches!(event, Event::Wanted { .. })));
    net.advance(Duration::from_secs(2));
    assert_eq!(net.received(client), [closed(1, CloseCode::SERVER_NOT_FOUND)]);
    let node = net.node_link(NodeSide::Accepted);
    assert_eq!(net.closes(), [(node, CloseCode::POLICY)]);
}

#[test]
fn a_fence_ends_the_link_that_is_meant_and_no_newer_one() {
    let mut net = net(clustered("a"));
    let old = net.server(1);
    let new = net.server(1);
    net.closes();
    net.router.handle_fence(&server_id(1), old, CloseCode::ID_TAKEN_OVER);
    assert_eq!(net.closes(), [], "the page has registered again meanwhile");
    net.router.handle_fence(&server_id(1), new, CloseCode::ID_TAKEN_OVER);
    assert_eq!(net.closes(), [(new, CloseCode::ID_TAKEN_OVER)]);
    assert_eq!(net.received(new), [closed(0, CloseCode::ID_TAKEN_OVER)]);
    assert_eq!(net.router.stats().registrations, 0);
}

/// The frames between two relays after the handshake was disturbed, and whether the links are in use.
fn disturbed(entry: Config, owner: Config) -> ([usize; 2], Vec<CloseCode>) {
    let mut pair = Pair::new(entry, owner);
    let codes = pair.nets.iter_mut().flat_map(|net| net.closes()).map(|(_, code)| code).collect();
    ([ENTRY, OWNER].map(|at| pair.nets[at].router.stats().node_links), codes)
}

#[test]
fn a_relay_with_another_secret_another_name_or_another_longest_frame_is_no_relay() {
    let other_secret = Config { cluster: Some(cluster(2)), ..clustered("a") };
    assert_eq!(disturbed(other_secret, clustered("b")), ([0, 0], vec![CloseCode::BAD_CREDENTIAL; 2]));
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let stranger = pair.nets[ENTRY].node_link(NodeSide::Dialled { node: "c".to_owned() });
    pair.nets[ENTRY].send_bytes(
        stranger,
        &NodeFrame::Challenge { max_frame: 65_536, challenge: [1; 32], node: "b".into() }.encode(),
    );
    assert!(pair.nets[ENTRY].closes().contains(&(stranger, CloseCode::PROTOCOL_ERROR)));
    let shorter = Config { max_frame: 20_000, ..clustered("b") };
    assert_eq!(disturbed(clustered("a"), shorter).0, [0, 0]);
}

#[test]
fn an_owner_that_does_not_know_the_secret_gets_no_client() {
    let mut net = net(clustered("a"));
    let node = net.node_link(NodeSide::Dialled { node: "b".to_owned() });
    let challenge = NodeFrame::Challenge { max_frame: 65_536, challenge: [1; 32], node: "b".into() };
    net.send_bytes(node, &challenge.encode());
    assert!(net.router.poll_transmit(node).is_some(), "PROOF");
    net.send_bytes(node, &NodeFrame::Proven { proof: [0; 32] }.encode());
    assert_eq!(net.closes(), [(node, CloseCode::BAD_CREDENTIAL)]);
    assert!(!net.router.handle_route(&server_id(1), node));
}

#[test]
fn a_recorded_handshake_is_worth_nothing_on_another_link() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    // The entry's frames of another handshake, recorded.
    let dialled = pair.nets[ENTRY].node_link(NodeSide::Dialled { node: "b".to_owned() });
    let accepted = pair.nets[OWNER].node_link(NodeSide::Accepted);
    let Some(Transmit::Binary(challenge)) = pair.nets[OWNER].router.poll_transmit(accepted) else { panic!() };
    pair.nets[ENTRY].send_bytes(dialled, &challenge);
    let Some(Transmit::Binary(proof)) = pair.nets[ENTRY].router.poll_transmit(dialled) else { panic!() };
    let replayed = pair.nets[OWNER].node_link(NodeSide::Accepted);
    pair.nets[OWNER].send_bytes(replayed, &proof);
    assert!(pair.nets[OWNER].closes().contains(&(replayed, CloseCode::BAD_CREDENTIAL)));
}

#[test]
fn before_the_proof_and_out_of_place_every_frame_is_a_violation() {
    let key = *server_id(1).key().expect("a key");
    let forward = NodeFrame::Forward {
        channel: ChannelId(1),
        server_id: server_id(1),
        port: 1,
        kind: ChannelKind::Session,
        address: String::new(),
        payload: Bytes::new(),
    };
    let frames = [
        hello().encode(),
        connect(1, server_id(1)).encode(),
        Frame::Register { key, proof: [0; 32], url: String::new() }.encode(),
        data(1, "x").encode(),
        accept(1).encode(),
        Frame::Pause { channel: ChannelId(1) }.encode(),
        forward.encode(),
        NodeFrame::Bus { is_well: true }.encode(),
        NodeFrame::Proven { proof: [0; 32] }.encode(),
    ];
    for message in &frames {
        let mut net = net(clustered("b"));
        let node = net.node_link(NodeSide::Accepted);
        net.send_bytes(node, message);
        assert_eq!(net.closes(), [(node, CloseCode::PROTOCOL_ERROR)], "{message:?}");
    }
    // And after it, but for what the link is there for.
    for message in frames.iter().take(5) {
        let mut pair = Pair::new(clustered("a"), clustered("b"));
        let node = pair.node[OWNER];
        pair.nets[OWNER].send_bytes(node, message);
        assert!(pair.nets[OWNER].closes().contains(&(node, CloseCode::PROTOCOL_ERROR)), "{message:?}");
    }
    let mut net = net(clustered("b"));
    let page = net.link();
    net.send_bytes(page, &forward.encode());
    assert_eq!(net.closes(), [(page, CloseCode::PROTOCOL_ERROR)], "a page is no relay");
}

#[test]
fn a_page_that_sends_pause_is_no_relay() {
    let mut net = Net::new(config());
    let (client, _) = net.pair();
    net.send(client, Frame::Pause { channel: ChannelId(1) });
    assert_eq!(net.closes(), [(client, CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_link_whose_numbers_end_is_replaced_and_ends_with_its_last_channel() {
    let worn = ClusterConfig { last_node_channel: 4, ..cluster(1) };
    let mut pair = Pair::new(Config { cluster: Some(worn), ..clustered("a") }, clustered("b"));
    let server = pair.nets[OWNER].server(1);
    let client = pair.nets[ENTRY].link();
    let node = pair.node[ENTRY];
    for channel in [1, 3] {
        pair.nets[ENTRY].send(client, connect(channel, server_id(1)));
        assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), node));
    }
    pair.nets[ENTRY].send(client, connect(5, server_id(1)));
    assert!(!pair.nets[ENTRY].router.handle_route(&server_id(1), node), "another one has to be dialled");
    pair.pump();
    assert_eq!(pair.nets[OWNER].received(server).len(), 2, "those that have a channel keep it");
    pair.nets[ENTRY].closes();
    for channel in [1, 3] {
        pair.nets[ENTRY].send(client, close(channel, CloseCode::NORMAL));
        pair.pump();
    }
    assert_eq!(pair.nets[ENTRY].closes(), [(node, CloseCode::NORMAL)]);
}

#[test]
fn one_link_between_relays_has_room_for_more_channels_and_bytes_than_a_page_and_loses_the_longest_queue_first()
 {
    let tight = ClusterConfig { node_buffer: 300_000, max_node_channels: 40, ..cluster(1) };
    let entry = Config { max_incoming: 2, link_buffer: 10_000, cluster: Some(tight), ..clustered("a") };
    let mut pair = Pair::new(entry, Config { max_channels: 2, ..clustered("b") });
    let (greedy, server) = pair.spliced();
    let modest = pair.nets[ENTRY].link();
    for channel in 0..45 {
        pair.nets[ENTRY].send(modest, connect(2 * channel + 1, server_id(1)));
    }
    assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), pair.node[ENTRY]));
    pair.pump();
    assert_eq!(pair.nets[ENTRY].received(modest).len(), 6, "39 beside the first one");
    pair.nets[OWNER].received(server);
    pair.nets[OWNER].send(server, accept(4));
    pair.pump();
    // The owner wants a pause, which the greedy one ignores: the queue at the entry grows behind it.
    let node = pair.node[ENTRY];
    pair.nets[ENTRY].send(node, Frame::Pause { channel: ChannelId(1) });
    for _ in 0..28 {
        pair.nets[ENTRY].send(greedy, data(1, vec![0; 10_000]));
    }
    assert_eq!(
        pair.nets[ENTRY].received(greedy),
        [Frame::Pause { channel: ChannelId(1) }],
        "within the limits"
    );
    pair.nets[ENTRY].send(modest, data(1, vec![0; 30_000]));
    pair.nets[ENTRY].router.assert_consistent("full");
    assert_eq!(pair.nets[ENTRY].received(greedy), [closed(1, CloseCode::OVERFLOW)]);
    pair.pump();
    let arrived = pair.nets[OWNER].received(server);
    assert!(arrived.contains(&data(4, vec![0; 30_000])) && arrived.contains(&closed(2, CloseCode::OVERFLOW)));
}

#[test]
fn a_relay_that_ends_lets_its_node_links_go_with_their_last_channel() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    let (client, server) = pair.spliced();
    let now = pair.nets[OWNER].now;
    pair.nets[OWNER].router.drain(Duration::from_secs(30), now);
    pair.pump();
    assert_eq!(pair.nets[OWNER].received(server), [Frame::GoAway { deadline: Duration::from_secs(30) }]);
    pair.nets[ENTRY].send(client, connect(3, server_id(1)));
    assert!(pair.nets[ENTRY].router.handle_route(&server_id(1), pair.node[ENTRY]));
    pair.pump();
    assert_eq!(pair.nets[ENTRY].received(client), [closed(3, CloseCode::PEER_GONE)], "ask again, elsewhere");
    pair.nets[OWNER].closes();
    pair.nets[OWNER].hang_up(server);
    assert_eq!(pair.nets[OWNER].closes(), [], "CLOSE is not sent yet");
    pair.pump();
    assert_eq!(pair.nets[OWNER].closes(), [(pair.node[OWNER], CloseCode::NORMAL)]);
    let node = pair.node[OWNER];
    pair.nets[OWNER].hang_up(node);
    assert!(pair.nets[OWNER].events().contains(&Event::Drained));
    assert_eq!(pair.nets[ENTRY].received(client), [closed(1, CloseCode::PEER_GONE)]);
}

#[test]
fn relays_tell_each_other_whether_the_bus_is_well() {
    let mut pair = Pair::new(clustered("a"), clustered("b"));
    assert!(!pair.nets[ENTRY].router.is_bus_well_elsewhere(), "not known yet");
    for is_well in [true, false, true] {
        pair.nets[OWNER].router.tell_of_bus(is_well);
        pair.pump();
        assert_eq!(pair.nets[ENTRY].router.is_bus_well_elsewhere(), is_well);
    }
}
