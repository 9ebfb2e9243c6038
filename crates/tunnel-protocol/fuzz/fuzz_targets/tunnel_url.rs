//! No text makes the reader of tunnel URLs panic, and it reads each in one way: what it found, written again, is the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel_protocol::ServerId;
use tunnel_protocol::tunnel_url::{TunnelUrl, server_url};

fuzz_target!(|text: &str| {
    // Its users have a URL parser before it, but it may not panic without one.
    let _ = (TunnelUrl::parse(text, false), TunnelUrl::parse(text, true));

    let url = &*format!("wss://relay.example/{text}");
    let strict = TunnelUrl::parse(url, false);
    let with_numbers = TunnelUrl::parse(url, true);
    if let Ok(found) = &strict {
        assert!(matches!(found.server, ServerId::Key(_)), "a number is a server only where that is allowed");
        assert_eq!(Ok(found), with_numbers.as_ref(), "the option changes nothing about the ID of a key");
    }
    let Ok(found) = with_numbers else { return };
    assert!(url.starts_with(found.relay));
    assert!(found.path.is_empty() || found.path.starts_with('/'));
    let again = format!("{}/{}{}", server_url(found.relay, &found.server), found.port, found.path);
    let read = TunnelUrl::parse(&again, true).expect("it was one");
    assert_eq!((read.server, read.port, &read.path), (found.server, found.port, &found.path));
});
