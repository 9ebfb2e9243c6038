//! A network between the browser and the relay that misbehaves by the dice of a seed.
//!
//! It passes TCP connections on. Once it is told to be wild it cuts them (as a crashed machine does and as one that
//! ends in order), holds them up for a while, and tears what they carry into odd pieces.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tunnel_simulation::Random;

/// Each connection holds two buffers; a browser with a handful of tabs has a dozen connections.
const MAX_CONNECTIONS: usize = 256;

/// The bytes that are read at once: a frame of the link protocol rarely fits, so that most are torn anyway.
const BUFFER: usize = 32 * 1024;

/// The time that a connection which was ended in order may take to be ended from the other sides, too.
const LINGER: Duration = Duration::from_secs(1);

/// Counts of what has been done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Connections taken.
    pub connections: u64,
    /// Of these, those for which the relay was not there.
    pub refused: u64,
    /// Connections cut with a reset.
    pub resets: u64,
    /// Connections cut in order, in the middle of what they carried.
    pub ends: u64,
    /// Times that one was held up for longer than a person would not notice.
    pub stalls: u64,
    /// Short delays.
    pub delays: u64,
    /// Pieces that something was torn into at odd offsets.
    pub splits: u64,
    /// Bytes taken to be passed on.
    pub bytes: u64,
}

impl Tally {
    /// Connections cut, one way or the other.
    #[must_use]
    pub const fn cuts(&self) -> u64 {
        self.resets + self.ends
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, refused, resets, ends, stalls, delays, splits, bytes } = self;
        let mebibytes = bytes >> 20;
        write!(f, "{connections} connections, {refused} without a relay, {resets} reset, {ends} ended, ")?;
        write!(f, "{stalls} stalls, {delays} delays, {splits} splits, {mebibytes} MiB")
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    resets: AtomicU64,
    ends: AtomicU64,
    stalls: AtomicU64,
    delays: AtomicU64,
    splits: AtomicU64,
    bytes: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// A proxy in a thread of its own, on a free port of 127.0.0.1. Dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Chaos {
    address: SocketAddr,
    wild: watch::Sender<bool>,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Chaos {
    /// Passes everything on to `relay`, faithfully until [`set_wild`](Self::set_wild).
    pub fn start(relay: SocketAddr, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (wild, mood) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let tally = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener does not block");
                tokio::select! {
                    () = take_connections(&listener, relay, Random::new(seed), &mood, &tally) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, wild, counters, stop: Some(stop), thread: Some(thread) })
    }

    /// `ws://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Begins to misbehave, or leaves it.
    pub fn set_wild(&self, wild: bool) {
        self.wild.send_replace(wild);
    }

    /// Returns what it has done.
    pub fn tally(&self) -> Tally {
        let Counters { connections, refused, resets, ends, stalls, delays, splits, bytes } = &*self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            connections: read(connections),
            refused: read(refused),
            resets: read(resets),
            ends: read(ends),
            stalls: read(stalls),
            delays: read(delays),
            splits: read(splits),
            bytes: read(bytes),
        }
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics only with a test that has failed already.
            let _ = thread.join();
        }
    }
}

async fn take_connections(
    listener: &TcpListener,
    relay: SocketAddr,
    mut dice: Random,
    mood: &watch::Receiver<bool>,
    counters: &Arc<Counters>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        // An attempt that failed between its arrival and here is none.
        let Ok((near, _)) = listener.accept().await else { continue };
        add(&counters.connections, 1);
        let dice = Random::new(dice.next());
        let (mood, counters) = (mood.clone(), Arc::clone(counters));
        tokio::spawn(async move {
            // A connection that fails is what this is about.
            let _ = pass_on(near, relay, dice, mood, &counters).await;
            drop(permit);
        });
    }
}

/// The end of one direction of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Its sender has nothing more to say.
    Said,
    /// One of the two sides has gone.
    Gone,
    /// The dice wanted it.
    Cut,
}

async fn pass_on(
    mut near: TcpStream,
    relay: SocketAddr,
    mut dice: Random,
    mood: watch::Receiver<bool>,
    counters: &Counters,
) -> io::Result<()> {
    let mut far = match TcpStream::connect(relay).await {
        Ok(far) => far,
        Err(error) => {
            add(&counters.refused, 1);
            near.set_zero_linger()?;
            return Err(error);
        }
    };
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let in_order = dice.one_in(2);
    // One in three has its hour, whatever it carries.
    let lifetime = dice.one_in(3).then(|| Duration::from_millis(10 + dice.below(4_000)));
    let (up, down) = (Random::new(dice.next()), Random::new(dice.next()));
    let end = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        tokio::select! {
            end = Direction::new(up, &mood, counters).run(near_read, far_write) => end,
            end = Direction::new(down, &mood, counters).run(far_read, near_write) => end,
            () = expire(lifetime, mood.clone()) => End::Cut,
        }
    };
    match end {
        End::Cut if in_order => add(&counters.ends, 1),
        End::Cut => add(&counters.resets, 1),
        End::Said | End::Gone => {}
    }
    if end == End::Gone || end == End::Cut && !in_order {
        near.set_zero_linger()?;
        return far.set_zero_linger();
    }
    // Bytes that neither side has read would turn the end into a reset.
    tokio::time::timeout(LINGER, async {
        tokio::try_join!(end_in_order(&mut near), end_in_order(&mut far)).map(drop)
    })
    .await?
}

/// Resolves when a wild connection has lived for so long.
async fn expire(lifetime: Option<Duration>, mut mood: watch::Receiver<bool>) {
    if let Some(lifetime) = lifetime {
        loop {
            if mood.wait_for(|wild| *wild).await.is_err() {
                break;
            }
            tokio::time::sleep(lifetime).await;
            if *mood.borrow() {
                return;
            }
        }
    }
    std::future::pending().await
}

async fn end_in_order(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = vec![0; BUFFER];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// One direction of a connection.
struct Direction<'a> {
    dice: Random,
    mood: &'a watch::Receiver<bool>,
    counters: &'a Counters,
    /// Bytes up to the cut.
    budget: u64,
}

impl<'a> Direction<'a> {
    fn new(mut dice: Random, mood: &'a watch::Receiver<bool>, counters: &'a Counters) -> Self {
        // One in eight ends in its handshakes; the others carry from 64 KiB to 64 MiB, each power of two as likely.
        let budget = if dice.one_in(8) {
            dice.below(2_000)
        } else {
            let least = 1 << (16 + dice.below(10));
            least + dice.below(least)
        };
        Self { dice, mood, counters, budget }
    }

    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = vec![0; BUFFER];
        loop {
            let piece = match from.read(&mut buffer).await {
                Ok(0) => return End::Said,
                Ok(length) => &buffer[..length],
                Err(_) => return End::Gone,
            };
            // Counted before it is passed on: who has it all finds it all counted.
            add(&self.counters.bytes, piece.len() as u64);
            let is_wild = *self.mood.borrow();
            let passed = if is_wild { self.maul(piece, &mut to).await } else { to.write_all(piece).await };
            if passed.is_err() {
                return End::Gone;
            }
            if is_wild && self.budget == 0 {
                return End::Cut;
            }
        }
    }

    /// Passes a piece on, up to where the connection is to be cut, with whatever the dice want done to it.
    async fn maul(&mut self, piece: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        let length = self.budget.min(piece.len() as u64);
        self.budget -= length;
        let mut piece = &piece[..length as usize];
        if self.dice.one_in(512) {
            add(&self.counters.stalls, 1);
            tokio::time::sleep(Duration::from_millis(100 + self.dice.below(700))).await;
        } else if self.dice.one_in(32) {
            add(&self.counters.delays, 1);
            tokio::time::sleep(Duration::from_millis(1 + self.dice.below(10))).await;
        }
        while !piece.is_empty() && self.dice.one_in(4) {
            let (head, tail) = piece.split_at(1 + self.dice.below(piece.len() as u64) as usize);
            to.write_all(head).await?;
            add(&self.counters.splits, 1);
            // The rest is a segment of its own.
            tokio::task::yield_now().await;
            piece = tail;
        }
        to.write_all(piece).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unused::UnusedAddress;

    /// A server that sends back what it gets, and a proxy before it.
    async fn echo(seed: u64) -> Chaos {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Chaos::start(address, seed).unwrap()
    }

    /// Returns how far `message` comes back through one connection, and how that ends.
    async fn talk(chaos: &Chaos, message: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let mut answer = vec![0; message.len()];
        // A reset may be there before this task hears that it is connected.
        let mut stream = match TcpStream::connect(chaos.address).await {
            Ok(stream) => stream,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let (mut read, mut write) = stream.split();
        let mut length = 0;
        let end = tokio::select! {
            end = async {
                while length < answer.len() {
                    match read.read(&mut answer[length..]).await? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        more => length += more,
                    }
                }
                Ok(())
            } => end,
            Err(error) = async {
                write.write_all(message).await?;
                std::future::pending::<io::Result<()>>().await
            } => Err(error),
        };
        answer.truncate(length);
        (answer, end)
    }

    #[tokio::test]
    async fn a_calm_proxy_passes_everything_on() {
        let chaos = echo(1).await;
        let message = (0..1_000_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect::<Vec<_>>();
        let (answer, end) = talk(&chaos, &message).await;
        assert!(end.is_ok() && answer == message);
        let tally = chaos.tally();
        assert_eq!((tally.connections, tally.bytes), (1, 2_000_000));
        assert_eq!((tally.cuts(), tally.stalls, tally.delays, tally.splits), (0, 0, 0, 0));
    }

    #[tokio::test]
    async fn a_wild_proxy_cuts_in_both_ways_and_changes_nothing_before() {
        let chaos = echo(2).await;
        chaos.set_wild(true);
        let message = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect::<Vec<_>>();
        let (mut resets, mut ends) = (0, 0);
        while resets == 0 || ends == 0 {
            let (answer, end) = talk(&chaos, &message).await;
            assert_eq!(answer, message[..answer.len()]);
            match end.map_err(|error| error.kind()) {
                Ok(()) => {}
                Err(io::ErrorKind::UnexpectedEof) => ends += 1,
                Err(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => resets += 1,
                Err(other) => panic!("{other}"),
            }
        }
        // The kernel chooses which of the two somebody sees who was held up for long.
        assert!(chaos.tally().cuts() >= resets + ends, "{}", chaos.tally());
    }

    #[tokio::test]
    async fn a_relay_that_is_not_there_is_a_reset() {
        let unused = UnusedAddress::take().unwrap();
        let chaos = Chaos::start(unused.address(), 3).unwrap();
        let (_, end) = talk(&chaos, b"anybody?").await;
        assert!(end.is_err());
        assert_eq!(chaos.tally().refused, 1);
    }
}
