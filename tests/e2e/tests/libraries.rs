//! Real libraries over tunnels: the samples of `docs/libraries.md`, the server in one tab and the client in another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tunnel_e2e::{Relay, Tab, on_stage};

/// Folder of the bundled samples, made once for all tests.
fn bundles() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let bundle = || -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libraries");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libraries.mjs");
        let status = Command::new("node").arg(&script).arg(&folder).status().context("cannot start node")?;
        ensure!(status.success(), "{} failed: are the npm packages of tests/ installed?", script.display());
        Ok(folder)
    };
    let folder = FOLDER.get_or_init(|| bundle().map_err(|error| format!("{error:#}")));
    folder.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Runs a library's sample of a server in one tab and of a client in another; their exports are globals there.
fn in_two_tabs(library: &str, client_of: &str, test: impl AsyncFnOnce(&Tab<'_>, &Tab<'_>) -> Result<()>) {
    on_stage(async |stage| {
        let relay = Relay::start(&["--www", &format!("/libraries={}", bundles()?.display())])?;
        let import = "Object.assign(globalThis, await import(`/libraries/${given}.js`))";
        let server = stage.tab_through("server", &relay.url).await?;
        server.run_with(json!(format!("{library}/server")), import).await?;
        let url = server.run("return server.url").await?;
        let client = stage.tab_through("client", &relay.url).await?;
        client.run_with(url, "globalThis.url = given").await?;
        client.run_with(json!(format!("{client_of}/client")), import).await?;
        test(&server, &client).await
    });
}

#[test]
fn a_document_of_y_websocket_is_the_same_in_both_tabs() {
    in_two_tabs("y-websocket", "y-websocket", async |server, client| {
        server.run("doc.getText('text').insert(0, 'from the server')").await?;
        client
            .run(
                "await new Promise(resolve => provider.synced ? resolve() : provider.once('sync', resolve))
                 provider.awareness.setLocalStateField('name', 'client')
                 doc.getText('text').insert(0, 'from the client, ')",
            )
            .await?;
        let text = "from the client, from the server";
        assert_eq!(client.text_of("return doc.getText('text').toString()").await?, text);
        let arrived = format!("doc.getText('text').toString() === '{text}'");
        server.until("the client's words arrive", &arrived).await?;
        let named = "[...awareness.getStates().values()].some(({ name }) => name === 'client')";
        server.until("the client is present", named).await?;

        server.run("doc.getText('text').delete(0, 5)").await?;
        client
            .until("the deletion arrives", "doc.getText('text').toString().startsWith('the client')")
            .await?;
        client.run("provider.destroy()").await?;
        server.until("the client is gone", &format!("!{named}")).await?;
        Ok(())
    });
}

#[test]
fn graphql_ws_answers_a_query_and_a_subscription() {
    in_two_tabs("graphql-ws", "graphql-ws", async |server, client| {
        let results = client
            .run(
                "const all = async query => {
                   const results = []
                   for await (const { data } of client.iterate({ query })) results.push(data)
                   return results
                 }
                 return [
                   await all('{ greeting(name: \"tab\") }'),
                   await all('subscription { countdown(from: 3) }'),
                 ]",
            )
            .await?;
        let countdown = [3, 2, 1].map(|countdown| json!({ "countdown": countdown }));
        assert_eq!(results, json!([[{ "greeting": "hello tab" }], countdown]));
        client.run("await client.dispose()").await?;
        server.until("the client is gone", "server.clients.size === 0").await?;
        Ok(())
    });
}

#[test]
fn capnweb_calls_objects_in_the_other_tab_both_ways() {
    in_two_tabs("capnweb", "capnweb", async |_, client| {
        let answers = client
            .run(
                "const heard = []
                 await api.tell(text => { heard.push(text) })
                 const counter = api.makeCounter()
                 return [await api.greet('tab'), await counter.increment(2), await counter.increment(3), heard]",
            )
            .await?;
        assert_eq!(answers, json!(["hello tab", 2, 5, ["the server calls back"]]));
        Ok(())
    });
}

#[test]
fn mqtt_js_publishes_and_subscribes_at_an_aedes_in_the_other_tab() {
    in_two_tabs("mqtt", "mqtt", async |server, client| {
        let heard = client
            .run(
                "const heard = []
                 const all = new Promise(resolve => client.on('message', (topic, payload) => {
                   heard.push([topic, payload.length > 99 ? payload.length : payload.toString()])
                   if (heard.length === 3) resolve()
                 }))
                 await client.subscribeAsync('rooms/#', { qos: 1 })
                 for (const qos of [0, 1]) await client.publishAsync('rooms/kitchen', `warm ${qos}`, { qos })
                 await client.publishAsync('rooms/large', '.'.repeat(300_000), { qos: 1 })
                 await all
                 return heard",
            )
            .await?;
        let kitchen = |payload| json!(["rooms/kitchen", payload]);
        assert_eq!(heard, json!([kitchen("warm 0"), kitchen("warm 1"), ["rooms/large", 300_000]]));
        assert_eq!(
            server.run("return [...server.clients].map(({ protocol }) => protocol)").await?,
            json!(["mqtt"])
        );
        client.run("await client.endAsync()").await?;
        server
            .until("the client is gone", "broker.connectedClients === 0 && server.clients.size === 0")
            .await?;
        Ok(())
    });
}

/// A conversation that the server's tab interrupts.
async fn reconnects(server: &Tab<'_>, client: &Tab<'_>) -> Result<()> {
    client
        .run("globalThis.heard = []; socket.addEventListener('message', ({ data }) => heard.push(data))")
        .await?;
    client.run("socket.send('one')").await?;
    client.until("an answer", "heard.length === 1").await?;
    server.run("for (const client of server.clients) client.close(4000, 'again, please')").await?;
    client.until("the socket reconnects", "socket.readyState === 1 && socket.retryCount === 0").await?;
    server.until("only the new socket is left", "server.clients.size === 1").await?;
    client.run("socket.send('two')").await?;
    client.until("another answer", "heard.length === 2").await?;
    assert_eq!(client.run("return heard").await?, json!(["one to you", "two to you"]));
    Ok(())
}

#[test]
fn partysocket_reconnects_to_the_other_tab() {
    in_two_tabs("partysocket", "partysocket", reconnects);
}

#[test]
fn reconnecting_websocket_reconnects_to_the_other_tab() {
    in_two_tabs("partysocket", "reconnecting-websocket", reconnects);
}
