//! Tabs and programs outside of browsers, through one relay.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_e2e::{Program, Relay, Stage, command, on_stage};
use tunnel_wasm::{Message, STREAM_SUBPROTOCOL, Server, Socket};

fn relay(stage: &Stage) -> Result<String> {
    Ok(stage.relay()?.url.clone())
}

#[test]
fn a_tab_talks_to_a_program_that_serves() {
    on_stage(async |stage| {
        let server = Server::builder(relay(stage)?).host().await?;
        let mut clients = server.listen(7)?;
        let tab = stage.tab("guest").await?;
        let given = json!([server.id().to_string(), relay(stage)?]);
        let script = "
            await library
            const [id, relay] = given
            const socket = globalThis.socket = PeerToPeerWebSocket.toPort(7, id, relay, { protocols: ['a', 'b'] })
            socket.binaryType = 'arraybuffer'
            globalThis.heard = []
            socket.onmessage = ({ data }) => heard.push(typeof data === 'string' ? data : new Uint8Array(data).length)
            await socket.opened
            socket.send('hello')
            socket.send(new Uint8Array(300_000))
            return [socket.encrypted, socket.verified, socket.remoteId === id, socket.protocol]";
        let serve = async {
            let client = clients.next().await.context("a client comes")?;
            assert_eq!(client.protocols(), ["a", "b"]);
            let mut socket = client.accept("b").await?;
            let Some(Message::Text(text)) = socket.next().await.transpose()? else { bail!("no text first") };
            let Some(Message::Binary(bytes)) = socket.next().await.transpose()? else {
                bail!("no bytes next")
            };
            socket.send(Message::Text(text + " tab")).await?;
            socket.send(Message::Binary(bytes)).await?;
            Ok(socket)
        };
        let (socket, opened) = tokio::join!(serve, tab.run_with(given, script));
        let socket = socket?;
        assert_eq!(opened?, json!([true, true, true, "b"]));
        tab.until("both answers", "heard.length === 2").await?;
        assert_eq!(tab.run("return heard").await?, json!(["hello tab", 300_000]));
        tab.run("socket.close(4001, 'enough')").await?;
        let end = socket.closed().await;
        assert_eq!(end.code().map(|code| code.0), Some(4001), "{end}");
        Ok(())
    });
}

#[test]
fn a_program_talks_to_a_tab_that_serves_and_goes_on_when_the_relay_was_killed() {
    on_stage(async |stage| {
        let mut own = Relay::start(&[])?;
        let url = own.url.clone();
        let tab = stage.tab("host").await?;
        let script = "
            await library
            const server = globalThis.server = await ForwardingServerWebSocket.newThrough(given)
            server.listen(80, socket => {
              socket.onmessage = ({ data }) => socket.send(`echo ${data}`)
            })
            return server.serverId";
        let id = tab.run_with(json!(url), script).await?;
        let id = id.as_str().context("the server has an ID")?;
        let mut socket = Socket::builder(&url, id, 80).path("/x").connect().await?;
        assert!(socket.remote().verified && socket.remote().encrypted);
        for number in 0..100 {
            socket.feed(Message::Text(number.to_string())).await?;
        }
        socket.flush().await?;
        own.kill()?;
        own.restart()?;
        for number in 100..200 {
            socket.feed(Message::Text(number.to_string())).await?;
        }
        for number in 0..200 {
            let echo = socket.next().await.transpose()?;
            assert_eq!(echo, Some(Message::Text(format!("echo {number}"))));
        }
        Ok(())
    });
}

#[test]
fn a_tab_that_knows_nothing_of_streams_reads_and_writes_bytes() {
    on_stage(async |stage| {
        let server = Server::builder(relay(stage)?).host().await?;
        let mut clients = server.listen(5900)?;
        let tab = stage.tab("viewer").await?;
        let given = json!([server.id().to_string(), relay(stage)?, STREAM_SUBPROTOCOL]);
        let script = "
            await library
            const [id, relay, stream] = given
            const talk = async protocols => {
              const socket = PeerToPeerWebSocket.toPort(5900, id, relay, { protocols })
              socket.binaryType = 'arraybuffer'
              await socket.opened
              socket.send(new TextEncoder().encode('ping'))
              const { value } = await socket[Symbol.asyncIterator]().next()
              if (socket.protocol) socket.send(new Uint8Array())
              else socket.close()
              return [socket.protocol, new TextDecoder().decode(value)]
            }
            return [await talk([]), await talk([stream])]";
        let serve = async {
            for protocol in ["", STREAM_SUBPROTOCOL] {
                let client = clients.next().await.context("a client comes")?;
                let mut stream = client.accept(protocol).await?.into_stream();
                let mut ping = [0; 4];
                stream.read_exact(&mut ping).await?;
                stream.write_all(&ping).await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                assert!(rest.is_empty(), "a clean end: {protocol:?}");
                stream.shutdown().await?;
                stream.closed().await;
            }
            anyhow::Ok(())
        };
        let (served, talked) = tokio::join!(serve, tab.run_with(given, script));
        served?;
        assert_eq!(talked?, json!([["", "ping"], [STREAM_SUBPROTOCOL, "ping"]]));
        Ok(())
    });
}

/// MiB that go there and back, and how often the relay is killed meanwhile: of the whole proof, or of that which `cargo xtask test` has time for.
fn effort() -> (usize, usize) {
    match std::env::var_os("TUNNEL_WHOLE_PROOF") {
        Some(_) => (300, 8),
        None => (24, 3),
    }
}

/// A server that sends back what it reads.
fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        std::io::copy(&mut &stream, &mut &stream)?;
        stream.shutdown(Shutdown::Write)
    });
    Ok(address)
}

/// Blocks of 1 MiB that have no end in common.
fn block(number: usize) -> Vec<u8> {
    (0..1 << 20).map(|index: usize| (number * 31 + index * 7 + index / 251) as u8).collect()
}

#[test]
fn a_connection_between_two_commands_goes_on_over_sigkills_of_the_relay_and_all_arrives_once() -> Result<()> {
    /// Longest silence of the connection; a test that hangs waits for it, and no other.
    const SILENCE: Duration = Duration::from_secs(100);
    let mut relay = Relay::serving(&[])?;
    let keys = tempfile::tempdir()?;
    let tunnel = |arguments: &[&str], ready: &str| {
        let mut tunnel = Command::new(command()?);
        tunnel.args(arguments).env("TUNNEL_RELAY", &relay.url).env("TUNNEL_IDENTITIES", keys.path());
        Program::start(tunnel, ready)
    };
    let to = echo()?.to_string();
    let (listening, _) = tunnel(&["listen", "7", "--to", &to, "--identity", "far", "--allow-anyone"], "/7")?;
    let id = Command::new(command()?).args(["id", "far"]).env("TUNNEL_IDENTITIES", keys.path()).output()?;
    let peer = format!("{}/7", String::from_utf8(id.stdout)?.trim());
    let (near, port) = tunnel(&["connect", &peer, "--listen", "127.0.0.1:0"], "127.0.0.1:")?;

    let (mebibytes, kills) = effort();
    let began = Instant::now();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut sender = stream.try_clone()?;
    let sent = thread::spawn(move || -> Result<_> {
        let mut hash = Sha256::new();
        for number in 0..mebibytes {
            let block = block(number);
            hash.update(&block);
            sender.write_all(&block)?;
        }
        sender.shutdown(Shutdown::Write)?;
        Ok(hash.finalize())
    });
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    let (mut len, mut killed) = (0, 0);
    loop {
        let said = || format!("{len} bytes and {killed} kills\n{}\n{}", listening.said(), near.said());
        let read = stream.read(&mut buffer).with_context(said)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        len += read;
        if killed < kills && len > (mebibytes << 20) * (killed + 1) / (kills + 1) {
            killed += 1;
            relay.kill()?;
            relay.restart()?;
        }
    }
    ensure!(killed == kills, "the relay was killed {killed} times of {kills}");
    assert_eq!(len, mebibytes << 20);
    let sent = sent.join().expect("the sender says what was wrong")?;
    assert_eq!(hash.finalize(), sent, "what came back is what was sent");
    println!(
        "{mebibytes} MiB there and back over {kills} kills of the relay, SHA-256 equal, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
