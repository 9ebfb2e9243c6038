//! A long transfer through a network that misbehaves, by a relay that is killed or restarted again and again.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tunnel_simulation::Random;

use crate::chaos::{Chaos, Tally};
use crate::stage::{Relay, Stage};
use crate::tab::Tab;

/// Longest time from one milestone to the next. A redial waits up to 10 s; a handshake that lost its answer 30 s.
const MILESTONE_LIMIT: Duration = Duration::from_secs(90);

/// A person who watches sees something after each such part of the whole.
const MARKS: u64 = 10;

/// Longest time that the relay stays away after it was killed, in milliseconds.
const MAX_DOWN: u64 = 500;

/// A server and a client that send to each other all the while.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// The number of times that the relay is killed, or, every second time, told to end.
    pub kills: u64,
    /// Bytes each way, in MiB.
    pub mebibytes: u64,
    /// The seed that the moments of the kills, the network's moods and the messages follow from.
    pub seed: u64,
}

/// Counts of what had been seen when all was well.
#[derive(Debug)]
pub struct Summary {
    soak: Soak,
    took: Duration,
    tally: Tally,
    /// At the server and at the client.
    sides: [Value; 2],
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Milestone {
    Mark,
    Kill,
}

impl Soak {
    /// An upper bound for the time that it takes.
    #[must_use]
    pub fn limit(&self) -> Duration {
        Duration::from_secs(120 + 10 * self.kills + 2 * self.mebibytes)
    }

    /// Runs it, and prints how far it is.
    pub async fn run(self, stage: &Stage) -> Result<Summary> {
        // Bytes that are buffered on the way come in before the next kill: with less, the transfer would be over too soon.
        ensure!(
            self.kills <= self.mebibytes,
            "{} kills need at least as many MiB each way, not {}",
            self.kills,
            self.mebibytes
        );
        let mut relay = Relay::start(&[])?;
        let chaos = Chaos::start(relay.address()?, self.seed)?;
        let server = stage.tab_through("server", &chaos.url()).await?;
        let client = stage.tab_through("client", &chaos.url()).await?;
        self.connect(&server, &client).await?;
        chaos.set_wild(true);
        let started = Instant::now();
        let sides = self.transfer(&server, &client, &mut relay, &chaos).await;
        let took = started.elapsed();
        let tally = chaos.tally();
        let sides = sides.with_context(|| {
            format!("seed {}; the network: {tally}; the relay said:\n{}", self.seed, relay.said())
        })?;
        self.check(&sides)?;
        chaos.set_wild(false);
        client.run("await soak.end(true)").await?;
        server.run("await soak.end(false)").await?;
        Ok(Summary { soak: self, took, tally, sides })
    }

    /// Both sides begin to send as soon as they are connected.
    async fn connect(&self, server: &Tab<'_>, client: &Tab<'_>) -> Result<()> {
        let given = |id: Value, seed| json!({ "id": id, "bytes": self.mebibytes << 20, "seed": seed });
        let mut dice = Random::new(self.seed);
        let serve = "
            await import('/e2e/soak.js')
            const server = await ForwardingServerWebSocket.newThrough(relay)
            server.onclose = server.onerror = event => reportError(new Error(`the server: ${event.type}`))
            globalThis.soaking = new Promise(resolve => server.listen(1, socket => {
              globalThis.soak = new Soak(socket, given.bytes, given.seed)
              resolve(soak)
              soak.send()
            }))
            return server.serverId";
        let id = server.run_with(given(Value::Null, dice.below(1 << 32)), serve).await?;
        let connect = "
            await import('/e2e/soak.js')
            const socket = PeerToPeerWebSocket.toPort(1, given.id, relay)
            globalThis.soak = new Soak(socket, given.bytes, given.seed)
            await socket.opened
            soak.send()";
        client.run_with(given(id, dice.below(1 << 32)), connect).await?;
        server.run("await soaking").await?;
        Ok(())
    }

    /// The transfer with its kills; returns what the two sides have counted.
    async fn transfer(
        &self,
        server: &Tab<'_>,
        client: &Tab<'_>,
        relay: &mut Relay,
        chaos: &Chaos,
    ) -> Result<[Value; 2]> {
        let started = Instant::now();
        let total = self.mebibytes << 21;
        let mut dice = Random::new(!self.seed);
        let (mut kills, mut least, mut reconnected) = (0, 0, 0);
        for (at, milestone) in self.milestones(&mut dice) {
            // Whatever was on its way at the last kill does not count: a kill hits a transfer that goes on again.
            let given = json!({ "bytes": at.max(least), "reconnected": reconnected });
            let state = server.run_within(MILESTONE_LIMIT, given, "return soak.reaches(given)").await?;
            let bytes = count(&state, "sent")? + count(&state, "received")?;
            if milestone == Milestone::Kill {
                if bytes >= total {
                    bail!("the transfer was over before kill {}", kills + 1);
                }
                if kills % 2 == 0 {
                    relay.kill()?;
                } else {
                    relay.terminate()?;
                }
                tokio::time::sleep(Duration::from_millis(dice.below(MAX_DOWN))).await;
                relay.restart()?;
                kills += 1;
                least = bytes + 1;
                reconnected = count(&state, "reconnected")? + 1;
            }
            println!(
                "  {:>5.1} s  {:>4} of {} MiB  {kills:>2} of {} kills  {:>3} cuts",
                started.elapsed().as_secs_f32(),
                bytes >> 20,
                total >> 20,
                self.kills,
                chaos.tally().cuts(),
            );
        }
        let finish = "return soak.finished()";
        let at_server = server.run_within(MILESTONE_LIMIT, Value::Null, finish).await?;
        let at_client = client.run_within(MILESTONE_LIMIT, Value::Null, finish).await?;
        Ok([at_server, at_client])
    }

    /// The faults by the bytes, both ways, at which they happen: each kill in a stretch of its own, somewhere.
    fn milestones(&self, dice: &mut Random) -> Vec<(u64, Milestone)> {
        let total = self.mebibytes << 21;
        let marks = (1..MARKS).map(|mark| (total / MARKS * mark, Milestone::Mark));
        // Bytes that are buffered on the way would let the last kill come too late.
        let stretch = total / (self.kills + 1);
        let kills = (0..self.kills).map(|kill| (stretch * kill + dice.below(stretch), Milestone::Kill));
        let mut milestones = marks.chain(kills).collect::<Vec<_>>();
        milestones.sort_unstable();
        milestones
    }

    fn check(&self, [server, client]: &[Value; 2]) -> Result<()> {
        for (sender, receiver, way) in [(server, client, "to the client"), (client, server, "to the server")]
        {
            ensure!(sender["sentDigest"].is_string(), "{way}: no digest");
            ensure!(
                sender["sentDigest"] == receiver["receivedDigest"],
                "{way}: other bytes: {sender} {receiver}"
            );
            ensure!(
                sender["messagesSent"] == receiver["messagesReceived"],
                "{way}: messages: {sender} {receiver}"
            );
            ensure!(sender["sent"] == receiver["received"], "{way}: bytes: {sender} {receiver}");
            ensure!(count(sender, "sent")? >= self.mebibytes << 20, "{way}: too few bytes: {sender}");
        }
        for side in [server, client] {
            let (lost, found) = (count(side, "reconnecting")?, count(side, "reconnected")?);
            ensure!(
                lost == found,
                "the socket lost its path {lost} times and found one {found} times: {side}"
            );
        }
        // The server's socket came back before each next kill. The client's may be told late that its path is dead.
        ensure!(count(server, "reconnected")? >= self.kills, "the socket came back too rarely: {server}");
        ensure!(self.kills == 0 || count(client, "reconnected")? > 0, "the client saw nothing: {client}");
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { soak, took, tally, sides } = self;
        let Soak { kills, mebibytes, seed } = soak;
        let seconds = took.as_secs_f32();
        writeln!(f, "seed {seed}: {mebibytes} MiB each way in {seconds:.1} s, both hashes right")?;
        writeln!(f, "  relay   {kills} kills")?;
        writeln!(f, "  network {tally}")?;
        for (name, side) in ["server", "client"].iter().zip(sides) {
            let again = side["stats"]["bytesRetransmitted"].as_u64().unwrap_or_default() >> 20;
            let (messages, reconnected) = (&side["messagesReceived"], &side["reconnected"]);
            writeln!(
                f,
                "  {name}  {messages} messages received in order, reconnected {reconnected} times, {again} MiB sent again"
            )?;
        }
        Ok(())
    }
}

fn count(state: &Value, name: &str) -> Result<u64> {
    state[name].as_u64().with_context(|| format!("{state} has no {name}"))
}
