//! Clients that attack the server in a tab, while another client goes on: the tab's memory stays bounded, and every end has
//! its event. `cargo xtask hostile` has them do it at full strength.

use std::env;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tunnel_e2e::{Attacker, Stage, Tab, on_stage_within};

/// Bytes of wasm memory that no attack of the small form takes a tab to.
const SMALL: u64 = 64 * 1024 * 1024;

/// The same for messages that fill what there is for unfinished ones: 256 MiB, of which one address gets half, twice for
/// the moment when a buffer grows, and the rest of the page.
const FILLED: u64 = 448 * 1024 * 1024;

const SERVER: &str = "
    globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
    globalThis.attacked = { opened: 0, closed: [] }
    server.listen(1, socket => {
      attacked.opened++
      socket.onclose = ({ code }) => attacked.closed.push(code)
      socket.onmessage = ({ data }) => socket.send(data)
    })
    return server.serverId";

const HONEST: &str = "
    globalThis.honest = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
    globalThis.echo = async text => {
      const answer = next(honest, 'message')
      honest.send(text)
      return (await answer).data
    }";

/// Returns whether it is left out of `cargo test`.
fn is_full() -> bool {
    env::var_os("TUNNEL_HOSTILE").is_some_and(|form| form == "full")
}

struct Attacked<'a> {
    server: Tab<'a>,
    honest: Tab<'a>,
    relay: SocketAddr,
    id: String,
}

impl<'a> Attacked<'a> {
    async fn new(stage: &'a Stage) -> Result<Self> {
        let (server, honest) = (stage.tab("server").await?, stage.tab("honest").await?);
        let id = server.run(SERVER).await?;
        honest.run_with(id.clone(), HONEST).await?;
        let relay = stage.relay()?.address()?;
        Ok(Self { server, honest, relay, id: id.as_str().context("an ID")?.to_owned() })
    }

    async fn attacker(&self, number: u64) -> Result<Attacker> {
        Attacker::connect(self.relay, &self.id, number).await
    }

    /// The honest client has its echo, and the server's memory is within `bound`.
    async fn holds(&self, what: &str, bound: u64) -> Result<()> {
        ensure!(self.honest.run_with(json!(what), "return echo(given)").await? == json!(what), "{what}");
        let memory =
            self.server.run("return wasmMemory.buffer.byteLength").await?.as_u64().unwrap_or(u64::MAX);
        eprintln!("{what}: {memory} bytes of wasm memory");
        ensure!(memory <= bound, "{what}: {memory} bytes of wasm memory");
        Ok(())
    }

    /// Every socket that has opened is closed, and has its event.
    async fn ends(&self) -> Result<()> {
        let script = "
            await server.close()
            return attacked.opened - attacked.closed.length";
        // Half a minute is what a client has for its answer to the close.
        let without = self.server.run_within(Duration::from_secs(90), Value::Null, script).await?;
        ensure!(without == json!(0), "{without} sockets have no close event");
        let closed = "return honest.readyState === 3 || next(honest, 'close').then(() => true)";
        ensure!(self.honest.run(closed).await? == json!(true));
        Ok(())
    }

    async fn closed(&self) -> Result<Value> {
        self.server.run("return attacked.closed").await
    }
}

fn on_attacked_stage(test: impl AsyncFnOnce(&Attacked<'_>) -> Result<()>) {
    on_stage_within(Duration::from_secs(if is_full() { 1_200 } else { 240 }), async |stage| {
        test(&Attacked::new(stage).await?).await
    });
}

/// The header of a binary message of 100 MiB.
const HUGE: [u8; 9] = [2, 0xc0, 0, 0, 0, 0x06, 0x3f, 0xff, 0xff];

#[test]
fn announced_messages_take_no_memory() {
    on_attacked_stage(async |attacked| {
        let (links, sessions) = if is_full() { (4, 250) } else { (1, 60) };
        let mut all = Vec::new();
        for number in 0..links {
            let mut attacker = attacked.attacker(number).await?;
            for _ in 0..sessions {
                let mut session = attacker.open().await?;
                attacker.say(&mut session, &HUGE).await?;
                all.push(session);
            }
            attacked.holds("announced messages", SMALL).await?;
        }
        attacked.ends().await
    });
}

#[test]
fn empty_messages_beyond_the_credit_end_their_session_and_nothing_else() {
    on_attacked_stage(async |attacked| {
        let (rounds, mut sessions) = (if is_full() { 60 } else { 5 }, 0);
        let mut attacker = attacked.attacker(0).await?;
        for _ in 0..rounds {
            let mut session = match attacker.open().await {
                Ok(session) => session,
                // On a busy machine the tab has no time for the attacker's next client behind the messages of its last ones.
                Err(error) if error.to_string().contains("did not decide") => continue,
                Err(error) => return Err(error),
            };
            sessions += 1;
            // 30,000 empty messages in each record: more than the window has credit for.
            for _ in 0..4 {
                attacker.say(&mut session, &[2, 0].repeat(15_000)).await?;
            }
        }
        ensure!(sessions > 0, "no session was let in");
        attacked.server.until("all are closed", &format!("attacked.closed.length === {sessions}")).await?;
        ensure!(attacked.closed().await? == json!(vec![1002; sessions]));
        attacked.holds("empty messages", SMALL).await?;
        attacked.ends().await
    });
}

#[test]
fn replayed_handshakes_keep_nobody_out() {
    on_attacked_stage(async |attacked| {
        let (links, replays) = if is_full() { (8, 1_900) } else { (1, 1_500) };
        for number in 0..links {
            let mut attacker = attacked.attacker(number).await?;
            let recorded = attacker.handshake()?.2;
            for _ in 0..replays {
                attacker.knock(recorded.clone()).await?;
            }
            attacked
                .honest
                .run_with(json!(attacked.id), "honest.close(); await next(honest, 'close')")
                .await?;
            attacked.honest.run_with(json!(attacked.id), HONEST).await?;
            attacked.holds("replayed handshakes", SMALL).await?;
        }
        attacked.ends().await
    });
}

#[test]
fn handshakes_that_nobody_finishes_keep_nobody_out_for_long() {
    on_attacked_stage(async |attacked| {
        let (links, handshakes) = if is_full() { (2, 1_000) } else { (1, 300) };
        for number in 0..links {
            let mut attacker = attacked.attacker(number).await?;
            for _ in 0..handshakes {
                let message = attacker.handshake()?.2;
                attacker.knock(message).await?;
            }
        }
        attacked.holds("unfinished handshakes", SMALL).await?;
        attacked.ends().await
    });
}

#[test]
fn messages_that_are_never_finished_fill_their_share_and_no_more() {
    if !is_full() {
        return;
    }
    on_attacked_stage(async |attacked| {
        let mut attacker = attacked.attacker(0).await?;
        let mut ends = 0;
        for _ in 0..8 {
            let mut session = attacker.open().await?;
            attacker.say(&mut session, &HUGE).await?;
            if let Err(error) = attacker.pour(&mut session, 48 << 20).await {
                ensure!(error.to_string().contains("1013"), "{error:#}");
                ends += 1;
            }
            attacked.holds("unfinished messages", FILLED).await?;
        }
        ensure!(ends > 0, "there was room for all");
        attacked.ends().await
    });
}
