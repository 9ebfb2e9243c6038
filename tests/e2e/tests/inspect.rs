//! `tunnel-wasm/inspect`, driven through its panel, and what it is made of: `getStats()`, `getLinks()`, `observe`.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Stage, Tab, on_stage};

const PANEL: &str = "tunnel-inspector";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";
const ESCAPE: &str = "\u{e00c}";

/// Hosts a server that answers with what it gets.
async fn echo_host<'a>(stage: &'a Stage) -> Result<Tab<'a>> {
    let host = stage.tab("host").await?;
    let serve = "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
                 globalThis.echo = server.listen([80, { first: 6000, last: 6009 }], socket => {
                   globalThis.client = socket
                   socket.onmessage = ({ data }) => socket.send(data)
                 }, { accept: ({ path }) => path !== '/refused' })";
    host.run(serve).await?;
    Ok(host)
}

/// A page with a socket to the host that is open, and keeps what it hears in `heard`.
async fn guest<'a>(stage: &'a Stage, host: &Tab<'_>) -> Result<Tab<'a>> {
    let id = host.run("return server.serverId").await?;
    let guest = stage.tab("guest").await?;
    let connect = "globalThis.socket = PeerToPeerWebSocket.toPort(80, given, relay)
                   globalThis.heard = []
                   globalThis.happened = []
                   socket.onmessage = ({ data }) => heard.push(data)
                   for (const type of ['reconnecting', 'reconnected', 'close']) {
                     socket.addEventListener(type, ({ code }) => happened.push(code ? `${type} ${code}` : type))
                   }
                   await opened(socket)";
    guest.run_with(id, connect).await?;
    Ok(guest)
}

#[test]
fn a_server_and_the_links_say_what_they_carry_and_a_socket_which_link_it_is_on() {
    on_stage(async |stage| {
        let host = echo_host(stage).await?;
        let guest = guest(stage, &host).await?;
        let refused = "const refused = new PeerToPeerWebSocket(socket.url + '/refused')
                       return await refused.closed.then(() => 'open', error => error.code)";
        assert_eq!(guest.run(refused).await?, "refused");
        guest.run("socket.send('x'.repeat(5000))").await?;
        guest.until("the echo", "heard.length === 1").await?;

        let stats = host.run("return server.getStats()").await?;
        let counts = ["clients", "clientsWaiting", "clientsAdmitted", "clientsRefused", "reconnects"];
        assert_eq!(counts.map(|name| stats[name].clone()), [1, 0, 1, 1, 0].map(Value::from), "{stats}");
        assert_eq!(stats["state"], "hosting");
        assert_eq!(stats["ports"], json!([{ "first": 80, "last": 80 }, { "first": 6000, "last": 6009 }]));
        let links = guest.run("return getLinks()").await?;
        assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
        let link = &links[0];
        assert_eq!(guest.run("return socket.getStats().link").await?, link["id"]);
        for (link, who) in [(link, "guest"), (&stats["link"], "host")] {
            assert_eq!(link["state"], "open", "{who}");
            assert_eq!(link["dialect"], "tunnel.v1", "{who}");
            assert!(link["channels"].as_u64() >= Some(1), "{who}: {link}");
            for way in ["bytesSent", "bytesReceived"] {
                assert!(link[way].as_u64() > Some(5000), "{who}: {way} of {link}");
            }
        }

        let ended = "echo.close(); await server.close(); return server.getStats()";
        let stats = host.run(ended).await?;
        assert_eq!(stats["state"], "ended");
        assert_eq!((&stats["link"], &stats["ports"]), (&Value::Null, &json!([])));
        assert_eq!((&stats["clients"], &stats["clientsAdmitted"]), (&json!(0), &json!(1)), "{stats}");
        Ok(())
    });
}

#[test]
fn the_inspectors_panel_is_out_of_reach_of_the_pages_rules_and_used_by_keyboard() {
    on_stage(async |stage| {
        let host = echo_host(stage).await?;
        let guest = guest(stage, &host).await?;
        let hostile = "const style = document.createElement('style')
                       style.textContent = 'button, table, div, tunnel-inspector, body * { display: none !important; color: red !important }'
                       document.body.append(style)
                       await load('/pkg/inspect.js')
                       return document.querySelector('tunnel-inspector').shadowRoot";
        assert_eq!(guest.run(hostile).await?, Value::Null, "the root is closed");
        guest.press(&format!("{TAB}{ENTER}")).await?;
        let title = guest.text_inside(PANEL, "h2").await?;
        assert_eq!(title, "tunnel-wasm", "the panel shows, whatever the page hides");
        assert_eq!(guest.attribute_inside(PANEL, ".panel", "role").await?, "region");
        // The first row is the socket; its first button chooses it, the second cuts.
        let name = guest.attribute_inside(PANEL, "tbody .actions button", "aria-label").await?;
        assert_eq!(name, "Cut the network to the relay of socket 1");
        guest.screenshot("inspector by keyboard").await?;
        guest.press(ESCAPE).await?;
        assert_eq!(guest.text_inside(PANEL, ".launch").await?, "Tunnel: 1 socket");
        let focus = "return document.activeElement.localName";
        assert_eq!(guest.run(focus).await?, PANEL, "the focus is on the button again");
        Ok(())
    });
}

#[test]
fn the_inspector_cuts_delays_and_ends_and_reports_without_payloads() {
    on_stage(async |stage| {
        let host = echo_host(stage).await?;
        let guest = guest(stage, &host).await?;
        guest.run("globalThis.inspector = await load('/pkg/inspect.js'); inspector.show()").await?;
        let cut = "[aria-label$='the network to the relay of socket 1']";

        // The link was dialled before the inspector was there. The next one is not let through, either.
        guest.click_inside(PANEL, cut).await?;
        guest.until("the socket hears of it", "happened.includes('reconnecting')").await?;
        guest.run("for (const text of ['a secret', 'b', 'c']) socket.send(text)").await?;
        guest.screenshot("inspector cut").await?;
        assert_eq!(guest.run("return heard").await?, json!([]));
        guest.click_inside(PANEL, cut).await?;
        guest.until("all that waited", "heard.length === 3").await?;
        assert_eq!(guest.run("return heard").await?, json!(["a secret", "b", "c"]));

        // This link was dialled through the inspector.
        guest.click_inside(PANEL, cut).await?;
        guest
            .until("it is cut again", "happened.filter(each => each === 'reconnecting').length === 2")
            .await?;
        guest.run("socket.send('d')").await?;
        guest.click_inside(PANEL, cut).await?;
        guest.until("what waited", "heard.at(-1) === 'd'").await?;

        // The button has the focus, and behind it is the delay: none, 50 ms, 200 ms.
        guest.press(&format!("{TAB}{DOWN}{DOWN}")).await?;
        let took = "const start = performance.now()
                    socket.send('slow')
                    while (heard.at(-1) !== 'slow') await new Promise(resolve => setTimeout(resolve, 10))
                    return performance.now() - start";
        let took = guest.run(took).await?;
        assert!(took.as_f64() >= Some(400.0), "200 ms each way, and it took {took} ms");

        guest.click_inside(PANEL, "[aria-label='End socket 1']").await?;
        guest.until("it ends", "happened.includes('close 1006')").await?;
        host.until("the other side, too", "client.readyState === 3").await?;
        let link = "li[data-what='closed'] a";
        let closed = "inspector.report().timeline.find(({ subject, what }) => subject === 'socket 1' && what === 'closed')?.code";
        assert_eq!(guest.until("the timeline has it", closed).await?, 3713);
        guest.until_inside(PANEL, link).await?;
        let href = guest.attribute_inside(PANEL, link, "href").await?;
        assert!(href.as_str().is_some_and(|href| href.ends_with("errors.md#:~:text=3713")), "{href}");
        guest.screenshot("inspector ended").await?;

        let report = guest.run("return inspector.report()").await?;
        let what = report["timeline"].as_array().into_iter().flatten();
        let of_socket =
            what.filter(|entry| entry["subject"] == "socket 1").map(|entry| entry["what"].clone());
        let of_socket = of_socket.collect::<Vec<_>>();
        for expected in ["is there", "sent", "received", "reconnecting", "resumed", "closed"] {
            assert!(of_socket.contains(&expected.into()), "{expected} in {of_socket:?}");
        }
        assert!(!report.to_string().contains("a secret"), "what was sent is nobody's business");
        assert_eq!(report["sockets"][0]["stats"]["messagesReceived"], 5);

        guest.run("inspector.remove()").await?;
        assert_eq!(guest.run("return document.querySelector('tunnel-inspector')").await?, Value::Null);
        Ok(())
    });
}
