//! The bus between relays, as channels: messages to others, and what comes of it. `nats` serves it.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tunnel_protocol::presence::{Publication, Subject};

/// The number of messages that wait for the bus. More than an audit of four million servers.
const WAITING_OUT: usize = 4_096;

/// The number of messages of the bus that wait for the relay.
const WAITING_IN: usize = 1_024;

/// Longest message that is read: the longest of a relay has 41 KB.
pub(super) const MAX_MESSAGE: usize = 64 << 10;

/// One end of the bus: the relay's.
pub(super) struct Bus {
    out: mpsc::Sender<Outgoing>,
    pub(super) events: mpsc::Receiver<BusEvent>,
    lost: Arc<AtomicU64>,
}

/// The other end: that of the task that brings messages to servers of the bus.
pub(super) struct Server {
    pub(super) out: mpsc::Receiver<Outgoing>,
    pub(super) events: mpsc::Sender<BusEvent>,
    lost: Arc<AtomicU64>,
}

/// Something for the bus.
pub(super) enum Outgoing {
    Publication(Publication),
    /// Say when all before it is with a server of the bus.
    Flush(oneshot::Sender<()>),
}

/// Something that happens on the bus.
#[derive(Debug)]
pub(super) enum BusEvent {
    /// It is reached: what is published from now on gets to others, and what they publish comes here.
    Up,
    /// It is not reached any more.
    Down,
    Message(Subject, Bytes),
}

impl Bus {
    /// Makes the two ends.
    pub(super) fn new() -> (Self, Server) {
        let (out, outgoing) = mpsc::channel(WAITING_OUT);
        let (to_events, events) = mpsc::channel(WAITING_IN);
        let lost = Arc::<AtomicU64>::default();
        (Self { out, events, lost: lost.clone() }, Server { out: outgoing, events: to_events, lost })
    }

    /// Publishes a message, unless too many wait: the protocol can do without one, and the relay must not wait.
    pub(super) fn publish(&self, publication: Publication) {
        if self.out.try_send(Outgoing::Publication(publication)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was published is with a server of the bus, or can't be.
    pub(super) async fn flush(&self) {
        let (done, waiting) = oneshot::channel();
        if self.out.send(Outgoing::Flush(done)).await.is_ok() {
            // An error is the end of the other task: nothing is brought any more.
            let _ended = waiting.await;
        }
    }

    /// Returns how many messages were lost because too many waited, either way, or because they were too long.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Hands a message on, unless too many wait.
    pub(super) fn deliver(&self, subject: Subject, payload: Bytes) {
        if payload.len() > MAX_MESSAGE || self.events.try_send(BusEvent::Message(subject, payload)).is_err() {
            self.lost();
        }
    }

    /// Counts messages that were lost.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what waits for a server: it would be late.
    pub(super) fn forget(&mut self) {
        while let Ok(outgoing) = self.out.try_recv() {
            self.forget_one(outgoing);
        }
    }

    pub(super) fn forget_one(&self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Publication(_) => self.lost(),
            Outgoing::Flush(done) => {
                let _nobody_waits = done.send(());
            }
        }
    }
}
