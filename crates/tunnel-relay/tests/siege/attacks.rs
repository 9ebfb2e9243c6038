//! The attacks. Each returns when the relay has dealt with all of it.

use crate::Siege;
use crate::pair::SERVER;
use crate::support::{
    Peer, Received, accept, close, code, connect, data, hello, key, raw_frame, request, within,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tunnel_protocol::{ChannelId, CloseCode, Frame, registration};

/// The number of attackers that are at it at once, where it is not all of them.
const AT_ONCE: usize = 50;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const BINARY_TO_BE_CONTINUED: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// Numbers that look random and are the same on every run.
struct Noise(u64);

impl Noise {
    fn new(seed: usize) -> Self {
        Self((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as usize % below
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next(256) as u8).collect()
    }
}

/// Runs `attack` for each number, some at a time.
async fn each<F>(count: usize, at_once: usize, attack: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= at_once {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(attack(number));
    }
    while let Some(result) = running.join_next().await {
        result.unwrap();
    }
}

/// Writes all of it unless the relay closes before, and reads what the relay says until it ends the connection, or
/// until this end is closed; how many bytes went out and came back.
async fn flood(peer: Peer, piece: Vec<u8>, times: usize) -> (usize, usize) {
    let (mut read, mut write) = peer.socket.into_inner().into_split();
    let writing = async move {
        let mut written = 0;
        for _ in 0..times {
            if write.write_all(&piece).await.is_err() {
                break;
            }
            written += piece.len();
        }
        // Half closed: the relay reads to the end and then closes.
        let _maybe_closed = write.shutdown().await;
        written
    };
    let reading = async move {
        let (mut count, mut buffer) = (0, vec![0; 65_536]);
        while let Ok(len @ 1..) = read.read(&mut buffer).await {
            count += len;
        }
        count
    };
    within("the end of a flood", async { tokio::join!(writing, reading) }).await
}

/// Requests that come byte by byte.
pub(crate) async fn slowloris(siege: &Siege) {
    let (count, address) = (siege.many(40, 1_000), siege.address());
    each(count, count, |_| async move {
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let dripping = async {
            let head = b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ".iter().chain([b'a'; 8_000].iter());
            for byte in head {
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
                // The attack itself is to be slow.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = dripping => {}
            _ = within("the end of a slow request", read.read_to_end(&mut answer)) => {}
        }
    })
    .await;
}

/// WebSockets that never say HELLO.
pub(crate) async fn half_open_handshakes(siege: &Siege) {
    let (count, address) = (siege.many(60, 2_000), siege.address());
    each(count, count, |_| async move {
        let mut peer = Peer::open(address, Some("tunnel.v1")).await.unwrap();
        assert_eq!(code(&peer.frame().await), CloseCode::TIMEOUT);
    })
    .await;
}

/// Connections that come and go, in all the ways in which one can go.
pub(crate) async fn connection_flood(siege: &Siege) {
    let (count, address) = (siege.many(400, 20_000), siege.address());
    each(count, AT_ONCE, |number| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        match number % 4 {
            0 => {}
            1 => stream.set_zero_linger().unwrap(),
            2 => stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap(),
            _ => drop(Peer::open_on(stream, address, Some("tunnel.v1")).await),
        }
    })
    .await;
}

/// All clients of a relay that was restarted, at once.
pub(crate) async fn herd(siege: &Siege) {
    let (count, address) = (siege.many(200, 5_000), siege.address());
    each(count, count, |_| async move {
        drop(Peer::link_to(address).await);
    })
    .await;
}

/// Pings, each of which wants a pong.
pub(crate) async fn ping_flood(siege: &Siege) {
    let piece = raw_frame(PING, 100, &[7; 100]).repeat(1_000);
    let mut left = siege.many(20, 1_000);
    // A link that is too slow at taking its pongs is ended, and the flood goes on on another one.
    while left > 0 {
        let (peer, _) = Peer::link_to(siege.address()).await;
        let (sent, received) = flood(peer, piece.clone(), left).await;
        assert!(received <= sent, "{sent} bytes were answered with {received}");
        left = left.saturating_sub(sent.div_ceil(piece.len()).max(1));
    }
}

/// The smallest frames there are: PINGs of the link, and DATA for a channel that is closed.
pub(crate) async fn tiny_frames(siege: &Siege) {
    let (mut peer, _) = Peer::link_to(siege.address()).await;
    peer.send(connect(1, 99)).await;
    peer.send(close(1, CloseCode::NORMAL)).await;
    let frames = [Frame::Ping { nonce: 1 }.encode(), data(1, "").encode()];
    let piece: Vec<u8> =
        frames.iter().flat_map(|frame| raw_frame(BINARY, frame.len() as u64, frame)).collect();
    let (sent, received) = flood(peer, piece.repeat(500), siege.many(20, 1_000)).await;
    assert!(received <= sent, "{sent} bytes were answered with {received}");
}

/// Messages in as many fragments as they may have, most of them empty, and one that never ends.
pub(crate) async fn empty_fragments(siege: &Siege) {
    let (mut peer, _) = Peer::link_to(siege.address()).await;
    let first = raw_frame(BINARY_TO_BE_CONTINUED, 0, &[]);
    let (ping, empty) = (Frame::Ping { nonce: 1 }.encode(), raw_frame(CONTINUATION, 0, &[]));
    let last = raw_frame(0x80, ping.len() as u64, &ping);
    let message = [&first[..], &empty.repeat(254), &last].concat();
    let memory = siege.memory();
    flood(peer, message.repeat(4), siege.many(50, 1_000)).await;
    (peer, _) = Peer::link_to(siege.address()).await;
    peer.write_raw(&[first, empty.repeat(256)].concat()).await;
    assert_eq!(peer.closed().await, CloseCode::POLICY);
    assert!(siege.memory() < memory + crate::SLACK);
}

/// Lengths that nobody has the memory for, and messages that grow beyond the limit bit by bit.
pub(crate) async fn oversize_frames(siege: &Siege) {
    let address = siege.address();
    let memory = siege.memory();
    each(siege.many(60, 2_000), AT_ONCE, |number| async move {
        let (mut peer, _) = Peer::link_to(address).await;
        match number % 4 {
            0 => peer.write_raw(&raw_frame(BINARY, u64::MAX / 2, &[])).await,
            1 => peer.write_raw(&raw_frame(TEXT, 65_537, b"the rest never comes")).await,
            2 => {
                let grain = raw_frame(CONTINUATION, 1_000, &[0; 1_000]);
                let first = raw_frame(BINARY_TO_BE_CONTINUED, 0, &[]);
                peer.write_raw(&[first, grain.repeat(66)].concat()).await;
            }
            _ => {
                // Announced, within the limit, and never sent: nothing to wait for.
                peer.write_raw(&raw_frame(BINARY, 65_536, b"the rest never comes")).await;
                return;
            }
        }
        assert_eq!(peer.closed().await, CloseCode::TOO_BIG);
    })
    .await;
    assert!(siege.memory() < memory + crate::SLACK);
}

/// Frames that break RFC 6455.
pub(crate) async fn broken_frames(siege: &Siege) {
    let address = siege.address();
    each(siege.many(64, 4_000), AT_ONCE, |number| async move {
        let (mut peer, _) = Peer::link_to(address).await;
        let mut unmasked = raw_frame(BINARY, 3, b"abc");
        unmasked[1] &= 0x7f;
        let frames = [
            unmasked,
            raw_frame(0xc2, 1, b"a"),
            raw_frame(0xa2, 1, b"a"),
            raw_frame(0x83, 1, b"a"),
            raw_frame(0x80, 1, b"a"),
            raw_frame(0x09, 1, b"a"),
            raw_frame(PING, 126, &[0; 126]),
            raw_frame(CLOSE, 2, &1005_u16.to_be_bytes()),
        ];
        peer.write_raw(&frames[number % frames.len()]).await;
        assert_eq!(peer.closed().await, CloseCode::PROTOCOL_ERROR);
    })
    .await;
}

/// Texts that are no UTF-8.
pub(crate) async fn bad_texts(siege: &Siege) {
    let address = siege.address();
    each(siege.many(40, 2_000), AT_ONCE, |number| async move {
        let (mut peer, _) = Peer::link_to(address).await;
        let texts = [&b"\xc3\x28"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"fine \xe2\x82"];
        let text = texts[number % texts.len()];
        peer.write_raw(&raw_frame(TEXT, text.len() as u64, text)).await;
        assert_eq!(peer.closed().await, CloseCode(1007));
    })
    .await;
}

/// Subprotocols that are not ours, and dialects of others where ours is spoken.
pub(crate) async fn confused_subprotocols(siege: &Siege) {
    let address = siege.address();
    each(siege.many(40, 2_000), AT_ONCE, |number| async move {
        let offers =
            ["mqtt", "tunnel.v10", "tunnel", "tunnel.v1;tunnel.v2", "TUNNEL.V2, \t,,", "\"tunnel.v1\""];
        let offer = offers[number % offers.len()];
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {offer}\r\n\r\n"
        );
        assert_eq!(request(address, &head).await.status, 400, "{offer}");
        let (mut peer, _) = Peer::link_to(address).await;
        peer.send_text(r#"{"instruction":"initialize","parameters":[]}"#).await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR);
    })
    .await;
}

/// Everything that can name an address names one where nobody of ours ever calls.
pub(crate) async fn named_addresses(siege: &Siege) {
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let (address, named) = (siege.address(), trap.local_addr().unwrap());
    each(siege.many(40, 2_000), AT_ONCE, move |number| async move {
        let url = format!("http://{named}/");
        let start = match number % 5 {
            0 => format!("GET {url} HTTP/1.1\r\nhost: {named}"),
            1 => format!("CONNECT {named} HTTP/1.1\r\nhost: {named}"),
            2 => format!("GET /?url={url} HTTP/1.1\r\nhost: {address}\r\nreferer: {url}"),
            3 => format!("GET //{named}/ HTTP/1.1\r\nhost: {named}"),
            _ => format!("OPTIONS * HTTP/1.1\r\nhost: {named}"),
        };
        let more = format!(
            "forwarded: for=\"{named}\";host=\"{named}\"\r\nx-forwarded-for: {named}\r\nx-forwarded-host: {named}\r\n\
             via: 1.1 {named}\r\norigin: {url}\r\nconnection: close"
        );
        let status = request(address, &format!("{start}\r\n{more}\r\n\r\n")).await.status;
        assert!(status.is_success() || status.is_client_error(), "{start}: {status}");

        let stream = TcpStream::connect(address).await.unwrap();
        let origin = format!("origin: http://{named}");
        let mut peer = Peer::open_with(stream, named, Some("tunnel.v1"), Some(&origin)).await.unwrap();
        peer.send(hello()).await;
        assert!(matches!(peer.frame().await, Frame::Welcome(_)));
        let Frame::Connect { channel, server_id, kind, .. } = connect(1, 99) else { return };
        let port = named.port();
        peer.send(Frame::Connect { channel, server_id, port, kind, payload: url.into() }).await;
        peer.send(Frame::GoAway { deadline: Duration::ZERO }).await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR);
    })
    .await;
    let called = trap.accept().map(|(_, from)| from);
    assert_eq!(called.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
}

/// Proofs for another's key: made up, made for another key, and made for another link.
pub(crate) async fn forged_registrations(siege: &Siege) {
    let address = siege.address();
    let (other, welcome) = Peer::link_to(address).await;
    let captured = registration::prove(&key(SERVER), &welcome.challenge, &other.url).unwrap();
    each(siege.many(60, 100_000), AT_ONCE, |number| async move {
        let (mut peer, welcome) = Peer::link_to(address).await;
        let proof = match number % 3 {
            0 => Noise::new(number).bytes(32).try_into().unwrap(),
            1 => registration::prove(&key(7), &welcome.challenge, &peer.url).unwrap(),
            _ => captured,
        };
        peer.send(Frame::Register { key: key(SERVER).public(), proof, url: String::new() }).await;
        assert_eq!(code(&peer.frame().await), CloseCode::HANDSHAKE_FAILED);
    })
    .await;
    drop(other);
}

/// Clients that take nothing, and a server that sends to all of them without minding PAUSE.
///
/// In the full form twice: what the first ones took has to be enough for the second ones.
pub(crate) async fn slow_readers(siege: &Siege) {
    let memory = siege.memory();
    for number in 0..siege.many(1, 2) {
        let most = slow_readers_once(siege, 99 - number as u8).await - memory;
        // The limit of all queues, 256 MiB, and a quarter for the allocator.
        assert!(most < 320 << 20, "{most} bytes more at the most, the {}th time", number + 1);
    }
}

/// The most memory that the relay has had.
async fn slow_readers_once(siege: &Siege, secret: u8) -> usize {
    const MESSAGES: usize = 40;
    let (count, address) = (siege.many(20, 1_000), siege.address());
    let (mut server, welcome) = Peer::link_to(address).await;
    server.register(secret, &welcome).await;
    let mut readers = Vec::new();
    for number in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap(); // so that not reading is soon felt
        let stream = socket.connect(address).await.unwrap();
        let mut reader = Peer::open_on(stream, address, Some("tunnel.v1")).await.unwrap();
        reader.send(hello()).await;
        reader.send(connect(1, secret)).await;
        assert!(matches!(server.frame().await, Frame::Incoming { .. }));
        server.send(accept(2 * (number as u32 + 1))).await;
        readers.push(reader);
    }
    let pieces: Vec<u8> = (0..count)
        .flat_map(|number| {
            let message = data(2 * (number as u32 + 1), vec![7; 16_384]).encode();
            raw_frame(BINARY, message.len() as u64, &message)
        })
        .collect();
    let flooding = flood(server, pieces, MESSAGES);
    tokio::pin!(flooding);
    let mut most = siege.memory();
    loop {
        tokio::select! {
            _ = &mut flooding => break,
            // Memory of another process has no event: it is looked at now and then.
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(siege.memory()),
        }
    }
    drop(readers);
    most
}

/// Messages that come to all but their last byte, of frames and of livecode commands: what is held of them stays within
/// an address's share of 16 MiB, and whoever wants more is closed with 1013.
pub(crate) async fn half_sent_messages(siege: &Siege) {
    let address = siege.address();
    let memory = siege.memory();
    for (subprotocol, len, count) in
        [(Some("tunnel.v1"), 65_000, siege.many(300, 2_000)), (None, 1_000_000, siege.many(40, 490))]
    {
        let first = if subprotocol.is_some() { BINARY } else { TEXT };
        let message = raw_frame(first, len, &vec![b' '; len as usize - 1]);
        let mut peers = Vec::new();
        for _ in 0..count {
            let mut peer = Peer::open(address, subprotocol).await.unwrap();
            peer.write_raw(&message).await;
            peers.push(peer);
        }
        let (mut refused, share) = (0, 16 << 20);
        // Those that came last find no room. The first ones are held until they are dropped.
        while let Some(mut peer) = peers.pop() {
            if (peers.len() as u64) * len < share {
                break;
            }
            assert!(matches!(peer.received().await, Received::Closed(CloseCode::TRY_AGAIN_LATER, _)));
            refused += 1;
        }
        assert!(refused > 0, "{count} messages of {len} bytes are more than the share");
        assert!(siege.memory() < memory + crate::SLACK + share as usize);
    }
}

/// The livecode dialect's credential, guessed: some are looked at, the others not.
pub(crate) async fn credential_guesses(siege: &Siege) {
    let mut peer = Peer::open(siege.address(), None).await.unwrap();
    for guess in 0..siege.many(200, 20_000) {
        let command = format!(
            r#"{{"instruction":"add instruction","credential":"guess {guess}","parameters":{{"instructionToAdd":"initialize"}}}}"#
        );
        peer.send_text(&command).await;
        assert_eq!(peer.text().await, "server: received command 'add instruction'");
        assert_eq!(peer.text().await, "server: rejected command 'add instruction'");
    }
    let right = r#"{"instruction":"add instruction","credential":"a secret of the siege","parameters":{"instructionToAdd":"initialize"}}"#;
    peer.send_text(right).await;
    assert_eq!(peer.text().await, "server: received command 'add instruction'");
    assert_eq!(
        peer.text().await,
        "server: rejected command 'add instruction'",
        "nobody learns that it was right"
    );
}

/// Random bytes and frames that are nearly right, in every state of a link.
pub(crate) async fn noise(siege: &Siege) {
    let address = siege.address();
    each(siege.many(200, 50_000), AT_ONCE, |seed| one_noise(address, seed)).await;
}

async fn one_noise(address: SocketAddr, seed: usize) {
    let mut noise = Noise::new(seed);
    let mut peer = match noise.next(5) {
        0 => {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let len = 1 + noise.next(3_000);
            let _maybe_closed = stream.write_all(&noise.bytes(len)).await;
            return;
        }
        1 => Peer::open(address, Some("tunnel.v1")).await.unwrap(),
        2 => Peer::link_to(address).await.0,
        state => {
            // A link that is registered, with a channel to itself that waits or is open.
            let (mut peer, welcome) = Peer::link_to(address).await;
            let secret = 1 + (seed % 90) as u8;
            let proof = registration::prove(&key(secret), &welcome.challenge, &peer.url).unwrap();
            peer.send(Frame::Register { key: key(secret).public(), proof, url: String::new() }).await;
            peer.send(connect(1, secret)).await;
            if state == 4 {
                peer.send(accept(2)).await;
            }
            peer
        }
    };
    for _ in 0..1 + noise.next(8) {
        let mut frame = valid_frame(&mut noise).encode().to_vec();
        for _ in 0..noise.next(4) {
            let at = noise.next(frame.len());
            frame[at] ^= 1 << noise.next(8);
        }
        frame.truncate(frame.len() - noise.next(3).min(frame.len()));
        let first = [BINARY, BINARY, BINARY, TEXT, BINARY_TO_BE_CONTINUED, CONTINUATION, PING][noise.next(7)];
        let mut bytes = raw_frame(first, frame.len() as u64, &frame);
        if noise.next(4) == 0 {
            let at = noise.next(bytes.len());
            bytes[at] ^= 1 << noise.next(8);
        }
        peer.write_raw(&bytes).await;
    }
    // Some stay to hear what the relay has to say of it.
    if noise.next(4) == 0 {
        let answer = tokio::time::timeout(Duration::from_millis(10), peer.socket_end()).await;
        assert!(!matches!(answer, Ok(Received::Text(_))), "{answer:?}");
    }
}

fn valid_frame(noise: &mut Noise) -> Frame {
    let channel = noise.next(5) as u32;
    match noise.next(8) {
        0 => hello(),
        1 => connect(1 + 2 * channel, 1 + noise.next(90) as u8),
        2 => accept(2 * channel),
        3 => data(channel, vec![7; noise.next(2_000)]),
        4 => close(channel, CloseCode(noise.next(6_000) as u16)),
        5 => Frame::Ping { nonce: noise.next(1 << 30) as u64 },
        6 => Frame::Pong { nonce: noise.next(1 << 30) as u64 },
        _ => Frame::Pause { channel: ChannelId(channel) },
    }
}

/// Instructions that loop, flood, recurse and fill memory, from many links at once.
#[cfg(feature = "livecode")]
pub(crate) async fn livecode_bombs(siege: &Siege) {
    const BOMBS: [&str; 6] = [
        "function () { for (;;); }",
        "function f() { return f() + 1 }",
        "function () { const all = []; for (;;) all.push(new Array(1000).fill(all)) }",
        "function () { for (;;) this.send('x'.repeat(1000)) }",
        "function () { return /^(a|a)*$/.test('a'.repeat(60) + '!') }",
        "function () { const f = () => Promise.resolve().then(f); f() }",
    ];
    let mut configurer = Peer::open(siege.address(), None).await.unwrap();
    for (index, body) in BOMBS.iter().enumerate() {
        let parameters = serde_json::json!({ "instructionToAdd": index.to_string(), "body": body });
        let command = serde_json::json!({
            "instruction": "add instruction", "parameters": parameters, "credential": "a secret of the siege",
        });
        configurer.send_text(&command.to_string()).await;
        while configurer.text().await != format!("server: adding instruction '{index}'") {}
    }
    let address = siege.address();
    each(siege.many(8, 40), AT_ONCE, move |number| async move {
        let mut peer = Peer::open(address, None).await.unwrap();
        for index in [number % BOMBS.len(), (number + 1) % BOMBS.len()] {
            peer.send_text(&format!(r#"{{"instruction":"{index}"}}"#)).await;
            while !peer.text().await.starts_with("server: evaluating") {}
        }
    })
    .await;
}
