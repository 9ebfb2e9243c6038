//! No message, and nothing in the subprotocol's name of a WebSocket's handshake, makes the decoder panic, and what it
//! understands it writes and reads again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tunnel_protocol::{Frame, early};

fuzz_target!(|message: &[u8]| {
    if let Some(frames) = early::decode(Bytes::copy_from_slice(message)) {
        assert_eq!(early::encode(&frames), (message.to_vec(), frames.len()));
    }
    let Ok(Some(frame)) = Frame::decode(Bytes::copy_from_slice(message)) else { return };
    let encoded = frame.encode();
    assert!(encoded.len() <= message.len(), "no frame grows: {frame:?}");
    assert_eq!(Frame::decode(encoded), Ok(Some(frame)));
});
