//! Decodes the bytes that `socket` reads into messages.

use super::mask::{turn, unmask};
use super::{FIN, MAX_CONTROL, may_be_sent, opcode, pool};
use bytes::{Buf as _, Bytes, BytesMut};
use std::str;
use tunnel_protocol::CloseCode;

/// Takes in what a client sends, in pieces of any length.
///
/// It holds what has come of a message that is not complete, and nothing otherwise.
#[derive(Debug)]
pub(crate) struct Decoder {
    max_message: usize,
    max_fragments: u32,
    /// Number of frames that have begun since the last call of `take_frames`.
    frames: usize,
    /// The frame whose payload has not come to its end.
    frame: Option<Head>,
    /// The part of the payload of a ping, pong or close frame that has arrived.
    control: BytesMut,
    /// The message that is not complete.
    message: Option<Partial>,
    /// The part of the budget for such messages that it takes.
    part: Option<Box<dyn Part>>,
    /// True if a server sends it, which uses no mask.
    is_client: bool,
}

/// One message, or a sign of life.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Received {
    Binary(BytesMut),
    Text(String),
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    Pong,
    /// The peer's close frame: nothing comes after it.
    Close(CloseCode),
}

/// A violation of the WebSocket protocol; nothing after it can be decoded.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a message may have {max} bytes here")]
    TooBig { max: usize },
    #[error("a message may come in {max} fragments here")]
    TooManyFragments { max: u32 },
    #[error(
        "too many messages from this address, or in all, have begun and not come to their end: try again later"
    )]
    Crowded,
    #[error("{0}")]
    Protocol(&'static str),
    #[error("a text that is not UTF-8")]
    NotUtf8,
}

impl Fault {
    /// For the close frame.
    pub(crate) const fn code(&self) -> CloseCode {
        match self {
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            Self::Crowded => CloseCode::TRY_AGAIN_LATER,
            Self::TooManyFragments { .. } => CloseCode::POLICY,
            Self::Protocol(_) => CloseCode::PROTOCOL_ERROR,
            Self::NotUtf8 => CloseCode(1007),
        }
    }
}

/// A frame's head; what of its payload is still to come.
#[derive(Clone, Copy, Debug)]
struct Head {
    fin: bool,
    opcode: u8,
    left: usize,
    /// Turned so that its first byte belongs to the next one of the payload.
    mask: [u8; 4],
}

#[derive(Debug)]
struct Partial {
    is_text: bool,
    /// Number of fragments that have begun.
    fragments: u32,
    /// As much of a text as is known to be UTF-8.
    valid: usize,
    payload: BytesMut,
}

/// A connection's part of the budget for messages of which only a part has arrived.
pub(crate) trait Part: std::fmt::Debug + Send {
    /// Holds so many bytes instead of those of before, if there is room for them; whether it does.
    fn resize(&mut self, bytes: usize) -> bool;

    /// Gives all back.
    fn clear(&mut self);
}

impl Decoder {
    pub(crate) fn new(max_message: usize, max_fragments: u32) -> Self {
        let (frame, control, message) = (None, BytesMut::new(), None);
        Self { max_message, max_fragments, frames: 0, frame, control, message, part: None, is_client: false }
    }

    /// A client's, for what a server sends.
    pub(crate) fn of_client(self) -> Self {
        Self { is_client: true, ..self }
    }

    /// With a budget for what has come of a message.
    pub(crate) fn within(self, part: Option<Box<dyn Part>>) -> Self {
        Self { part, ..self }
    }

    /// Number of frames that have begun since the last call, those without a payload included.
    pub(crate) fn take_frames(&mut self) -> usize {
        std::mem::take(&mut self.frames)
    }

    /// Takes the next message off `input`.
    ///
    /// After `None` there is nothing left of it but the first bytes of a frame's head, 13 at most: they have to come
    /// again with those that follow.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Received>, Fault> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match Head::read(input, self.max_message, self.is_client)? {
                    Some(head) => self.begin(head)?,
                    None => return Ok(None),
                },
            };
            if let Some(received) = self.take_payload(frame, input)? {
                return Ok(Some(received));
            }
            if self.frame.is_some() {
                return Ok(None);
            }
        }
    }

    /// Checks that a frame may come now.
    fn begin(&mut self, head: Head) -> Result<Head, Fault> {
        self.frames += 1;
        match (head.opcode, &mut self.message) {
            (opcode::CONTINUATION, None) => Err(Fault::Protocol("a continuation of no message")),
            (opcode::TEXT | opcode::BINARY, Some(_)) => {
                Err(Fault::Protocol("a new message before the last one was complete"))
            }
            (opcode::CONTINUATION, Some(message)) => {
                if head.left > self.max_message - message.payload.len() {
                    return Err(Fault::TooBig { max: self.max_message });
                }
                // Each costs work, though it may bring nothing.
                if message.fragments >= self.max_fragments {
                    return Err(Fault::TooManyFragments { max: self.max_fragments });
                }
                message.fragments += 1;
                Ok(head)
            }
            _ => Ok(head),
        }
    }

    /// Takes what has come of a frame's payload.
    fn take_payload(&mut self, mut frame: Head, input: &mut &[u8]) -> Result<Option<Received>, Fault> {
        let (piece, rest) = input.split_at(frame.left.min(input.len()));
        *input = rest;
        let is_whole = frame.fin && piece.len() == frame.left;
        let mask = frame.mask;
        frame.left -= piece.len();
        frame.mask = turn(mask, piece.len());
        if frame.opcode >= opcode::CLOSE {
            append(&mut self.control, piece, mask);
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            return control(frame.opcode, std::mem::take(&mut self.control).freeze()).map(Some);
        }
        if frame.opcode == opcode::BINARY && is_whole {
            let mut payload = pool::take(piece.len());
            append(&mut payload, piece, mask);
            return Ok(Some(Received::Binary(payload)));
        }
        let message = self.message.get_or_insert_with(|| Partial {
            is_text: frame.opcode == opcode::TEXT,
            fragments: 1,
            valid: 0,
            payload: BytesMut::new(),
        });
        // A message that ends with this piece is handed on at once.
        let part = self.part.as_mut().filter(|_| frame.left > 0 || !frame.fin);
        message.append(piece, mask, frame.left, part)?;
        if frame.left > 0 {
            // The next frames belong to the message that has begun.
            frame.opcode = opcode::CONTINUATION;
            self.frame = Some(frame);
        } else if frame.fin
            && let Some(message) = self.message.take()
        {
            self.part.iter_mut().for_each(|part| part.clear());
            return message.finish().map(Some);
        }
        Ok(None)
    }
}

impl Head {
    /// Takes a frame's head off `input` if it is complete. What is wrong is told as soon as it is seen.
    fn read(input: &mut &[u8], max_message: usize, is_client: bool) -> Result<Option<Self>, Fault> {
        let Some(&first) = input.first() else { return Ok(None) };
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Fault::Protocol("a reserved bit; no extension was agreed to"));
        }
        if !matches!(opcode, opcode::CONTINUATION..=opcode::BINARY | opcode::CLOSE..=opcode::PONG) {
            return Err(Fault::Protocol("an unknown opcode"));
        }
        let Some(&second) = input.get(1) else { return Ok(None) };
        if is_client == (second & 0x80 != 0) {
            let fault =
                if is_client { "a frame with a mask, from a server" } else { "a frame without a mask" };
            return Err(Fault::Protocol(fault));
        }
        let short = usize::from(second & 0x7f);
        if opcode >= opcode::CLOSE && !(fin && short <= MAX_CONTROL) {
            return Err(Fault::Protocol(
                "a ping, pong or close frame in fragments or of more than 125 bytes",
            ));
        }
        let mut at = &input[2..];
        let len = match short {
            126 => at.try_get_u16().ok().map(u64::from),
            127 => at.try_get_u64().ok(),
            len => Some(len as u64),
        };
        let Some(len) = len else { return Ok(None) };
        let left = usize::try_from(len).ok().filter(|len| *len <= max_message || opcode >= opcode::CLOSE);
        let left = left.ok_or(Fault::TooBig { max: max_message })?;
        let (mask, rest) = match at.split_first_chunk() {
            _ if is_client => ([0; 4], at),
            Some((mask, rest)) => (*mask, rest),
            None => return Ok(None),
        };
        *input = rest;
        Ok(Some(Self { fin, opcode, left, mask }))
    }
}

impl Partial {
    /// `left` bytes of the frame are still to come.
    fn append(
        &mut self,
        piece: &[u8],
        mask: [u8; 4],
        left: usize,
        part: Option<&mut Box<dyn Part>>,
    ) -> Result<(), Fault> {
        let missing = self.payload.len() + piece.len();
        if missing > self.payload.capacity() {
            // No more memory than four times what was really sent, but without copying the rest again and again.
            let capacity = (missing + left).min((4 * missing).max(1 << 10));
            if part.is_some_and(|part| !part.resize(capacity)) {
                return Err(Fault::Crowded);
            }
            let mut larger = pool::take(capacity);
            larger.extend_from_slice(&self.payload);
            self.payload = larger;
        }
        append(&mut self.payload, piece, mask);
        if self.is_text {
            match str::from_utf8(&self.payload[self.valid..]) {
                Ok(_) => self.valid = self.payload.len(),
                // The rest of the last character is still to come.
                Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
                Err(_) => return Err(Fault::NotUtf8),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Received, Fault> {
        if !self.is_text {
            return Ok(Received::Binary(self.payload));
        }
        String::from_utf8(self.payload.into()).map(Received::Text).map_err(|_| Fault::NotUtf8)
    }
}

/// Adds a piece of a payload, its mask taken off on the way, so that a large one passes through the cache once.
fn append(payload: &mut BytesMut, piece: &[u8], mask: [u8; 4]) {
    // A multiple of the mask's length.
    let mut block = [0; 1_024];
    payload.reserve(piece.len());
    for part in piece.chunks(block.len()) {
        let block = &mut block[..part.len()];
        block.copy_from_slice(part);
        unmask(block, mask);
        payload.extend_from_slice(block);
    }
}

/// A complete ping, pong or close frame.
fn control(opcode: u8, payload: Bytes) -> Result<Received, Fault> {
    match opcode {
        opcode::PING => Ok(Received::Ping(payload)),
        opcode::PONG => Ok(Received::Pong),
        _ if payload.is_empty() => Ok(Received::Close(CloseCode::NO_STATUS)),
        _ => {
            let (code, reason) =
                payload.split_first_chunk::<2>().ok_or(Fault::Protocol("a close frame with half a code"))?;
            let code = u16::from_be_bytes(*code);
            if !may_be_sent(code) {
                return Err(Fault::Protocol("a close code that may not be sent"));
            }
            str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
            Ok(Received::Close(CloseCode(code)))
        }
    }
}

#[cfg(test)]
mod tests;
