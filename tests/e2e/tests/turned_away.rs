//! A page whose WebSocket is turned away learns why, whatever the browser keeps to itself; and only as text.

use anyhow::Context as _;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use tunnel_e2e::{Authority, Relay, Stage, on_stage, on_stage_distrusting, on_stage_trusting, relay_prints};

/// Returns what the library says of a relay that cannot be used.
async fn complaint(stage: &Stage, url: &str) -> anyhow::Result<String> {
    let tab = stage.tab("page").await?;
    let script = "
        const { serverId } = await ForwardingServerWebSocket.newThrough(relay)
        const server = await ForwardingServerWebSocket.newThrough(given).catch(error => error)
        const socket = PeerToPeerWebSocket.toPort(1, serverId, given)
        const error = await socket.opened.catch(error => error)
        return [[server.code, error.code], server.message, error.message]";
    let told = tab.run_with(json!(url), script).await?;
    assert_eq!(told[0], json!(["relay-unreachable", "relay-unreachable"]), "{told}");
    let said = told[1].as_str().unwrap_or_default().to_owned();
    let of_socket = told[2].as_str().unwrap_or_default();
    assert!(of_socket.ends_with(&said), "{of_socket:?} has {said:?}");
    Ok(said)
}

#[test]
fn a_page_of_an_origin_that_is_not_allowed_is_told_so() {
    on_stage(async |stage| {
        let relay = Relay::serving(&["--allowed-origins", "https://other.example"])?;
        let said = complaint(stage, &relay.url).await?;
        assert!(said.contains("403") && said.contains("origin may not use this relay"), "{said}");
        Ok(())
    });
}

#[test]
fn a_page_is_told_that_a_relay_is_full() {
    on_stage(async |stage| {
        let relay = Relay::serving(&["--max-connections", "1"])?;
        let _only = TcpStream::connect(relay.address()?)?;
        let said = complaint(stage, &relay.url).await?;
        assert!(said.contains("503") && said.contains("as many connections as it takes"), "{said}");
        Ok(())
    });
}

/// A proxy that has another host in each request, as some do that their operator has not told otherwise.
fn rewriting_proxy(relay: SocketAddr) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || rewrite(stream, address, relay).ok());
        }
    });
    Ok(format!("ws://{address}"))
}

fn rewrite(mut page: TcpStream, own: SocketAddr, relay: SocketAddr) -> std::io::Result<()> {
    let head = read_head(&mut page)?;
    let mut relay = TcpStream::connect(relay)?;
    let head = head.replace(&format!("Host: {own}"), "Host: rewritten.example");
    // One request a connection, so that each head is seen.
    relay.write_all(head.replace("Connection: keep-alive", "Connection: close").as_bytes())?;
    std::io::copy(&mut relay, &mut page)?;
    Ok(())
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn a_page_is_told_that_the_relay_does_not_know_itself_under_the_name_that_it_dialled() {
    on_stage(async |stage| {
        let relay = Relay::serving(&[])?;
        let said = complaint(stage, &rewriting_proxy(relay.address()?)?).await?;
        assert!(said.contains("421") && said.contains("rewritten.example"), "{said}");
        assert!(said.contains("hosts"), "it says what to set: {said}");
        Ok(())
    });
}

#[test]
fn a_page_that_dials_with_tls_where_there_is_none_or_the_other_way_round_is_told_which_to_use() {
    let authority = Authority::new().expect("a certificate can be made");
    let files = [authority.certificate(), authority.key()].map(|path| path.display().to_string());
    on_stage_trusting(&authority, async |stage| {
        let plain = Relay::serving(&[])?;
        let said = complaint(stage, &plain.url.replacen("ws:", "wss:", 1)).await?;
        assert!(said.contains("by http: use a URL that begins with ws:"), "{said}");
        let secure = Relay::serving(&["--tls-certificate", &files[0], "--tls-key", &files[1]])?;
        let said = complaint(stage, &secure.url.replacen("wss:", "ws:", 1)).await?;
        assert!(said.contains("by https: use a URL that begins with wss:"), "{said}");
        Ok(())
    });
}

#[test]
fn a_page_is_told_that_nothing_answers_or_the_browser_does_not_trust_the_certificate() {
    on_stage(async |stage| {
        // Nobody has the port once the listener is dropped.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let said = complaint(stage, &format!("wss://{address}/path?key=secret")).await?;
        let advice = format!("does not trust its certificate: open https://{address}/path in a tab");
        assert!(said.contains(&advice), "{said}");
        Ok(())
    });
}

#[test]
fn a_page_whose_relay_has_a_certificate_that_nobody_known_has_signed_is_told_to_look_at_it() {
    let authority = Authority::new().expect("a certificate can be made");
    let files = [authority.certificate(), authority.key()].map(|path| path.display().to_string());
    on_stage_distrusting(async |stage| {
        let relay = Relay::serving(&["--tls-certificate", &files[0], "--tls-key", &files[1]])?;
        let said = complaint(stage, &relay.url).await?;
        let address = relay.address()?;
        let advice = format!("does not trust its certificate: open https://{address}/ in a tab");
        assert!(said.contains(&advice), "{said}");
        Ok(())
    });
}

/// Answers each request with the bytes that are under its path, and keeps connections that have more to come.
fn liar() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("ws://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A browser that leaves early is no fault of the test.
            std::thread::spawn(move || answer(stream).ok());
        }
    });
    Ok(url)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let head = read_head(&mut stream)?.to_lowercase();
    let mut byte = [0];
    let text = "HTTP/1.1 403 No\r\naccess-control-allow-origin: *\r\ncontent-type: text/plain\r\n";
    if head.contains("upgrade: websocket") {
        return stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
    }
    match head.split(' ').nth(1).unwrap_or_default() {
        "/huge" => {
            stream.write_all(format!("{text}\r\n").as_bytes())?;
            while stream.write_all(&b"much too much ".repeat(1_000)).is_ok() {}
            Ok(())
        }
        "/slow" => {
            stream.write_all(format!("{text}content-length: 9\r\n\r\nwait").as_bytes())?;
            stream.read_exact(&mut byte)
        }
        "/mute" => stream.read_exact(&mut byte),
        "/html" => stream.write_all(
            b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-type: text/html\r\ncontent-length: 25\r\n\r\n<script>alert(1)</script>",
        ),
        "/away" => stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n"),
        _ => stream.write_all(
            format!("{text}content-length: 51\r\n\r\n\u{1b}[31mid-taken-over 3700\r\n\0\0\0 try wss://evil.example").as_bytes(),
        ),
    }
}

#[test]
fn what_answers_in_a_relays_place_is_only_ever_a_short_text_in_the_error() {
    on_stage(async |stage| {
        let url = liar()?;
        let said = complaint(stage, &format!("{url}/huge")).await?;
        assert!(said.contains("403: much too much") && said.len() < 400, "{said}");
        let said = complaint(stage, &format!("{url}/slow")).await?;
        assert!(said.ends_with("403: wait"), "{said}");
        complaint(stage, &format!("{url}/mute")).await?;
        let said = complaint(stage, &format!("{url}/html")).await?;
        assert!(said.ends_with("HTTP status 200"), "{said}");
        let said = complaint(stage, &format!("{url}/away")).await?;
        assert!(!said.contains("127.0.0.1:9/"), "{said}");
        let said = complaint(stage, &format!("{url}/lies")).await?;
        assert!(said.contains("[31mid-taken-over 3700 try wss://evil.example"), "{said}");
        assert!(!said.chars().any(char::is_control), "{said:?}");
        Ok(())
    });
}

/// A relay that wants tokens, and one of them.
fn relay_with_tokens() -> anyhow::Result<(Relay, String)> {
    let drawn = relay_prints(&["token", "new", "host", "connect"])?;
    let (token, entry) = drawn.split_once('\n').context("a token and its entry")?;
    Ok((Relay::start(&["--access-tokens", entry])?, token.to_owned()))
}

#[test]
fn a_token_that_is_a_function_or_a_promise_is_asked_again_at_each_dial() {
    on_stage(async |stage| {
        let (mut relay, token) = relay_with_tokens()?;
        let tab = stage.tab_through("tab", &relay.url).await?;
        let script = "
            globalThis.asked = 0
            const ask = async () => { asked++; return given }
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { token: ask })
            server.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, server.serverId, relay, { token: Promise.resolve(given) }))
            return asked";
        assert_eq!(tab.run_with(json!(token), script).await?, json!(1));
        tab.run("globalThis.again = Promise.all([next(server, 'reconnected'), next(socket, 'reconnected')])")
            .await?;
        relay.kill()?;
        relay.restart()?;
        let script = "
            await again
            socket.send('still here')
            return [(await next(socket, 'message')).data, asked > 1]";
        assert_eq!(tab.run(script).await?, json!(["still here", true]));
        Ok(())
    });
}

#[test]
fn a_token_that_throws_rejects_or_never_comes_is_an_error_that_says_so() {
    on_stage(async |stage| {
        let (relay, _) = relay_with_tokens()?;
        let tab = stage.tab_through("tab", &relay.url).await?;
        let script = "
            const unhandled = []
            addEventListener('unhandledrejection', ({ reason }) => unhandled.push(String(reason)))
            const tokens = [
              () => { throw new Error('no session') },
              Promise.reject(new Error('logged out')),
              () => new Promise(() => {}),
              () => ({ toString() { throw new Error('odd') } }),
            ]
            const host = token => ForwardingServerWebSocket.newThrough(relay, { token }).catch(({ code, message }) => `${code}: ${message}`)
            const results = await Promise.all(tokens.map(host))
            return [...results, unhandled]";
        let failed =
            |why: &str| json!(format!("relay-unreachable: the page's `token` for the relay failed: {why}"));
        let expected = json!([
            failed("no session"),
            failed("logged out"),
            failed("it has not settled within 10 seconds"),
            failed("odd"),
            []
        ]);
        assert_eq!(tab.run(script).await?, expected);
        Ok(())
    });
}
