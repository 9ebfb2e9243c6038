//! A livecode peer proves that it holds a server's key, and instructions know.

use crate::support::{CREDENTIAL, Rig, URL, privileged};
use serde_json::json;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::LinkId;
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{ServerId, registration};

const REJECTED: &str = "server: Error: the proof is not one of this server's key";

fn challenge(rig: &mut Rig, link: LinkId) -> PublicKey {
    let texts = rig.text(link, r#"{"instruction":"prove"}"#);
    let id: ServerId =
        texts[1].strip_prefix("server: challenge ").expect("a challenge").parse().expect("a key");
    *id.key().expect("a key")
}

fn prove(rig: &mut Rig, link: LinkId, server: ServerId, proof: &[u8]) -> String {
    let proof: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
    let parameters = json!({ "server": server.to_string(), "proof": proof });
    let texts = rig.text(link, &json!({ "instruction": "prove", "parameters": parameters }).to_string());
    texts.last().expect("an answer").clone()
}

fn rig() -> Option<(Rig, LinkId, LinkId)> {
    let mut rig = Rig::new()?;
    let (one, two) = (rig.open(), rig.open());
    rig.add(one, "is", "function (server) { return this.prove(server) }");
    Some((rig, one, two))
}

fn is_known(rig: &mut Rig, link: LinkId, server: ServerId) -> bool {
    rig.invoke(link, "is", &format!(r#"["{server}"]"#)) == ["server: true"]
}

#[test]
fn an_instruction_knows_which_servers_its_caller_has_proven_to_be() {
    let Some((mut rig, one, two)) = rig() else { return };
    let key = StaticKey::from_secret([5; 32]);
    let server = ServerId::Key(key.public());
    assert!(!is_known(&mut rig, one, server));
    let challenge = challenge(&mut rig, one);
    let proof = registration::prove(&key, &challenge, URL).expect("a proof");
    assert_eq!(prove(&mut rig, one, server, &proof), format!("server: proven {server}"));
    assert!(is_known(&mut rig, one, server));
    assert!(!is_known(&mut rig, two, server));

    // It is known of the link, not kept by instructions: going back changes nothing.
    rig.text(one, &privileged("checkpoint", &json!({ "label": "a" })));
    rig.text(one, &privileged("restore", &json!({ "label": "a" })));
    assert!(is_known(&mut rig, one, server));
    rig.close(one);
    let again = rig.open();
    assert!(!is_known(&mut rig, again, server));
}

#[test]
fn a_liar_proves_nothing() {
    let Some((mut rig, liar, victim)) = rig() else { return };
    let (key, other) = (StaticKey::from_secret([5; 32]), StaticKey::from_secret([6; 32]));
    let server = ServerId::Key(key.public());
    let mine = challenge(&mut rig, liar);
    let theirs = challenge(&mut rig, victim);
    assert_ne!(mine, theirs);
    let of_another_key = registration::prove(&other, &mine, URL).expect("a proof");
    // The proofs that the victim has shown to this relay and to another one.
    let of_another_link = registration::prove(&key, &theirs, URL).expect("a proof");
    let of_another_relay = registration::prove(&key, &mine, "ws://evil.example/room").expect("a proof");
    for proof in [&of_another_key, &of_another_link, &of_another_relay, &[0; 32]] {
        let told = prove(&mut rig, liar, server, proof);
        assert!(told.starts_with(REJECTED), "{told}");
    }
    assert!(prove(&mut rig, liar, server, &[0; 31]).starts_with(REJECTED));
    assert!(prove(&mut rig, liar, ServerId::Number(1), &of_another_key).starts_with(REJECTED));
    assert!(!is_known(&mut rig, liar, server));
    // Neither by what an instruction is told by its caller, nor by the request.
    let told = rig.text(liar, &format!(r#"{{"instruction":"is","parameters":["{server}"],"about":{{"proven":["{server}"]}},"proven":["{server}"]}}"#));
    assert_eq!(told.last().map(String::as_str), Some("server: false"));
    assert!(!CREDENTIAL.is_empty());
}
