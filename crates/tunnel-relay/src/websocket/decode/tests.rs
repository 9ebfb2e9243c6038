//! Tests of the decoder.

use super::*;

const MASK: [u8; 4] = [0xa1, 0x03, 0x55, 0xfe];

/// A frame as clients send it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the events for `bytes` that arrive in pieces of `step` bytes, and the fault that ended it.
fn decode(bytes: &[u8], step: usize) -> (Vec<Received>, Option<Fault>) {
    let (mut decoder, mut received, mut unread) = (Decoder::new(100_000, 8), Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        unread.extend_from_slice(piece);
        let mut input = &unread[..];
        loop {
            match decoder.next(&mut input) {
                Ok(Some(message)) => received.push(message),
                Ok(None) => break,
                Err(fault) => return (received, Some(fault)),
            }
        }
        assert!(input.len() < 14, "{} bytes were left though they are no part of a head", input.len());
        unread = input.to_vec();
    }
    (received, None)
}

fn binary(payload: &[u8]) -> Received {
    Received::Binary(payload.into())
}

fn text(text: &str) -> Received {
    Received::Text(text.to_owned())
}

#[test]
fn messages_come_out_wherever_the_bytes_are_cut() {
    let long: Vec<u8> = (0..70_000_u32).map(|number| number as u8).collect();
    let bytes = [
        frame(0x82, b"one"),
        frame(0x81, "zwei: ä€😀".as_bytes()),
        frame(0x82, &[]),
        frame(0x02, b"in "),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b""),
        frame(0x80, b"parts"),
        frame(0x82, &long[..300]),
        frame(0x01, &"€".as_bytes()[..1]),
        frame(0x00, &"€".as_bytes()[1..2]),
        frame(0x80, &"€".as_bytes()[2..]),
        frame(0x82, &long),
        frame(0x88, &[0x03, 0xe8, b'o', b'k']),
    ]
    .concat();
    let expected = [
        binary(b"one"),
        text("zwei: ä€😀"),
        binary(b""),
        Received::Ping(Bytes::from_static(b"ping")),
        Received::Pong,
        binary(b"in parts"),
        binary(&long[..300]),
        text("€"),
        binary(&long),
        Received::Close(CloseCode::NORMAL),
    ];
    for step in (1..40).chain([1_000, 33_333, 65_536, bytes.len()]) {
        let (received, fault) = decode(&bytes, step);
        assert_eq!(fault, None, "in pieces of {step}");
        assert!(received == expected, "in pieces of {step}");
    }
}

#[test]
fn what_is_wrong_is_told_as_soon_as_it_is_seen() {
    let protocol = |bytes: &[u8]| {
        for step in [1, bytes.len()] {
            let (_, fault) = decode(bytes, step);
            assert!(matches!(fault, Some(Fault::Protocol(_))), "{bytes:02x?}: {fault:?}");
        }
    };
    for first in [0xc2, 0xa2, 0x92, 0x83, 0x87, 0x8b, 0x8f, 0x03] {
        protocol(&[first]);
    }
    protocol(&[0x82, 0x05]); // no mask
    protocol(&[0x09, 0x80]); // a ping in fragments
    protocol(&[0x88, 0xfe]); // a long close frame
    protocol(&frame(0x80, b"a")); // a continuation of nothing
    protocol(&[frame(0x02, b"a"), frame(0x82, b"b")].concat());
    protocol(&frame(0x88, &[3]));
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
        protocol(&frame(0x88, &code.to_be_bytes()));
    }
}

#[test]
fn a_text_fails_with_its_first_wrong_byte() {
    for (bytes, wrong) in
        [(&b"abc\xc3\x28defg"[..], 4), (b"\xed\xa0\x80", 1), (b"a\xf4\x90\x80\x80", 2), (b"\xff", 0)]
    {
        let framed = frame(0x81, bytes);
        let until = framed.len() - bytes.len() + wrong;
        assert_eq!(decode(&framed[..until], 1), (vec![], None), "{bytes:02x?}");
        assert_eq!(decode(&framed[..=until], 1), (vec![], Some(Fault::NotUtf8)), "{bytes:02x?}");
    }
    // Half a character at the end.
    assert_eq!(decode(&frame(0x81, b"\xe2\x82"), 1).1, Some(Fault::NotUtf8));
    assert_eq!(decode(&frame(0x88, b"\x03\xe8\xff"), 1).1, Some(Fault::NotUtf8));
}

#[test]
fn a_length_over_the_limit_is_refused_before_memory_is_set_aside() {
    for len in [100_001, u64::from(u32::MAX), u64::MAX] {
        let head = [&[0x82, 0xff][..], &len.to_be_bytes()].concat();
        assert_eq!(decode(&head, 1).1, Some(Fault::TooBig { max: 100_000 }));
    }
    let halves = [frame(0x02, &[0; 60_000]), frame(0x80, &[0; 40_001])].concat();
    assert_eq!(decode(&halves, 10_000).1, Some(Fault::TooBig { max: 100_000 }));
    let fits = [frame(0x02, &[0; 60_000]), frame(0x80, &[0; 40_000])].concat();
    assert_eq!(decode(&fits, 10_000), (vec![binary(&[0; 100_000])], None));
}

#[test]
fn a_message_comes_in_so_many_fragments_and_no_more() {
    let message = |fragments: usize| {
        let continued = [frame(0x00, b""), frame(0x89, b"")].concat().repeat(fragments - 2);
        [frame(0x02, b"a"), continued, frame(0x80, b"z")].concat()
    };
    let pings = |count| std::iter::repeat_with(|| Received::Ping(Bytes::new())).take(count);
    for step in [1, 1_000] {
        let most = message(8).repeat(2);
        let expected: Vec<_> = (0..2).flat_map(|_| pings(6).chain([binary(b"az")])).collect();
        assert_eq!(decode(&most, step), (expected, None), "each message is counted by itself");
        let fault = Some(Fault::TooManyFragments { max: 8 });
        assert_eq!(decode(&message(9), step), (pings(7).collect(), fault));
    }
    let mut decoder = Decoder::new(100_000, 8);
    let (bytes, mut frames) = (message(8), 0);
    let mut input = &bytes[..];
    while decoder.next(&mut input).unwrap().is_some() {
        frames += decoder.take_frames();
    }
    assert_eq!(frames, 14, "eight fragments and six pings");
}

#[test]
fn a_frame_that_is_announced_and_does_not_come_takes_little_memory() {
    let mut decoder = Decoder::new(100_000, 8);
    let whole = frame(0x82, &[0; 90_000]);
    let (mut first, mut second) = (&whole[..100], &whole[100..5_000]);
    assert_eq!(decoder.next(&mut first), Ok(None));
    assert!(decoder.message.as_ref().unwrap().payload.capacity() <= 1 << 10);
    assert_eq!(decoder.next(&mut second), Ok(None));
    assert!(decoder.message.as_ref().unwrap().payload.capacity() <= 20_000);
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

#[test]
fn noise_is_understood_the_same_way_wherever_it_is_cut() {
    for seed in 0..20_000 {
        let mut random = noise(seed);
        // Mostly frames that are nearly right: pure noise fails with its first byte.
        let mut bytes = Vec::new();
        while bytes.len() < 200 && random.next().is_some_and(|byte| byte >= 20) {
            let [first, len] = std::array::from_fn(|_| random.next().unwrap());
            let first = [0x82, 0x81, 0x02, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88][usize::from(first) % 9];
            let payload: Vec<u8> = random.by_ref().take(usize::from(len) % 140).collect();
            bytes.extend(frame(first, &payload));
        }
        for _ in 0..random.next().unwrap() % 3 {
            let at = usize::from(random.next().unwrap()) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (random.next().unwrap() % 8);
            }
        }
        let step = 1 + usize::from(random.next().unwrap()) % 40;
        assert_eq!(decode(&bytes, step), decode(&bytes, bytes.len().max(1)), "seed {seed}, pieces of {step}");
    }
}
