//! Additions of a later version of the protocol change nothing about the rest: extensions behind OPEN and OPENED, unless
//! one of them is critical, and session frames of unknown types that tell their length.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tunnel_protocol::codec::DecodeError;
use tunnel_protocol::session::{Config, Epoch, Open, Opened, Position, Session, SessionId};
use tunnel_protocol::{CloseCode, Instant};

/// An extension or a frame: its type, and what follows its length.
type Item<'a> = (u8, &'a [u8]);

fuzz_target!(|input: (u32, &str, Vec<Item<'_>>, &[u8], Vec<(Vec<Item<'_>>, &[u8])>)| {
    let (features, text, extensions, rest, records) = input;
    let mut tail = Vec::new();
    for (kind, bytes) in extensions {
        put_item(&mut tail, kind, bytes);
    }
    tail.extend(rest);
    payloads(features, text, &tail);
    skipped(&records);
});

fn put_item(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.push(kind);
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// OPEN and OPENED that end with `tail`.
fn payloads(features: u32, text: &str, tail: &[u8]) {
    let position = Position { received: 3, limit: 4 };
    let text: String = text.chars().take(200).collect();
    let open = Open {
        session_id: SessionId([1; 16]),
        epoch: Epoch(1),
        server_epoch: None,
        position,
        protocols: vec![text.clone()],
        path: text.clone(),
        features,
    };
    let accepted = Opened::Accepted { epoch: Epoch(1), position, protocol: text, features };
    let refused = Opened::Refused { code: CloseCode::REFUSED, reason: "no".to_owned() };
    let with_tail = |payload: Bytes| Bytes::from([&payload, tail].concat());
    let expected = read_tail(tail);
    assert_eq!(Open::decode(with_tail(open.encode())), expected.map(|()| open));
    for opened in [accepted, refused] {
        assert_eq!(Opened::decode(with_tail(opened.encode())), expected.map(|()| opened));
    }
}

/// A plain reading of what docs/PROTOCOL.md says of extensions.
fn read_tail(mut tail: &[u8]) -> Result<(), DecodeError> {
    while let [kind, rest @ ..] = tail {
        let truncated = DecodeError::Truncated { field: "extension" };
        let [high, low, rest @ ..] = rest else { return Err(truncated) };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        tail = rest.get(len..).ok_or(truncated)?;
        if *kind >= 0x80 {
            return Err(DecodeError::UnknownType(*kind));
        }
    }
    Ok(())
}

/// Two sessions hear the same, one of them with frames in between that nobody knows.
fn skipped(records: &[(Vec<Item<'_>>, &[u8])]) {
    let config = || Config { window: 1_000, max_window: 4_000, max_message: 2_000, ..Config::default() };
    let (mut today, mut later) = (Session::new(config()), Session::new(config()));
    let mut sent = 0;
    for (items, rest) in records {
        let (mut known, mut all) = (Vec::new(), Vec::new());
        for (kind, bytes) in items {
            if *kind >= 0x40 {
                put_item(&mut all, *kind, bytes);
                continue;
            }
            let frame = frame(*kind, bytes, &mut sent);
            known.extend(&frame);
            all.extend(frame);
        }
        known.extend(*rest);
        all.extend(*rest);
        let now = Instant::ORIGIN;
        assert_eq!(today.handle_plaintext(known.into(), now), later.handle_plaintext(all.into(), now));
        loop {
            let event = today.poll_event();
            assert_eq!(event, later.poll_event());
            if event.is_none() {
                break;
            }
        }
        assert_eq!(today.stats(), later.stats());
        assert_eq!((today.held(), today.is_open()), (later.held(), later.is_open()));
        assert_eq!(today.poll_timeout(now), later.poll_timeout(now));
    }
}

/// A frame that is known: its stream goes on most of the time.
fn frame(kind: u8, bytes: &[u8], sent: &mut u64) -> Vec<u8> {
    let mut numbers = [0; 16];
    numbers.iter_mut().zip(bytes).for_each(|(number, byte)| *number = *byte);
    match kind % 8 {
        2 => [&[2][..], &numbers].concat(),
        3 => [&[3][..], &numbers[..8]].concat(),
        4 => [&[4][..], &numbers[..8]].concat(),
        5 => [&[5, 3, 232, 2][..], b"no"].concat(),
        6 => stream(u64::from(numbers[0]), bytes),
        _ => {
            let at = *sent;
            *sent += bytes.len().min(usize::from(u16::MAX)) as u64;
            stream(at, bytes)
        }
    }
}

fn stream(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(offset.to_be_bytes());
    let mut item = Vec::new();
    put_item(&mut item, 0, bytes);
    out.extend(&item[1..]);
    out
}
