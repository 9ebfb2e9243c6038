//! A link: a WebSocket to the relay, and the task that reads and writes it.

use super::dial::{Relay, Socket};
use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_websockets::Message;
use tunnel_protocol::CloseCode;
use tunnel_protocol::close::truncate_reason;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};

/// Bytes that are left in a link's queue before its socket is waited for.
const HIGH_WATER_MARK: usize = 256 << 10;

/// Time in which a link that is hung up may still write, and wait for the relay's close.
const PARTING: Duration = Duration::from_secs(5);

/// Something that has happened to a link.
pub(super) enum News {
    /// It is open; `greeted` if the relay has taken the early frames.
    Opened {
        greeted: bool,
    },
    Message(LinkMessage),
    Closed(CloseCode, String),
}

/// Notified when something has changed that [`leave`](super::leave) waits for: a driver has acted, or a link has parted.
pub(super) static CHANGED: Notify = Notify::const_new();

/// Links of a driver that were hung up and have not written all, or not seen the relay's close.
#[derive(Clone, Default)]
pub(super) struct Parting(Arc<AtomicUsize>);

impl Parting {
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    fn begin(&self) -> Parted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Parted(self.clone())
    }
}

/// Counts a link as parted when it is dropped, which it also is with a task that takes no more orders.
struct Parted(Parting);

impl Drop for Parted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
        CHANGED.notify_waiters();
    }
}

enum Order {
    Send(LinkMessage),
    Close(CloseCode, String, Parted),
}

/// The end of a link.
enum End {
    /// The relay closed it, or the connection failed.
    Closed(CloseCode, String),
    /// The owner hung it up.
    HungUp(Option<Parted>),
}

/// A link as its owner has it. Its task ends when it is dropped.
pub(super) struct Link {
    orders: mpsc::UnboundedSender<Order>,
    /// Bytes in `orders`, which are bounded by [`HIGH_WATER_MARK`] and a message.
    buffered: Arc<AtomicUsize>,
    pub(super) is_open: bool,
}

/// The owner's ears, as the task has them.
#[derive(Clone)]
pub(super) struct Ears {
    /// Bounded, so that a relay is read no faster than what it sends is taken in.
    pub(super) news: mpsc::Sender<(LinkId, News)>,
    /// Notified when there is room again.
    pub(super) room: Arc<Notify>,
}

impl Link {
    /// Dials, with frames in the handshake.
    pub(super) fn open(runtime: &Handle, id: LinkId, relay: Relay, early: Vec<u8>, ears: Ears) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let buffered = Arc::new(AtomicUsize::new(0));
        runtime.spawn(run(id, relay, early, ears, received, buffered.clone()));
        Self { orders, buffered, is_open: false }
    }

    /// Returns whether it takes another message.
    pub(super) fn has_room(&self) -> bool {
        self.is_open && self.buffered.load(Ordering::Relaxed) < HIGH_WATER_MARK
    }

    pub(super) fn send(&self, message: LinkMessage) {
        self.buffered.fetch_add(len(&message), Ordering::Relaxed);
        // The end of a task that takes no more orders is on its way.
        let _ended = self.orders.send(Order::Send(message));
    }

    /// Returns whether all that was sent has been written.
    pub(super) fn has_written(&self) -> bool {
        self.buffered.load(Ordering::Relaxed) == 0
    }

    /// Closes it behind what was sent.
    pub(super) fn close(self, code: CloseCode, reason: String, parting: &Parting) {
        let _ended = self.orders.send(Order::Close(code, reason, parting.begin()));
    }
}

const fn len(message: &LinkMessage) -> usize {
    match message {
        LinkMessage::Binary(bytes) => bytes.len(),
        LinkMessage::Text(text) => text.len(),
    }
}

type Orders = mpsc::UnboundedReceiver<Order>;

async fn run(
    id: LinkId,
    relay: Relay,
    early: Vec<u8>,
    ears: Ears,
    mut orders: Orders,
    buffered: Arc<AtomicUsize>,
) {
    let opened = tokio::select! {
        opened = relay.open(&early) => opened,
        // Nothing is sent before the link is open: the owner wants it no longer.
        _unwanted = orders.recv() => return,
    };
    let (code, reason) = match opened {
        Err(reason) => (CloseCode::ABNORMAL, reason),
        Ok((socket, greeted)) => {
            // An owner that has gone has dropped the orders, too.
            let _gone = ears.news.send((id, News::Opened { greeted })).await;
            let (mut sink, mut stream) = socket.split();
            let end = tokio::select! {
                (code, reason) = read(id, &mut stream, &ears) => End::Closed(code, reason),
                end = write(&mut sink, &mut orders, &buffered, &ears) => end,
            };
            match end {
                End::Closed(code, reason) => (code, reason),
                End::HungUp(_parted) => {
                    // Without reading on, what is unread would have the system reset the connection, and drop what was written.
                    let drained = async { while let Some(Ok(_)) = stream.next().await {} };
                    let _late = timeout(PARTING, drained).await;
                    return;
                }
            }
        }
    };
    let _gone = ears.news.send((id, News::Closed(code, reason))).await;
}

async fn read(id: LinkId, stream: &mut SplitStream<Socket>, ears: &Ears) -> (CloseCode, String) {
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                return (CloseCode::ABNORMAL, format!("the connection to the relay failed: {error}"));
            }
            None => return (CloseCode::ABNORMAL, "the relay ended the connection".to_owned()),
        };
        if let Some((code, reason)) = message.as_close() {
            return (CloseCode(code.into()), reason.to_owned());
        }
        let message = if message.is_binary() {
            LinkMessage::Binary(BytesMut::from(message.into_payload()).freeze())
        } else if let Some(text) = message.as_text() {
            LinkMessage::Text(text.to_owned())
        } else {
            continue;
        };
        let _gone = ears.news.send((id, News::Message(message))).await;
    }
}

/// Carries orders out, up to one to close or to the end of the connection.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    orders: &mut Orders,
    buffered: &AtomicUsize,
    ears: &Ears,
) -> End {
    let failed =
        |error| End::Closed(CloseCode::ABNORMAL, format!("the connection to the relay failed: {error}"));
    loop {
        let message = match orders.recv().await {
            Some(Order::Send(message)) => message,
            end => {
                let (code, reason, parted) = match end {
                    Some(Order::Close(code, reason, parted)) => (code, reason, Some(parted)),
                    _ => (CloseCode::GOING_AWAY, String::new(), None),
                };
                let code =
                    tokio_websockets::CloseCode::try_from(code.0).ok().filter(|code| !code.is_reserved());
                let close = Message::close(code, truncate_reason(&reason));
                let _late = timeout(PARTING, sink.send(close)).await;
                return End::HungUp(parted);
            }
        };
        let len = len(&message);
        let message = match message {
            LinkMessage::Binary(bytes) => Message::binary(bytes),
            LinkMessage::Text(text) => Message::text(text),
        };
        // Messages that wait already leave together.
        let sent = if orders.is_empty() { sink.send(message).await } else { sink.feed(message).await };
        if let Err(error) = sent {
            return failed(error);
        }
        let before = buffered.fetch_sub(len, Ordering::Relaxed);
        if before >= HIGH_WATER_MARK || before == len {
            ears.room.notify_one();
        }
    }
}
