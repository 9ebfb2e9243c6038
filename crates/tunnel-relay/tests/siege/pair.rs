//! A client and a server that go about their business.

use crate::support::{Peer, accept, data, key};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tunnel_protocol::frame::{ChannelKind, Frame};
use tunnel_protocol::{ChannelId, ServerId, registration};

/// The secret of the pair's server.
pub(crate) const SERVER: u8 = 200;

/// Sends numbers there and back, in a thread of its own, and checks that each arrives once and in order.
pub(crate) struct Pair {
    thread: JoinHandle<usize>,
    stop: Arc<AtomicBool>,
    /// Of each round trip. Nothing comes any more when the thread has ended.
    times: UnboundedReceiver<Duration>,
}

/// Round trips, in microseconds.
pub(crate) struct Figures {
    pub(crate) p50: f64,
    p99: f64,
}

impl Pair {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (measured, times) = mpsc::unbounded_channel();
        let thread = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(exchange(address, &stop, &measured))
            })
        };
        Self { thread, stop, times }
    }

    /// Its figures while nothing else goes on.
    pub(crate) async fn quiet(&mut self) -> Figures {
        while self.times.try_recv().is_ok() {}
        let mut times = Vec::new();
        while times.len() < 50 {
            times.push(
                self.times.recv().await.expect("the pair has not failed, which it would have said above"),
            );
        }
        Figures::of(times)
    }

    /// Its figures since the last time.
    pub(crate) fn figures(&mut self) -> Figures {
        Figures::of(std::iter::from_fn(|| self.times.try_recv().ok()).collect())
    }

    /// Stops it; how many messages went there and back.
    pub(crate) fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the pair lost nothing")
    }
}

impl Figures {
    fn of(times: Vec<Duration>) -> Self {
        let mut times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
        Self { p50: at(50), p99: at(99) }
    }
}

async fn exchange(address: SocketAddr, stop: &AtomicBool, times: &UnboundedSender<Duration>) -> usize {
    let (mut server, welcome) = Peer::link_to(address).await;
    let proof = registration::prove(&key(SERVER), &welcome.challenge, &server.url).unwrap();
    let server_id = ServerId::Key(key(SERVER).public());
    server.send(Frame::Register { key: key(SERVER).public(), proof, url: String::new() }).await;
    assert_eq!(server.frame().await, Frame::Registered { server_id });
    let (mut client, _) = Peer::link_to(address).await;
    let (channel, kind) = (ChannelId(1), ChannelKind::Session);
    client.send(Frame::Connect { channel, server_id, port: 1, kind, payload: Default::default() }).await;
    assert!(matches!(server.frame().await, Frame::Incoming { channel: ChannelId(2), .. }));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let payload = || [number.to_be_bytes(); 8].concat();
        let start = Instant::now();
        client.send(data(1, payload())).await;
        assert_eq!(server.frame().await, data(2, payload()));
        server.send(data(2, payload())).await;
        assert_eq!(client.frame().await, data(1, payload()));
        times.send(start.elapsed()).unwrap();
        number += 1;
        // Its pace: it is there to be disturbed, and not to take part in the flood.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    number
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0}/{:.0}", self.p50, self.p99))
    }
}
