//! The identities that servers of this page are under: two servers under one would take the server ID from each other. Called by
//! `engine.rs`; the npm package does the same in `js/server.js`.

use crate::api::Error;
use crate::browser::platform::{Timer, now};
use futures_channel::mpsc;
use futures_core::Stream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use tunnel_protocol::time::Duration;

/// Time that a server gets to end, when the next one under its identity waits for that.
const HAND_OVER: Duration = Duration::from_secs(3);

thread_local! {
    static CLAIMS: RefCell<Vec<Claimed>> = const { RefCell::new(Vec::new()) };
}

/// An identity that a server is under.
struct Claimed {
    name: String,
    /// Those who wait for the server's end: they hear true.
    waiting: Vec<mpsc::UnboundedSender<bool>>,
}

/// The right to be the only server under an identity at a relay, until this is dropped.
pub(crate) struct Claim(String);

impl Claim {
    /// Waits until no other server has it.
    pub(crate) async fn take(identity: &str, relay: &str) -> Result<Self, Error> {
        let name = format!("{identity} {relay}");
        let (sender, mut heard) = mpsc::unbounded();
        let timer = Timer::default();
        let late = sender.clone();
        timer.arm(now() + HAND_OVER, move || drop(late.unbounded_send(false)));
        while !Self::try_take(&name, &sender) {
            if poll_fn(|context| Pin::new(&mut heard).poll_next(context)).await != Some(true) {
                let refusal = format!(
                    "this page has a server under '{identity}' already: use that one, or close it first"
                );
                return Err(Error::Identity(refusal));
            }
        }
        Ok(Self(name))
    }

    /// Takes it, or has `sender` told when it is free.
    fn try_take(name: &str, sender: &mpsc::UnboundedSender<bool>) -> bool {
        CLAIMS.with_borrow_mut(|claims| {
            let found = claims.iter_mut().find(|claimed| claimed.name == name);
            let is_free = found.is_none();
            match found {
                Some(claimed) => claimed.waiting.push(sender.clone()),
                None => claims.push(Claimed { name: name.to_owned(), waiting: Vec::new() }),
            }
            is_free
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let gone = CLAIMS.with_borrow_mut(|claims| {
            let at = claims.iter().position(|claimed| claimed.name == self.0)?;
            Some(claims.swap_remove(at))
        });
        for sender in gone.into_iter().flat_map(|claimed| claimed.waiting) {
            // The waiting future may have been dropped.
            let _ = sender.unbounded_send(true);
        }
    }
}
