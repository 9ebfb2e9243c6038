//! The same conversation through a livecoding server of 2017, which a tab configures.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Relay, Stage, Tab, livecode_server, on_stage};

const CREDENTIAL: &str = "a secret of the test";

/// A tab that knows the livecoding server's address as `node`, and has configured it when there is a credential.
async fn tab<'a>(stage: &'a Stage, name: &str, url: &str, credential: Option<&str>) -> Result<Tab<'a>> {
    let tab = stage.tab(name).await?;
    tab.run_with(json!(url), "globalThis.node = given").await?;
    if let Some(credential) = credential {
        let script = "globalThis.configurer = await NodeJSTunnelingClient.configureServerAt(node, given)";
        tab.run_with(json!(credential), script).await?;
    }
    Ok(tab)
}

/// An echo server in one tab, configured by it, and clients in two others, all through the server at `url`.
async fn converse(stage: &Stage, url: &str) -> Result<()> {
    let server = tab(stage, "server", url, Some(CREDENTIAL)).await?;
    let id = server
        .run(
            "globalThis.server = await ForwardingServerWebSocket.newThrough(node)
             server.listen(1337, socket => { socket.onmessage = event => socket.send(event.data) })
             return server.serverId",
        )
        .await?;
    for name in ["one", "two"] {
        let client = tab(stage, name, url, None).await?;
        let answers = client
            .run_with(
                id.clone(),
                "const socket = await opened(PeerToPeerWebSocket.toPort(1337, given, node))
                 globalThis.socket = socket
                 const answers = []
                 for (const message of ['grüße 🚇', new Uint8Array([0, 1, 255]), 'x'.repeat(200000)]) {
                   socket.send(message)
                   const { data } = await next(socket, 'message')
                   answers.push(data instanceof Blob ? [...new Uint8Array(await data.arrayBuffer())] : data)
                 }
                 return [answers[0], answers[1], answers[2].length, socket.encrypted]",
            )
            .await?;
        assert_eq!(answers, json!(["grüße 🚇", [0, 1, 255], 200_000, true]), "client {name}");
    }
    Ok(())
}

#[test]
fn an_echo_conversation_runs_through_a_livecoding_server_that_a_tab_has_configured() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        converse(stage, &url).await
    });
}

#[test]
fn a_relay_of_ours_takes_the_same_configurer() {
    on_stage(async |stage| {
        let relay = Relay::start(&["--livecode-credential", CREDENTIAL])?;
        converse(stage, &relay.url).await
    });
}

#[test]
fn a_wrong_credential_is_rejected() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        let tab = tab(stage, "a", &url, None).await?;
        let error: Value = tab
            .run(
                "try { await NodeJSTunnelingClient.configureServerAt(node, 'a guess'); return 'configured' }
                 catch (error) { return `${error.name} ${error.code}` }",
            )
            .await?;
        assert_eq!(error, json!("TunnelError bad-credential"));
        Ok(())
    });
}
