//! An operator's settings, as pages feel them: certificates, access tokens.

use anyhow::Context as _;
use serde_json::json;
use tunnel_e2e::{Authority, Relay, on_stage, on_stage_trusting, relay_prints};

#[test]
fn a_page_from_a_relay_with_a_certificate_is_secure_and_its_sockets_go_through_tls() {
    let authority = Authority::new().expect("a certificate can be made");
    let files = [authority.certificate(), authority.key()].map(|path| path.display().to_string());
    on_stage_trusting(&authority, async |stage| {
        let relay = Relay::start(&["--tls-certificate", &files[0], "--tls-key", &files[1]])?;
        assert!(relay.url.starts_with("wss://"), "{}", relay.url);
        let server = stage.tab_through("server", &relay.url).await?;
        let script = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, socket => { socket.onmessage = event => socket.send(event.data) })
            return [server.serverId, location.protocol, isSecureContext]";
        let hosted = server.run(script).await?;
        assert_eq!((&hosted[1], &hosted[2]), (&json!("https:"), &json!(true)));
        let client = stage.tab_through("client", &relay.url).await?;
        let script = "
            const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            const sent = noise(300_000)
            socket.binaryType = 'arraybuffer'
            socket.send(sent)
            const { data } = await next(socket, 'message')
            return [socket.url.slice(0, 6), await sha256(data) === await sha256(sent.slice().buffer)]";
        assert_eq!(client.run_with(hosted[0].clone(), script).await?, json!(["wss://", true]));
        Ok(())
    });
}

/// Hosts with a token, and says what came of it.
const HOST: &str = "
    try {
      globalThis.server = await ForwardingServerWebSocket.newThrough(relay, given)
      server.listen(1, () => {})
      return server.serverId
    } catch (error) {
      return [error.constructor.name, error.code, error.message]
    }";

/// Connects with a token, and says what came of it.
const CONNECT: &str = "
    const socket = PeerToPeerWebSocket.toPort(given.port, given.id, relay, given.options)
    try {
      await socket.opened
      return 'open'
    } catch (error) {
      return [error.constructor.name, error.code, error.message]
    }";

#[test]
fn a_page_needs_an_access_token_and_is_told_what_is_wrong_with_the_one_it_shows() {
    on_stage(async |stage| {
        let drawn = relay_prints(&["token", "new", "host"])?;
        let (host_token, entry) = drawn.split_once('\n').context("a token and its entry")?;
        let drawn = relay_prints(&["token", "new", "connect", "ports=1-10"])?;
        let (connect_token, other_entry) = drawn.split_once('\n').context("a token and its entry")?;
        let relay = Relay::start(&["--access-tokens", entry, "--access-tokens", other_entry])?;
        let tab = stage.tab_through("tab", &relay.url).await?;
        for (options, text) in [
            (json!({}), "access token is needed"),
            (json!({ "token": "sesame" }), "is wrong"),
            (json!({ "token": connect_token }), "does not allow to host"),
        ] {
            let refused = tab.run_with(options, HOST).await?;
            assert_eq!((&refused[0], &refused[1]), (&json!("TunnelError"), &json!("bad-credential")));
            assert!(refused[2].as_str().is_some_and(|message| message.contains(text)), "{refused}");
        }
        let id = tab.run_with(json!({ "token": host_token }), HOST).await?;
        assert!(id.is_string(), "{id}");

        let client = stage.tab_through("client", &relay.url).await?;
        for (options, port, text) in [
            (json!({}), 1, "access token is needed"),
            (json!({ "token": host_token }), 1, "does not allow to connect"),
            (json!({ "token": connect_token }), 11, "to this port"),
        ] {
            let given = json!({ "id": id, "port": port, "options": options });
            let refused = client.run_with(given, CONNECT).await?;
            let found = (&refused[0], &refused[1]);
            assert_eq!(found, (&json!("TunnelError"), &json!("bad-credential")), "{refused}");
            assert!(refused[2].as_str().is_some_and(|message| message.contains(text)), "{refused}");
        }
        let given = json!({ "id": id, "port": 1, "options": { "token": connect_token } });
        assert_eq!(client.run_with(given, CONNECT).await?, json!("open"));
        Ok(())
    });
}
