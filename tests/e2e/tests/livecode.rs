//! The same conversation through a livecoding server of 2017, which a tab configures.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Relay, Stage, Tab, livecode_server, on_stage};

pub(crate) const CREDENTIAL: &str = "a secret of the test";

/// A tab that knows the livecoding server's address as `node`, and has configured it when there is a credential.
pub(crate) async fn tab<'a>(
    stage: &'a Stage,
    name: &str,
    url: &str,
    credential: Option<&str>,
) -> Result<Tab<'a>> {
    let tab = stage.tab(name).await?;
    tab.run_with(json!(url), "globalThis.node = given").await?;
    if let Some(credential) = credential {
        let script = "globalThis.configurer = await NodeJSTunnelingClient.configureServerAt(node, given)";
        tab.run_with(json!(credential), script).await?;
    }
    Ok(tab)
}

/// An echo server in one tab, configured by it, and clients in two others, all through the server at `url`. Clients can
/// verify the server if that speaks `tunnel.v1`.
async fn converse(stage: &Stage, url: &str, verified: bool) -> Result<()> {
    let server = tab(stage, "server", url, Some(CREDENTIAL)).await?;
    let id = server
        .run(
            "globalThis.server = await ForwardingServerWebSocket.newThrough(node, { livecode: true })
             server.listen(1337, socket => { socket.onmessage = event => socket.send(event.data) })
             return server.serverId",
        )
        .await?;
    let remote_id = if verified { id.clone() } else { Value::Null };
    for name in ["one", "two"] {
        let client = tab(stage, name, url, None).await?;
        let answers = client
            .run_with(
                id.clone(),
                "const socket = await opened(PeerToPeerWebSocket.toPort(1337, given, node, { livecode: true }))
                 globalThis.socket = socket
                 const answers = []
                 for (const message of ['grüße 🚇', new Uint8Array([0, 1, 255]), 'x'.repeat(200000)]) {
                   socket.send(message)
                   const { data } = await next(socket, 'message')
                   answers.push(data instanceof Blob ? [...new Uint8Array(await data.arrayBuffer())] : data)
                 }
                 return [answers[0], answers[1], answers[2].length, socket.encrypted, socket.verified, socket.remoteId]",
            )
            .await?;
        assert_eq!(
            answers,
            json!(["grüße 🚇", [0, 1, 255], 200_000, true, verified, remote_id]),
            "client {name}"
        );
    }
    Ok(())
}

#[test]
fn an_echo_conversation_runs_through_a_livecoding_server_that_a_tab_has_configured() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        converse(stage, &url, false).await
    });
}

#[test]
fn a_relay_of_ours_takes_the_same_configurer() {
    on_stage(async |stage| {
        let relay = Relay::start(&["--livecode-credential", CREDENTIAL])?;
        converse(stage, &relay.url, true).await
    });
}

#[test]
fn a_server_that_allows_it_takes_clients_that_do_not_encrypt_and_knows_it() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        let server = tab(stage, "server", &url, Some(CREDENTIAL)).await?;
        let client = tab(stage, "client", &url, None).await?;
        let id = server
            .run(
                "const server = await ForwardingServerWebSocket.newThrough(node, { livecode: true, allowPlain: true })
                 server.listen(80, socket => {
                   socket.onmessage = ({ data }) => socket.send(`${data}, encrypted: ${socket.encrypted}`)
                 })
                 return server.serverId",
            )
            .await?;
        let echoed = client
            .run_with(
                id,
                "const socket = await opened(ForwardingClientWebSocket.toPort(80, given, node))
                 socket.send('hello')
                 return (await next(socket, 'message')).data",
            )
            .await?;
        assert_eq!(echoed, json!("hello, encrypted: false"));
        Ok(())
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

#[test]
fn plain_texts_are_echoed_between_a_tunneling_client_and_a_forwarding_socket() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        let server = tab(stage, "server", &url, Some(CREDENTIAL)).await?;
        let id = server
            .run(
                "const { serverId, credential } = await configurer.createServerCredential()
                 await configurer.installServer(serverId, credential)
                 globalThis.heard = []
                 configurer.onconnected = ({ channel, port, address }) => heard.push([channel, port, address])
                 configurer.ondata = ({ from, data }) => configurer.forwardToClient(from, `${data} of ${from}`)
                 return serverId",
            )
            .await?;
        let one = tab(stage, "one", &url, None).await?;
        let two = tab(stage, "two", &url, None).await?;
        for (client, port, answer) in [(&one, 80, "grüße  🚇\n of 1"), (&two, 81, "grüße  🚇\n of 2")]
        {
            let echoed = client
                .run_with(
                    json!([port, id]),
                    "globalThis.socket = await opened(ForwardingClientWebSocket.toPort(given[0], given[1], node))
                     socket.send('grüße  🚇\\n')
                     return (await next(socket, 'message')).data",
                )
                .await?;
            assert_eq!(echoed, json!(answer));
        }
        assert_eq!(server.run("return heard").await?, json!([[1, 80, "127.0.0.1"], [2, 81, "127.0.0.1"]]));

        let closed = one.run("socket.close(); return (await next(socket, 'close')).wasClean").await?;
        assert_eq!(closed, json!(true));
        let gone = "try { await configurer.forwardToClient(1, 'x'); return 'taken' } catch (error) { return error.code }";
        assert_eq!(server.run(gone).await?, json!("peer-gone"));

        server.run("await configurer.closeConfigurator()").await?;
        let reason = two
            .run("socket.send('x'); const { code, reason } = await next(socket, 'close'); return [code, reason.split(':')[0]]")
            .await?;
        assert_eq!(reason, json!([1006, "server-not-found"]));
        Ok(())
    });
}

#[test]
fn a_configurer_runs_instructions_of_its_own() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        let tab = tab(stage, "a", &url, Some(CREDENTIAL)).await?;
        let answer = tab
            .run(
                "const lines = []
                 configurer.onlog = event => lines.push(event.data)
                 await configurer.addInstruction('add', function (a, b) { this.send(`${a} and ${b}`); return a + b })
                 const { sent, returned } = await configurer.invoke('add', 1, 2)
                 const missing = await configurer.invoke('subtract').catch(error => error.code)
                 const evaluated = await configurer.eval(\"ws.send('evaluated')\")
                 const modules = await configurer.modules()
                 return [sent, returned, missing, evaluated.sent, Array.isArray(modules), lines.slice(0, 4)]",
            )
            .await?;
        assert_eq!(
            answer,
            json!([
                ["1 and 2"],
                "3",
                "rejected",
                ["evaluated"],
                true,
                [
                    "server: received command 'add instruction'",
                    "server: adding instruction 'add'",
                    "server: received command 'add'",
                    "server: evaluating added instruction 'add'",
                ],
            ])
        );
        Ok(())
    });
}

#[test]
fn a_server_of_2017_evaluates_and_says_that_it_has_no_more() {
    on_stage(async |stage| {
        let (_node, url) = livecode_server(CREDENTIAL)?;
        let tab = tab(stage, "a", &url, Some(CREDENTIAL)).await?;
        let told = tab
            .run(
                "const unsupported = await configurer.instructions().catch(error => error.code)
                 return [configurer.capabilities, await configurer.evaluate('6 * 7'), unsupported]",
            )
            .await?;
        assert_eq!(told, json!([null, "42", "unsupported"]));
        Ok(())
    });
}
