//! The links to other relays, and the servers whose clients wait for one of them to be in use.

use crate::ServerId;
use crate::router::{LinkId, Router};
use std::collections::{BTreeMap, BTreeSet};

/// The number of servers whose clients may wait for one link.
const MAX_PENDING: usize = 4_096;

/// The ways to other relays, each by its name and address. A link is dialled when the first client needs it, and stays.
#[derive(Debug, Default)]
pub struct Routes {
    ways: BTreeMap<(String, String), Way>,
}

/// One way.
#[derive(Debug, Default)]
struct Way {
    /// `None`: the owner is still dialling.
    link: Option<LinkId>,
    is_proven: bool,
    pending: BTreeSet<ServerId>,
}

impl Routes {
    /// Takes the clients that wait for a server to another relay, now or when there is a link.
    ///
    /// Returns `true` if the owner has to dial the relay, and to say afterwards what came of it: [`dialled`](Self::dialled) or
    /// [`failed`](Self::failed).
    #[must_use]
    pub fn route(&mut self, router: &mut Router, node: &str, address: &str, server_id: ServerId) -> bool {
        let key = (node.to_owned(), address.to_owned());
        if let Some(way) = self.ways.get_mut(&key) {
            match way.link {
                Some(link) if way.is_proven => {
                    if router.handle_route(&server_id, link) {
                        return false;
                    }
                    // It is worn, or about to end: its channels go on, and a new link takes its place.
                    *way = Way::default();
                }
                Some(_) | None => {
                    if way.pending.len() < MAX_PENDING {
                        way.pending.insert(server_id);
                    }
                    return false;
                }
            }
        }
        self.ways.entry(key).or_default().pending.insert(server_id);
        true
    }

    /// Notes that the owner wants a link to a relay though no client does. Returns `true` if it has to dial.
    #[must_use]
    pub fn want(&mut self, node: &str, address: &str) -> bool {
        let key = (node.to_owned(), address.to_owned());
        if self.ways.contains_key(&key) {
            return false;
        }
        self.ways.insert(key, Way::default());
        true
    }

    /// The relay is reached: the link's proofs are next.
    pub fn dialled(&mut self, node: &str, address: &str, link: LinkId) {
        if let Some(way) = self.ways.get_mut(&(node.to_owned(), address.to_owned())) {
            way.link = Some(link);
        }
    }

    /// The relay can't be reached: those who wait are told so when their time is over.
    pub fn failed(&mut self, node: &str, address: &str) {
        self.ways.remove(&(node.to_owned(), address.to_owned()));
    }

    /// A link is in use: those who wait for it go there.
    pub fn proven(&mut self, router: &mut Router, link: LinkId) {
        let Some(way) = self.ways.values_mut().find(|way| way.link == Some(link)) else { return };
        way.is_proven = true;
        for server_id in std::mem::take(&mut way.pending) {
            router.handle_route(&server_id, link);
        }
    }

    /// A link is gone.
    pub fn closed(&mut self, link: LinkId) {
        self.ways.retain(|_, way| way.link != Some(link));
    }
}
