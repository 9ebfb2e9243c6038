//! A link against a relay that the tests play.

use super::*;
use crate::time::Duration;

const NOW: Instant = Instant::from_micros(1_000_000);

/// A link that the relay has welcomed.
fn link() -> Link {
    link_of(Duration::from_secs(60))
}

fn link_of(idle_timeout: Duration) -> Link {
    let mut link = Link::new("", NOW);
    link.opened(false, NOW);
    let welcome = Frame::Welcome(Box::new(Welcome {
        version: VERSION,
        features: 0,
        max_frame: 65_536,
        max_channels: 1,
        channel_buffer: 1,
        idle_timeout,
        challenge: StaticKey::from_secret([1; 32]).public(),
        address: String::new(),
        node: String::new(),
    }));
    link.handle_message(welcome.encode(), NOW).expect("welcome");
    while link.poll_transmit().is_some() || link.poll_event().is_some() {}
    link
}

fn incoming(channel: u32, kind: ChannelKind) -> Bytes {
    let (channel, payload) = (ChannelId(channel), Bytes::new());
    Frame::Incoming { channel, port: 1, kind, address: String::new(), payload }.encode()
}

#[test]
fn a_relay_whose_idle_timeout_is_zero_is_pinged_twice_a_second_at_most() {
    let mut link = link_of(Duration::ZERO);
    let (mut now, mut pings) = (NOW, 0);
    while now < NOW + Duration::from_secs(10) {
        assert_eq!(link.handle_timeout(now), Ok(()));
        if let Some(ping) = link.poll_transmit() {
            assert!(matches!(Frame::decode(ping), Ok(Some(Frame::Ping { .. }))));
            pings += 1;
            let pong = Frame::Pong { nonce: now.as_micros() };
            assert_eq!(link.handle_message(pong.encode(), now), Ok(()));
        }
        now += Duration::from_millis(1);
    }
    assert!(pings <= 20, "{pings} in ten seconds");
}

#[test]
fn a_relay_that_closes_with_a_code_that_is_none_ends_the_link_with_1002() {
    for code in [0, 999, 5_000, u16::MAX] {
        let (code, reason) = (CloseCode(code), String::new());
        let close = Frame::Close { channel: ChannelId(1), code, reason };
        let error = link().handle_message(close.encode(), NOW).expect_err("it is no code");
        assert_eq!(error.code(), CloseCode::PROTOCOL_ERROR);
        let error = Frame::Error { code, text: String::new() };
        assert!(link().handle_message(error.encode(), NOW).is_err());
    }
}

#[test]
fn a_channel_of_an_unknown_kind_is_refused_and_the_link_goes_on() {
    let mut link = link();
    assert_eq!(link.handle_message(incoming(2, ChannelKind::Unknown(2)), NOW), Ok(()));
    assert_eq!(link.poll_event(), None);
    let Some(Ok(Some(Frame::Close { channel, code, .. }))) = link.poll_transmit().map(Frame::decode) else {
        panic!("it is refused")
    };
    assert_eq!((channel, code), (ChannelId(2), CloseCode::REFUSED));
    assert_eq!(link.handle_message(incoming(4, ChannelKind::Session), NOW), Ok(()));
    assert!(matches!(link.poll_event(), Some(LinkEvent::Incoming { channel: ChannelId(4), .. })));
}

#[test]
fn a_relay_that_accepts_a_channel_that_it_opened_itself_ends_the_link_with_1002() {
    let mut link = link();
    assert_eq!(link.handle_message(incoming(2, ChannelKind::Session), NOW), Ok(()));
    let accept = Frame::Accept { channel: ChannelId(2), payload: Bytes::new() };
    let error = link.handle_message(accept.encode(), NOW).expect_err("it is the server that accepts");
    assert_eq!(error.code(), CloseCode::PROTOCOL_ERROR);
}

#[test]
fn the_round_trip_is_the_time_that_the_relay_took_to_answer_the_last_ping() {
    let mut link = link();
    assert_eq!(link.round_trip(), None);
    link.probe(NOW);
    let pong = |nonce: u64| Frame::Pong { nonce }.encode();
    let later = NOW + Duration::from_millis(30);
    assert_eq!(link.handle_message(pong(NOW.as_micros() - 1), later), Ok(()));
    assert_eq!(link.round_trip(), None, "an answer to a ping that was never sent");
    assert_eq!(link.handle_message(pong(NOW.as_micros()), later), Ok(()));
    assert_eq!(link.round_trip(), Some(Duration::from_millis(30)));
    assert_eq!(link.handle_message(pong(NOW.as_micros()), later + Duration::from_secs(9)), Ok(()));
    assert_eq!(link.round_trip(), Some(Duration::from_millis(30)), "a second answer to the same ping");
}
