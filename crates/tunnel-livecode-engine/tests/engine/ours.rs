//! The tunnel's six instructions of this project, in the sandbox: what a livecoding server of 2017 runs after a page has added them.

use crate::support::Rig;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::LinkId;

/// A rig whose sandbox has the six. With a comment they are foreign: the router does none of them by itself.
fn rig() -> Option<(Rig, LinkId)> {
    let mut rig = Rig::new()?;
    let link = rig.open();
    for instruction in Instruction::ALL {
        let added =
            rig.add(link, instruction.name(), &format!("{}\n// as a page has it", instruction.source()));
        assert_eq!(added.len(), 2, "{added:?}");
    }
    assert_eq!(rig.invoke(link, "initialize", "[]"), ["server: initialized"]);
    Some((rig, link))
}

/// A server: its link, its number and its credential.
fn server(rig: &mut Rig) -> (LinkId, String, String) {
    let link = rig.open();
    let told = rig.invoke(link, "create server credential", "[]");
    let (id, credential) = told[0].split_once(' ').expect("a number and a credential");
    let (id, credential) = (id.to_owned(), credential.to_owned());
    assert_eq!(told[1], format!("server: {id}"));
    assert_eq!(credential.len(), 64);
    let installed = rig.invoke(link, "install server", &format!(r#"[{id},"{credential}"]"#));
    assert_eq!(installed, ["1", "server: 1"]);
    (link, id, credential)
}

fn connect(rig: &mut Rig, server: (LinkId, &str)) -> (LinkId, String) {
    let client = rig.open();
    assert_eq!(rig.invoke(client, "connect to server", &format!("[{},1337]", server.1)), ["1", "server: 1"]);
    let told = rig.texts(server.0);
    let parts: Vec<_> = told[0].split(' ').collect();
    let ["connected:atPort:for:", channel, "1337", "192.0.2.7"] = parts[..] else { panic!("{told:?}") };
    (client, channel.to_owned())
}

#[test]
fn a_client_and_a_server_talk() {
    let Some((mut rig, _)) = rig() else { return };
    let (server, id, _) = server(&mut rig);
    let (client, channel) = connect(&mut rig, (server, &id));
    let (other, second) = connect(&mut rig, (server, &id));
    assert_ne!(channel, second);
    assert_eq!(
        rig.invoke(client, "forward to server", &format!(r#"[{id},"hello you"]"#)),
        ["1", "server: 1"]
    );
    assert_eq!(rig.texts(server), [format!("from:data: {channel} hello you")]);
    assert_eq!(
        rig.invoke(server, "forward to client", &format!(r#"[{channel},"grüße"]"#)),
        ["1", "server: 1"]
    );
    assert_eq!(rig.texts(client), [format!("from:data: {id} grüße")]);
    assert!(rig.texts(other).is_empty());
}

#[test]
fn who_has_no_right_is_answered_with_0() {
    let Some((mut rig, _)) = rig() else { return };
    let (server, id, _) = server(&mut rig);
    let (_client, channel) = connect(&mut rig, (server, &id));
    let stranger = rig.open();
    for (name, parameters) in [
        ("install server", format!(r#"[{id},"guessed"]"#)),
        ("install server", "[99,1]".to_owned()),
        ("connect to server", "[99,1]".to_owned()),
        ("connect to server", format!("[{id},65536]")),
        ("forward to client", format!(r#"[{channel},"x"]"#)),
        ("forward to server", format!(r#"[{id},"x"]"#)),
        ("forward to server", "[]".to_owned()),
        ("forward to client", "[null,null]".to_owned()),
    ] {
        assert_eq!(rig.invoke(stranger, name, &parameters), ["0", "server: 0"], "{name} {parameters}");
    }
}

#[test]
fn a_session_hears_the_end_of_its_peer_and_a_seat_can_be_taken_again() {
    let Some((mut rig, _)) = rig() else { return };
    let (server, id, credential) = server(&mut rig);
    let (client, channel) = connect(&mut rig, (server, &id));
    let (quiet, _) = connect(&mut rig, (server, &id));
    // Only sessions understand it: a packet has travelled.
    rig.invoke(client, "forward to server", &format!(r#"[{id},"tunnel.v1:AQ"]"#));
    rig.texts(server);
    rig.close(client);
    rig.close(quiet);
    assert_eq!(rig.texts(server), [format!("from:data: {channel} tunnel.v1:BQ5/")], "END 3711");

    let (client, _) = connect(&mut rig, (server, &id));
    rig.invoke(client, "forward to server", &format!(r#"[{id},"tunnel.v1:AQ"]"#));
    rig.close(server);
    assert_eq!(rig.texts(client), [format!("from:data: {id} tunnel.v1:BQ5/")]);
    let late = rig.open();
    assert_eq!(rig.invoke(late, "connect to server", &format!("[{id},1]")), ["0", "server: 0"]);
    let again = rig.open();
    assert_eq!(rig.invoke(again, "install server", &format!(r#"[{id},"{credential}"]"#)), ["1", "server: 1"]);
    assert_eq!(rig.invoke(late, "connect to server", &format!("[{id},1]")), ["1", "server: 1"]);
}
