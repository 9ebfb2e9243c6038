//! Whatever a client sends, and wherever it is cut, the WebSocket codec neither panics nor keeps more than it may, and
//! understands what a plain reading of RFC 6455 says; what it is given to send comes out whole.
//!
//! The input's first bytes choose the limits and the cuts; the rest is what the client sends. Half of all inputs are
//! bare bytes. In the others frames are made of commands, so that lengths and masks are right.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use std::io::IoSlice;
use tunnel_protocol::CloseCode;

// Its source, not the crate: the codec is a part of the relay that nobody else sees, and needs no other part.
#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "the relay uses more of it")]
mod relay {
    pub(crate) mod websocket;
}

use relay::websocket::{Decoder, Fault, SendQueue, Received, WriteBuffer};

fuzz_target!(|input: &[u8]| {
    let [limits, cut, taken, kind, rest @ ..] = input else { return };
    let max_message = [0, 10, 125, 130, 1_000, 70_000][usize::from(limits % 6)];
    let max_fragments = [1, 2, 5, 1_000][usize::from(limits / 6 % 4)];
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { frames(rest) };
    // Few cuts in many bytes: they take the time.
    let step = (1 + usize::from(*cut)) * (1 + bytes.len() / 1_000);
    let (received, fault) = decode(&bytes, step, max_message, max_fragments);
    let expected = read(&bytes, max_message, max_fragments);
    assert_eq!((&received, &fault), (&expected.0, &expected.1));
    answer(received, fault, 1 + usize::from(*taken) * 31);
});

/// Returns the decoder's events for `bytes` that come in pieces of `step`.
fn decode(
    bytes: &[u8],
    step: usize,
    max_message: usize,
    max_fragments: u32,
) -> (Vec<Received>, Option<Fault>) {
    let (mut decoder, mut received, mut unread) =
        (Decoder::new(max_message, max_fragments), Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        unread.extend_from_slice(piece);
        let mut input = &unread[..];
        loop {
            match decoder.next(&mut input) {
                Ok(Some(message)) => {
                    let closed = matches!(message, Received::Close(_));
                    received.push(message);
                    if closed {
                        return (received, None);
                    }
                }
                Ok(None) => break,
                Err(fault) => return (received, Some(fault)),
            }
        }
        assert!(input.len() < 14, "{} bytes were left though they are no part of a head", input.len());
        unread = input.to_vec();
        assert!(decoder.take_frames() <= bytes.len() / 6, "a frame has six bytes at least");
    }
    (received, None)
}

/// The same, slowly and in one piece: frame by frame, byte by byte.
fn read(bytes: &[u8], max_message: usize, max_fragments: u32) -> (Vec<Received>, Option<Fault>) {
    let mut received = Vec::new();
    let mut message: Option<(bool, Vec<u8>, u32)> = None;
    let mut at = bytes;
    loop {
        let frame = match Frame::read(&mut at, max_message, &mut message, max_fragments) {
            Ok(Some(frame)) => frame,
            Ok(None) => return (received, None),
            Err(fault) => return (received, Some(fault)),
        };
        let whole = frame.payload.len() == frame.len;
        if frame.opcode < 8 {
            let (is_text, payload, _) = message.get_or_insert_with(|| (frame.opcode == 1, Vec::new(), 1));
            payload.extend(&frame.payload);
            if *is_text {
                let wrong = match std::str::from_utf8(payload) {
                    Ok(_) => false,
                    Err(error) => error.error_len().is_some() || whole && frame.fin,
                };
                if wrong {
                    return (received, Some(Fault::NotUtf8));
                }
            }
            if whole && frame.fin {
                let (is_text, payload, _) = message.take().unwrap();
                received.push(match is_text {
                    true => Received::Text(String::from_utf8(payload).unwrap()),
                    false => Received::Binary(BytesMut::from(&payload[..])),
                });
            }
        }
        if !whole {
            return (received, None);
        }
        match frame.opcode {
            8 => {
                let closed = match &frame.payload[..] {
                    [] => Ok(CloseCode::NO_STATUS),
                    [_] => Err(Fault::Protocol("a close frame with half a code")),
                    [a, b, reason @ ..] => match u16::from_be_bytes([*a, *b]) {
                        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
                            std::str::from_utf8(reason).map(|_| CloseCode(code)).map_err(|_| Fault::NotUtf8)
                        }
                        _ => Err(Fault::Protocol("a close code that may not be sent")),
                    },
                };
                let fault = closed.map(|code| received.push(Received::Close(code))).err();
                return (received, fault);
            }
            9 => received.push(Received::Ping(Bytes::from(frame.payload))),
            10 => received.push(Received::Pong),
            _ => {}
        }
    }
}

struct Frame {
    fin: bool,
    opcode: u8,
    len: usize,
    /// As much of it as has come.
    payload: Vec<u8>,
}

impl Frame {
    fn read(
        at: &mut &[u8],
        max_message: usize,
        message: &mut Option<(bool, Vec<u8>, u32)>,
        max_fragments: u32,
    ) -> Result<Option<Self>, Fault> {
        let [first, ..] = **at else { return Ok(None) };
        let (fin, opcode, is_control) = (first >= 0x80, first % 16, first % 16 >= 8);
        if first / 16 % 8 != 0 {
            return Err(Fault::Protocol("a reserved bit; no extension was agreed to"));
        }
        if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
            return Err(Fault::Protocol("an unknown opcode"));
        }
        let [_, second, ..] = **at else { return Ok(None) };
        if second < 0x80 {
            return Err(Fault::Protocol("a frame without a mask"));
        }
        let short = usize::from(second - 0x80);
        if is_control && (!fin || short > 125) {
            return Err(Fault::Protocol(
                "a ping, pong or close frame in fragments or of more than 125 bytes",
            ));
        }
        let bytes_of_length = [0, 2, 8][short.max(125) - 125];
        let Some(length) = at.get(2..2 + bytes_of_length) else { return Ok(None) };
        let len = match length {
            [] => short as u64,
            more => more.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        if !is_control && len > max_message as u64 {
            return Err(Fault::TooBig { max: max_message });
        }
        let start = 2 + bytes_of_length;
        let Some(mask) = at.get(start..start + 4) else { return Ok(None) };
        let len = len as usize;
        match (opcode, message) {
            (0, None) => return Err(Fault::Protocol("a continuation of no message")),
            (1 | 2, Some(_)) => {
                return Err(Fault::Protocol("a new message before the last one was complete"));
            }
            (0, Some((_, payload, fragments))) => {
                if payload.len() + len > max_message {
                    return Err(Fault::TooBig { max: max_message });
                }
                if *fragments >= max_fragments {
                    return Err(Fault::TooManyFragments { max: max_fragments });
                }
                *fragments += 1;
            }
            _ => {}
        }
        let rest = &at[start + 4..];
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        *at = rest;
        Ok(Some(Self { fin, opcode, len, payload }))
    }
}

/// Frames as clients send them: a first byte, a length, a way to write it, then the payload.
fn frames(mut commands: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, len, how, rest @ ..] = commands {
        // Small pieces, and now and then a large one.
        let len = if how % 16 == 15 { usize::from(*len) * 300 } else { usize::from(*len) };
        let (payload, rest) = rest.split_at(rest.len().min(len));
        commands = rest;
        bytes.push(*first);
        match (how / 16 % 3, len) {
            (0, 0..=125) => bytes.push(0x80 | len as u8),
            (0 | 1, _) if len <= 0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        let mask = [*how, 0, 0xff, 7];
        bytes.extend(mask);
        let filled = payload.iter().copied().chain(std::iter::repeat(b'x')).take(len);
        bytes.extend(filled.zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
    bytes
}

/// Sends back what came, as the relay would, and looks whether it comes out whole when each call takes `most` bytes.
fn answer(received: Vec<Received>, fault: Option<Fault>, most: usize) {
    let (mut queue, mut write_buffer, mut expected) = (SendQueue::default(), WriteBuffer::default(), Vec::new());
    queue.borrow(&mut write_buffer);
    for message in received {
        match message {
            Received::Binary(payload) => {
                expected.push((0x82, payload.to_vec()));
                queue.binary(payload.freeze());
            }
            Received::Text(text) => {
                expected.push((0x81, text.clone().into_bytes()));
                queue.text(text);
            }
            Received::Ping(payload) => {
                expected.push((0x8a, payload.to_vec()));
                queue.pong(payload);
            }
            Received::Pong => {
                expected.push((0x89, Vec::new()));
                queue.ping();
            }
            Received::Close(code) => {
                let payload =
                    if code == CloseCode::NO_STATUS { vec![] } else { code.0.to_be_bytes().to_vec() };
                expected.push((0x88, payload));
                queue.close(code, "");
            }
        }
    }
    if let Some(fault) = fault {
        expected.push((0x88, [&fault.code().0.to_be_bytes(), fault.to_string().as_bytes()].concat()));
        queue.close(fault.code(), &fault.to_string());
    }
    let mut bytes = Vec::new();
    while !queue.is_empty() {
        let written = queue.write::<()>(&mut write_buffer, |slices: &[IoSlice<'_>]| {
            let before = bytes.len();
            bytes.extend(slices.iter().flat_map(|slice| slice.iter()).take(most));
            Ok(bytes.len() - before)
        });
        written.unwrap();
    }
    queue.give_back(&mut write_buffer);
    assert_eq!(unframed(&bytes), expected);
}

/// The frames that a client would see, none of them masked.
fn unframed(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (len, rest) = match second {
            126 => (u64::from(u16::from_be_bytes(rest[..2].try_into().unwrap())), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()), &rest[8..]),
            len => (u64::from(*len), rest),
        };
        let (payload, rest) = rest.split_at(len as usize);
        frames.push((*first, payload.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{} bytes are no frame", bytes.len());
    frames
}
