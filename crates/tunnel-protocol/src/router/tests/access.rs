//! Access tokens, the number of servers, limits that change.

use super::*;
use std::sync::Arc;

/// Takes tokens that say themselves what they are worth.
#[derive(Debug)]
struct Doorkeeper;

impl Access for Doorkeeper {
    fn check(&self, token: &str) -> Result<Grant, String> {
        let none = Grant { host: false, connect: false, ..Grant::ALL };
        match token {
            "all" => Ok(Grant::ALL),
            "host" => Ok(Grant { host: true, ..none }),
            "host 1" => Ok(Grant { host: true, server: Some(server_id(1)), ..none }),
            "connect" => Ok(Grant { connect: true, ..none }),
            "connect 1" => Ok(Grant { connect: true, server: Some(server_id(1)), ..none }),
            "ports" => Ok(Grant { connect: true, ports: 1_000..=1_337, ..none }),
            "no ports" => Ok(Grant { connect: true, ports: 1..=1_000, ..none }),
            _ => Err("no".to_owned()),
        }
    }
}

fn refusal(channel: u32, code: CloseCode) -> Frame {
    Frame::Close { channel: ChannelId(channel), code, reason: String::new() }
}

fn guarded() -> Net {
    Net::new(Config { access: Some(Arc::new(Doorkeeper)), ..config() })
}

impl Net {
    fn shows(&mut self, token: &str) -> (LinkId, Option<Welcome>) {
        let link = self.socket();
        self.send(
            link,
            Frame::Hello { min_version: 1, max_version: 1, features: 0, token: token.to_owned() },
        );
        match self.take(link) {
            Some(Frame::Welcome(welcome)) => (link, Some(*welcome)),
            other => {
                assert!(
                    matches!(other, Some(Frame::Error { code: CloseCode::BAD_CREDENTIAL, .. })),
                    "{other:?}"
                );
                (link, None)
            }
        }
    }
}

#[test]
fn hello_needs_an_access_token_if_the_relay_wants_one() {
    let mut net = guarded();
    for (token, admitted) in [("all", true), ("host", true), ("", false), ("al", false), ("all ", false)] {
        let (link, welcome) = net.shows(token);
        assert_eq!(welcome.is_some(), admitted, "{token}");
        let closes = if admitted { vec![] } else { vec![(link, CloseCode::BAD_CREDENTIAL)] };
        assert_eq!(net.closes(), closes, "{token}");
    }
}

#[test]
fn a_token_says_which_servers_a_link_may_host() {
    let mut net = guarded();
    for (token, secret, allowed) in [
        ("all", 1, true),
        ("host", 7, true),
        ("host 1", 1, true),
        ("host 1", 2, false),
        ("connect", 1, false),
        ("connect 1", 1, false),
    ] {
        let (link, welcome) = net.shows(token);
        net.send(link, register(secret, &welcome.unwrap().challenge));
        let expected = if allowed {
            Frame::Registered { server_id: server_id(secret) }
        } else {
            error(CloseCode::BAD_CREDENTIAL)
        };
        assert_eq!(net.received(link), [expected], "{token} {secret}");
        net.router.handle_link_closed(link, net.now);
    }
}

#[test]
fn a_token_says_which_servers_and_ports_a_link_may_connect_to() {
    let mut net = guarded();
    for secret in [1, 2] {
        let (link, welcome) = net.shows("host");
        net.send(link, register(secret, &welcome.unwrap().challenge));
    }
    for (token, secret, allowed) in [
        ("all", 2, true),
        ("connect", 2, true),
        ("connect 1", 1, true),
        ("connect 1", 2, false),
        ("ports", 2, true),
        ("no ports", 2, false),
        ("host", 1, false),
    ] {
        let (link, _) = net.shows(token);
        net.events();
        net.send(link, connect(1, server_id(secret)));
        let answers = net.received(link);
        let expected = if allowed { vec![] } else { vec![refusal(1, CloseCode::BAD_CREDENTIAL)] };
        assert_eq!(answers, expected, "{token} {secret}");
        assert_eq!(net.closes(), [], "the link goes on");
    }
}

#[test]
fn the_livecode_dialect_has_no_place_for_tokens_and_is_off_with_them() {
    let livecode = Some(LivecodeConfig::new("secret", [1; 32]));
    let mut net = Net::new(Config { livecode, access: Some(Arc::new(Doorkeeper)), ..config() });
    let link = net.open(Dialect::Livecode);
    assert_eq!(net.closes(), [(link, CloseCode::POLICY)]);
}

#[test]
fn there_are_so_many_servers_and_one_that_is_known_may_always_register_again() {
    let mut net = Net::new(Config { max_registrations: 2, ..config() });
    let first = net.server(1);
    net.server(2);
    let (third, welcome) = net.welcomed();
    net.send(third, register(3, &welcome.challenge));
    assert_eq!(net.received(third), [error(CloseCode::TRY_AGAIN_LATER)]);
    net.server(1);
    net.router.handle_link_closed(first, net.now);
    net.server(2);
}

#[test]
fn other_limits_hold_from_now_on_and_take_nothing_away() {
    let mut net = Net::new(config());
    let (client, _) = net.pair();
    net.router.configure(Config { max_channels: 1, max_frame: 9_000, ..config() });
    net.send(client, connect(3, server_id(1)));
    assert_eq!(net.received(client), [refusal(3, CloseCode::TRY_AGAIN_LATER)]);
    net.send(client, data(1, "still here"));
    assert_eq!(net.welcomed().1.max_frame, 65_536, "peers were told so");
    assert_eq!(net.welcomed().1.max_channels, 1);
}

#[test]
fn who_may_not_host_costs_no_check_of_a_proof() {
    let mut net = guarded();
    for (token, wanted) in [("all", true), ("host 1", true), ("connect", false), ("", false)] {
        let (link, welcome) = net.shows(token);
        let challenge = welcome.map_or_else(|| server_key(9).public(), |welcome| welcome.challenge);
        let message = register(1, &challenge).encode();
        assert_eq!(net.router.wants_proof(link, &message), wanted, "{token}");
    }
}
