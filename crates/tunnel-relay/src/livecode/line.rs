//! A link of the relay's router that ends in the relay itself: the WebSocket of a namespace that is a server.

use crate::shared::Shared;
use crate::shared_router::{LinkHandle, Message, Next};
use bytes::{Bytes, BytesMut};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use tunnel_livecode_engine::SERVICE_URL;
use tunnel_protocol::CloseCode;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Dialect, Peer, Registration, Transmit};

/// The address that clients of such a server would see: none, and so limits by address count all of them as one.
const ADDRESS: &str = "livecode";

/// Bytes that are taken from the router under one lock.
const BATCH: usize = 64 << 10;

pub(super) struct Line<'s> {
    link: LinkHandle<'s>,
    peer: Arc<Peer>,
    waker: Waker,
    unsent: Vec<Message>,
}

/// Has the thread look after its links.
struct WakeThread(Weak<Shared>);

impl Wake for WakeThread {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.router.wake_engine();
        }
    }
}

impl<'s> Line<'s> {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(super) fn open(shared: &'s Arc<Shared>) -> Result<Self, getrandom::Error> {
        let mut challenge = [0; 32];
        getrandom::fill(&mut challenge)?;
        let peer = Arc::new(Peer {
            dialect: Dialect::Tunnel,
            address: ADDRESS.to_owned(),
            url: SERVICE_URL.to_owned(),
            challenge: StaticKey::from_secret(challenge),
        });
        let waker = Arc::new(WakeThread(Arc::downgrade(shared))).into();
        Ok(Self { link: shared.router.open_link(peer.clone()), peer, waker, unsent: Vec::new() })
    }

    /// Has a message handed to the router with the next exchange.
    pub(super) fn send(&mut self, message: &Bytes) {
        self.unsent.push(Message::Binary(BytesMut::from(&message[..])));
    }

    /// Hands the router what waits for it, and takes what it has; the reason, if it has ended the link.
    pub(super) fn exchange(&mut self, received: &mut Vec<Bytes>) -> Option<(CloseCode, String)> {
        loop {
            let take = |transmit| {
                if let Transmit::Binary(message) = transmit {
                    received.push(message);
                }
            };
            match self.link.exchange(&mut self.unsent, BATCH, &self.waker, take) {
                Next::More => {}
                Next::Wait => return None,
                Next::Close(code, reason) => return Some((code, reason)),
                Next::Killed => return Some((CloseCode::GOING_AWAY, "the relay ends".to_owned())),
                Next::Prove => {
                    let first = self.unsent.first_mut()?;
                    let Message::Binary(message) = first else { return None };
                    let registration = Registration::of_message(message, &self.peer)?;
                    *first = Message::Registration(Box::new(registration));
                }
            }
        }
    }
}
