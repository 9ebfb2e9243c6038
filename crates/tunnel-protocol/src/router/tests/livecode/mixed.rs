//! Channels between a peer of `tunnel.v1` and one of the livecode dialect, and full buffers of either.

use super::*;

#[test]
fn a_tunnel_client_reaches_a_livecode_server() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.link();
    let connect = |channel, kind| Frame::Connect {
        channel: ChannelId(channel),
        server_id: ServerId::Number(id),
        port: 7,
        kind,
        payload: Bytes::new(),
    };
    net.send(client, connect(1, ChannelKind::Session));
    assert_eq!(net.received(client), [closed(1, CloseCode::REFUSED)]);
    net.send(client, connect(3, ChannelKind::Plain));
    assert_eq!(net.received(client), [Frame::Accept { channel: ChannelId(3), payload: Bytes::new() }]);
    assert_eq!(net.texts(server), ["connected:atPort:for: 2 7 192.0.2.2:1000"]);

    net.send(client, data(3, "ünlimited"));
    assert_eq!(net.texts(server), ["from:data: 2 ünlimited"]);
    assert_eq!(net.send_client(server, 2, "grüße"), ["1"]);
    assert_eq!(net.received(client), [data(3, "grüße".as_bytes())]);

    net.send(client, data(3, Packet::Who.encode()));
    net.send(client, close(3, CloseCode::NORMAL));
    let end = Packet::End { code: CloseCode::NORMAL, reason: "because".to_owned() };
    let texts = net.texts(server);
    assert_eq!(
        texts,
        [format!("from:data: 2 {}", Packet::Who.encode()), format!("from:data: 2 {}", end.encode())]
    );
    assert_eq!(net.send_client(server, 2, "late"), ["0"]);
}

#[test]
fn data_that_is_no_text_costs_a_tunnel_client_its_channel_to_a_livecode_server() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.link();
    let (channel, server_id, kind) = (ChannelId(1), ServerId::Number(id), ChannelKind::Plain);
    net.send(client, Frame::Connect { channel, server_id, port: 7, kind, payload: Bytes::new() });
    net.received(client);
    net.texts(server);
    net.send(client, data(1, &b"\xff"[..]));
    assert_eq!(net.received(client), [closed(1, CloseCode::PROTOCOL_ERROR)]);
    assert_eq!((net.texts(server), net.closes()), (vec![], vec![]));
    assert_eq!(net.router.stats().channel_ends, 0);
}

#[test]
fn a_tunnel_client_waits_for_a_livecode_server_too() {
    let mut net = livecode();
    let (server, id, credential) = net.text_server();
    net.hang_up(server);
    let client = net.link();
    let (channel, server_id, kind) = (ChannelId(1), ServerId::Number(id), ChannelKind::Plain);
    net.send(client, Frame::Connect { channel, server_id, port: 7, kind, payload: Bytes::new() });
    assert_eq!(net.router.stats().waiting, 1);
    let again = net.texter();
    let sent = net.install(again, id, &credential);
    assert_eq!(sent, ["1", "connected:atPort:for: 2 7 192.0.2.2:1000"]);
    assert_eq!(net.received(client).len(), 1);
}

#[test]
fn a_livecode_client_reaches_a_tunnel_server_by_its_key() {
    let mut net = livecode();
    let server = net.server(1);
    let client = net.texter();
    let id = server_id(1).to_string();
    let to_server = |net: &mut Net, data| {
        net.invoke(client, "forward to server", &[Parameter::Text(&id), Parameter::Text(data)])
    };
    let connect = [Parameter::Text(&id), Parameter::Number(7)];
    assert_eq!(net.invoke(client, "connect to server", &connect), ["1"]);
    assert_eq!(to_server(&mut net, "does not wait"), ["1"]);
    let incoming = Frame::Incoming {
        channel: ChannelId(2),
        port: 7,
        kind: ChannelKind::Plain,
        address: "192.0.2.2:1000".to_owned(),
        payload: Bytes::new(),
    };
    assert_eq!(net.received(server), [incoming], "what is sent is held until the server accepts");
    assert_eq!(to_server(&mut net, "nor now"), ["1"]);
    assert_eq!(net.received(server), []);
    net.send(server, accept(2));
    assert_eq!(net.received(server), [data(2, "does not wait"), data(2, "nor now")]);

    net.send(server, data(2, "hello"));
    assert_eq!(net.texts(client), [format!("from:data: {id} hello")]);
    net.send(server, close(2, CloseCode::NORMAL));
    assert_eq!(to_server(&mut net, "late"), ["0"]);
    assert_eq!(net.router.stats().channel_ends, 0);
    net.hang_up(server);
    net.hang_up(client);
    net.assert_empty();
}

#[test]
fn what_is_held_for_a_server_that_never_accepts_is_dropped() {
    let mut net = livecode();
    let server = net.server(1);
    let client = net.texter();
    let id = server_id(1).to_string();
    net.invoke(client, "connect to server", &[Parameter::Text(&id), Parameter::Number(7)]);
    net.received(server);
    net.invoke(client, "forward to server", &[Parameter::Text(&id), Parameter::Text("held")]);
    net.hang_up(client);
    assert_eq!(net.received(server), [closed(2, CloseCode::PEER_GONE)]);
    assert_eq!((net.router.stats().channel_ends, net.router.stats().buffered), (0, 0));
}

#[test]
fn a_receiver_that_takes_nothing_is_a_0_and_the_channel_stays() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.texter();
    net.connect_to(client, id, 1);
    let megabyte = "x".repeat(1 << 19);
    let answers: Vec<_> = (0..6).flat_map(|_| net.send_server(client, id, &megabyte)).collect();
    assert_eq!(answers, ["1", "1", "1", "0", "0", "0"]);
    assert_eq!(net.texts(server).len(), 4);
    assert_eq!(net.send_server(client, id, "again"), ["1"]);
}

#[test]
fn a_text_that_fits_into_no_frame_is_a_0() {
    let mut net = livecode();
    net.server(1);
    let client = net.texter();
    let id = server_id(1).to_string();
    net.invoke(client, "connect to server", &[Parameter::Text(&id), Parameter::Number(7)]);
    let text = "x".repeat(65_536);
    for (len, answer) in [(65_536 - 5, "1"), (65_536 - 4, "0")] {
        let sent =
            net.invoke(client, "forward to server", &[Parameter::Text(&id), Parameter::Text(&text[..len])]);
        assert_eq!(sent, [answer]);
    }
}

#[test]
fn a_tunnel_server_is_paused_for_a_slow_livecode_client() {
    let mut net = livecode();
    let server = net.server(1);
    let client = net.texter();
    let id = server_id(1).to_string();
    net.invoke(client, "connect to server", &[Parameter::Text(&id), Parameter::Number(7)]);
    net.received(server);
    net.send(server, accept(2));
    for _ in 0..6 {
        net.send(server, data(2, vec![b'x'; 50_000]));
    }
    assert_eq!(net.received(server), [Frame::Pause { channel: ChannelId(2) }]);
    net.texts(client);
    assert_eq!(net.received(server), [Frame::Resume { channel: ChannelId(2) }]);
}
