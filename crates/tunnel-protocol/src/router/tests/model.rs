//! Random peers against what must hold whatever they do.
//!
//! Every peer keeps its own books. Data carries its channel's tag, its direction and a number, so that whatever is lost,
//! doubled, swapped or delivered to a stranger is seen by whoever gets it; and the router's books are added up
//! after every step.

use super::*;
use crate::codec::Reader;
use bytes::BufMut;

/// SplitMix64: the same steps for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let from: Vec<_> = from.into_iter().collect();
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// A peer that keeps to the protocol, but for PAUSE.
#[derive(Debug)]
struct Peer {
    link: LinkId,
    challenge: PublicKey,
    key: Option<u8>,
    channels: BTreeMap<ChannelId, Channel>,
    next_connect: u32,
    last_incoming: u32,
    over: bool,
}

#[derive(Debug, Default)]
struct Channel {
    tag: u64,
    accepted: bool,
    sent: u32,
    got: u32,
    paused: bool,
}

struct World {
    net: Net,
    dice: Dice,
    peers: Vec<Peer>,
    tags: u64,
    delivered: usize,
}

const KEYS: u8 = 3;
const LIMIT: usize = 30_000;

fn tight() -> Config {
    Config {
        max_channels: 6,
        max_incoming: 8,
        channel_buffer: 4_000,
        channel_high: 2_000,
        channel_low: 500,
        link_buffer: 12_000,
        total_buffer: LIMIT,
        max_waiting: 4,
        max_waiting_per_link: 2,
        livecode: Some(LivecodeConfig::new("secret", [9; 32])),
        ..config()
    }
}

#[test]
fn random_peers_lose_nothing_see_nothing_of_others_and_leave_nothing_behind() {
    let mut delivered = 0;
    for seed in 0..150 {
        let mut world =
            World { net: Net::new(tight()), dice: Dice(seed), peers: Vec::new(), tags: 0, delivered: 0 };
        for step in 0..400 {
            world.step();
            world.net.router.assert_consistent(&format!("seed {seed}, step {step}"));
        }
        world.settle();
        delivered += world.delivered;
    }
    assert!(delivered > 5_000, "the peers talked too little to prove anything: {delivered}");
}

impl World {
    fn step(&mut self) {
        let number = self.dice.below(100);
        let peer = self.dice.below(self.peers.len().max(1));
        if self.peers.len() < 3 || number < 4 && self.peers.len() < 8 {
            self.join();
        } else if number < 5 && self.dice.below(2) == 0 {
            self.hang_up(peer);
        } else if number < 10 {
            self.register(peer);
        } else if number < 22 {
            self.connect(peer);
        } else if number < 34 {
            self.answer();
        } else if number < 66 {
            self.send();
        } else if number < 70 {
            self.close(peer);
        } else if number < 94 {
            let frames = 1 + self.dice.below(8);
            self.take(peer, frames);
        } else if number < 98 {
            self.net.advance(Duration::from_millis(self.dice.below(4_000) as u64));
        } else {
            self.intrude();
        }
        self.see_closes();
    }

    fn join(&mut self) {
        self.net.opened %= 200;
        let (link, welcome) = self.net.welcomed();
        self.peers.push(Peer {
            link,
            challenge: welcome.challenge,
            key: None,
            channels: BTreeMap::new(),
            next_connect: 1,
            last_incoming: 0,
            over: false,
        });
    }

    fn hang_up(&mut self, peer: usize) {
        let peer = self.peers.swap_remove(peer);
        self.net.hang_up(peer.link);
    }

    fn register(&mut self, peer: usize) {
        let secret = self.peers[peer].key.unwrap_or_else(|| self.dice.below(KEYS.into()) as u8);
        let is_taken = self.peers.iter().any(|other| other.key == Some(secret));
        // A takeover ends a link with all its channels: mostly they may go on.
        if self.peers[peer].key.is_none() && is_taken && self.dice.below(10) > 0 {
            return;
        }
        let Peer { link, challenge, key, .. } = &mut self.peers[peer];
        *key = Some(secret);
        self.net.send(*link, register(secret, challenge));
    }

    fn connect(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        let channel = ChannelId(peer.next_connect);
        peer.next_connect += 2 * (1 + self.dice.below(2) as u32);
        self.tags += 1;
        peer.channels.insert(channel, Channel { tag: self.tags, ..Channel::default() });
        let payload = Bytes::copy_from_slice(&self.tags.to_be_bytes());
        let server_id = server_id(self.dice.below(KEYS.into()) as u8);
        let frame = Frame::Connect { channel, server_id, port: 1, kind: ChannelKind::Session, payload };
        self.net.send(peer.link, frame);
    }

    /// Any of all peers' channels that are `such`.
    fn pick(&mut self, such: impl Fn(ChannelId, &Channel) -> bool) -> Option<(usize, ChannelId)> {
        let mut found = Vec::new();
        for (number, peer) in self.peers.iter().enumerate() {
            let channels = peer.channels.iter().filter(|(id, channel)| such(**id, channel));
            found.extend(channels.map(|(id, _)| (number, *id)));
        }
        self.dice.pick(found)
    }

    /// Accepts or refuses a client.
    fn answer(&mut self) {
        let Some((peer, id)) = self.pick(|id, channel| id.0 % 2 == 0 && !channel.accepted) else { return };
        let peer = &mut self.peers[peer];
        if self.dice.below(5) == 0 {
            peer.channels.remove(&id);
            self.net.send(peer.link, close(id.0, CloseCode::REFUSED));
        } else {
            peer.channels.get_mut(&id).expect("picked").accepted = true;
            self.net.send(peer.link, accept(id.0));
        }
    }

    fn send(&mut self) {
        let Some((peer, id)) = self.pick(|_, channel| channel.accepted) else { return };
        let peer = &mut self.peers[peer];
        let channel = peer.channels.get_mut(&id).expect("picked");
        if channel.paused && self.dice.below(4) > 0 {
            return;
        }
        let mut payload = BytesMut::new();
        payload.put_u64(channel.tag);
        payload.put_u8((id.0 % 2) as u8);
        payload.put_u32(channel.sent);
        payload.put_bytes(0, self.dice.below(600));
        channel.sent += 1;
        self.net.send(peer.link, data(id.0, payload));
    }

    /// Closes a channel, and says how much was sent on it before.
    fn close(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        let Some(id) = self.dice.pick(peer.channels.keys().copied()) else { return };
        let sent = peer.channels.remove(&id).expect("picked").sent;
        let (code, reason) = (CloseCode::NORMAL, sent.to_string());
        self.net.send(peer.link, Frame::Close { channel: id, code, reason });
    }

    fn take(&mut self, peer: usize, frames: usize) {
        for _ in 0..frames {
            let Some(frame) = self.net.take(self.peers[peer].link) else { return };
            self.got(peer, frame);
        }
    }

    /// Checks a frame against the peer's books.
    fn got(&mut self, peer: usize, frame: Frame) {
        let peer = &mut self.peers[peer];
        match frame {
            Frame::Registered { server_id: id } => {
                assert_eq!(Some(id), peer.key.map(server_id));
            }
            Frame::Incoming { channel, payload, .. } => {
                assert!(channel.0.is_multiple_of(2) && channel.0 > peer.last_incoming);
                peer.last_incoming = channel.0;
                let tag = u64::from_be_bytes(payload[..].try_into().expect("a tag"));
                peer.channels.insert(channel, Channel { tag, ..Channel::default() });
            }
            Frame::Accept { channel, .. } => {
                let Some(channel) = peer.channels.get_mut(&channel) else { return };
                assert!(!std::mem::replace(&mut channel.accepted, true));
            }
            Frame::Data { channel: id, payload } => {
                let Some(channel) = peer.channels.get_mut(&id) else {
                    panic!("DATA on {id}, which is closed")
                };
                assert!(channel.accepted);
                let mut reader = Reader::new(payload);
                let tag = (reader.u64("tag"), reader.u8("side"), reader.u32("number"));
                assert_eq!(reader.check(), Ok(()));
                assert_eq!(tag, (channel.tag, 1 - (id.0 % 2) as u8, channel.got));
                channel.got += 1;
                self.delivered += 1;
            }
            Frame::Close { channel: ChannelId::LINK, .. } => peer.over = true,
            Frame::Close { channel: id, code, reason } => match peer.channels.remove(&id) {
                Some(channel) if code == CloseCode::NORMAL => {
                    assert_eq!(reason, channel.got.to_string(), "what was sent before CLOSE comes before it");
                }
                Some(_) => {}
                // The router keeps nothing of channels over the limit, not even that the peer has given up.
                None => assert_eq!(code, CloseCode::TRY_AGAIN_LATER),
            },
            Frame::Pause { channel: id } | Frame::Resume { channel: id } => {
                let channel = peer.channels.get_mut(&id).expect("flow is about open channels");
                channel.paused = !channel.paused;
                assert_eq!(channel.paused, matches!(frame, Frame::Pause { .. }), "they alternate");
            }
            Frame::Ping { nonce } => self.net.send(peer.link, Frame::Pong { nonce }),
            frame => panic!("{frame:?}"),
        }
    }

    /// A peer that keeps to nothing.
    fn intrude(&mut self) {
        let texts = self.dice.below(2) == 0;
        let link = self.net.open(if texts { Dialect::Livecode } else { Dialect::Tunnel });
        self.net.send(link, hello());
        for _ in 0..self.dice.below(20) {
            let channel = self.dice.below(6) as u32;
            let key = server_id(self.dice.below(KEYS.into()) as u8);
            let frame = match self.dice.below(8) {
                0 => data(channel.max(1), "intruder"),
                1 => accept(channel.max(1)),
                2 => close(channel, CloseCode::NORMAL),
                3 => Frame::Register { key: *key.key().expect("a key"), proof: [0; 32], url: String::new() },
                4..7 => connect(channel.max(1), key),
                _ => Frame::Ping { nonce: 1 },
            };
            if texts {
                let command = match self.dice.below(3) {
                    0 => format!(r#"{{"instruction":"connect to server","parameters":["{key}",1]}}"#),
                    1 => {
                        format!(r#"{{"instruction":"forward to server","parameters":["{key}","intruder"]}}"#)
                    }
                    _ => r#"{"instruction":"forward to client","parameters":[2,"intruder"]}"#.to_owned(),
                };
                self.net.router.handle_text(link, &command, self.net.now);
            } else {
                self.net.send(link, frame);
            }
        }
        self.net.hang_up(link);
    }

    /// Nobody who keeps to the protocol is sent away, but for silence and for a newer link with the same key.
    fn see_closes(&mut self) {
        for (link, code) in self.net.closes() {
            if let Some(peer) = self.peers.iter().position(|peer| peer.link == link) {
                assert!(matches!(code, CloseCode::ID_TAKEN_OVER | CloseCode::TIMEOUT), "{code}");
                self.take(peer, usize::MAX);
                assert!(self.peers[peer].over);
                self.hang_up(peer);
            }
        }
        assert!(
            self.net.router.stats().buffered <= LIMIT + 8_000,
            "CLOSE and WELCOME are queued in any case"
        );
    }

    /// All take what there is for them: then nothing that was sent on a channel that is still open is missing.
    fn settle(&mut self) {
        // Twice: what one peer takes has another one told to go on.
        for peer in (0..self.peers.len()).chain(0..self.peers.len()) {
            self.take(peer, usize::MAX);
        }
        assert_eq!(self.net.router.stats().buffered, self.net.router.waiting_cost());
        let mut sent: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        for peer in &self.peers {
            for (id, channel) in &peer.channels {
                sent.insert((channel.tag, id.0 % 2), channel.sent);
            }
        }
        for peer in &self.peers {
            for (id, channel) in peer.channels.iter().filter(|(_, channel)| channel.accepted) {
                assert_eq!(sent.get(&(channel.tag, 1 - id.0 % 2)), Some(&channel.got));
                assert!(!channel.paused, "all has been taken");
            }
        }
        while !self.peers.is_empty() {
            self.hang_up(0);
        }
        self.net.assert_empty();
    }
}
