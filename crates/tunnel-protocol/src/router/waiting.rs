//! CONNECTs that wait for a server that is not registered yet: after a restart of the relay, clients are often faster.

use super::channel::{EndKey, EndStage, Queued};
use super::ledger::{Hold, cost};
use super::{Event, LinkId, Router};
use crate::frame::ChannelKind;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A place in the waiting room: until when, and a number that keeps the order of arrival.
pub(super) type WaitKey = (Instant, u64);

/// CONNECTs to servers that are not registered.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    requests: BTreeMap<WaitKey, Waiting>,
    servers: BTreeMap<ServerId, BTreeSet<WaitKey>>,
    arrivals: u64,
}

/// A CONNECT that waits.
#[derive(Debug)]
struct Waiting {
    end: EndKey,
    request: Request,
    /// Its part of the ledger.
    hold: Hold,
}

/// A client's request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) server_id: ServerId,
    pub(super) port: u16,
    pub(super) kind: ChannelKind,
    pub(super) payload: Bytes,
    /// The client's address, if its link is another relay's.
    pub(super) address: Option<String>,
}

impl Request {
    fn cost(&self) -> usize {
        cost(self.payload.len())
    }
}

impl WaitingRoom {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.servers.is_empty()
    }

    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        self.requests.values().map(|waiting| waiting.hold.bytes()).sum()
    }

    #[cfg(test)]
    pub(super) fn cost_of(&self, link: LinkId, ends: &super::Slab<super::End>) -> usize {
        let of_link = |end: EndKey| ends.get(end).is_some_and(|end| end.link == link);
        let waiting = self.requests.values().filter(|waiting| of_link(waiting.end));
        waiting.map(|waiting| waiting.hold.bytes()).sum()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.requests.first_key_value().map(|(key, _)| key.0)
    }

    fn add(&mut self, until: Instant, waiting: Waiting) -> WaitKey {
        self.arrivals += 1;
        let key = (until, self.arrivals);
        self.servers.entry(waiting.request.server_id).or_default().insert(key);
        self.requests.insert(key, waiting);
        key
    }

    fn remove(&mut self, key: WaitKey) -> Option<Waiting> {
        let waiting = self.requests.remove(&key)?;
        let server_id = &waiting.request.server_id;
        if let Some(keys) = self.servers.get_mut(server_id) {
            keys.remove(&key);
            if keys.is_empty() {
                self.servers.remove(server_id);
            }
        }
        Some(waiting)
    }

    fn first_for(&self, server_id: &ServerId) -> Option<WaitKey> {
        self.servers.get(server_id)?.first().copied()
    }

    fn first_until(&self, now: Instant) -> Option<WaitKey> {
        self.requests.first_key_value().map(|(key, _)| *key).filter(|key| key.0 <= now)
    }
}

impl Router {
    /// Has a client wait for its server, if there is room.
    pub(super) fn wait(&mut self, link_id: LinkId, end: EndKey, request: Request, now: Instant) {
        // Its own memory: the message may be a small part of a large buffer.
        let request = Request { payload: Bytes::copy_from_slice(&request.payload), ..request };
        let cost = request.cost();
        let has_room = self.has_room(link_id, cost);
        let Some(link) = self.links.get_mut(link_id.0) else { return };
        if self.waiting.len() >= self.config.max_waiting
            || link.waiting >= self.config.max_waiting_per_link
            || !self.waiting_from.have_room(&link.peer.address, self.config.max_waiting_per_address)
            || !has_room
        {
            return self.refuse(
                end,
                CloseCode::TRY_AGAIN_LATER,
                "too many clients wait for servers that are not there",
            );
        }
        link.waiting += 1;
        self.waiting_from.add(&link.peer.address);
        let hold = self.ledger.hold(&mut link.outbox.account, cost);
        let server_id = request.server_id;
        let is_wanted = self.config.cluster.is_some() && server_id.key().is_some();
        let verdict_wait =
            self.config.cluster.as_ref().filter(|_| is_wanted).map(|cluster| cluster.verdict_wait);
        let until = now + self.config.absent_wait + verdict_wait.unwrap_or_default();
        let key = self.waiting.add(until, Waiting { end, request, hold });
        if let Some(end) = self.ends.get_mut(end) {
            end.stage = EndStage::Waiting(key);
        }
        if is_wanted {
            self.events.push_back(Event::Wanted { server_id });
        }
    }

    /// Frees a place in the waiting room whose end is removed already.
    pub(super) fn stop_waiting(&mut self, key: WaitKey, link: LinkId) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.stopped_waiting(link, waiting.hold);
        }
    }

    fn stopped_waiting(&mut self, link: LinkId, hold: Hold) {
        if let Some(link) = self.links.get_mut(link.0) {
            link.waiting -= 1;
            self.waiting_from.remove(&link.peer.address);
            self.ledger.release(&mut link.outbox.account, hold);
        }
    }

    /// Connects the clients that waited for a server that is there now.
    pub(super) fn admit_waiting(&mut self, server_id: &ServerId, server: LinkId) {
        while let Some(key) = self.waiting.first_for(server_id) {
            let Some((end, request)) = self.leave(key) else { return };
            self.offer(end, server, request);
        }
    }

    /// Refuses the clients that have waited as long as they may.
    pub(super) fn expire_waiting(&mut self, now: Instant) {
        while let Some(key) = self.waiting.first_until(now) {
            let Some((end, request)) = self.leave(key) else { return };
            let is_certain = self.config.cluster.is_none() || request.server_id.key().is_none();
            self.refuse_absent(end, &request.server_id, is_certain);
        }
    }

    /// Refuses the clients that have waited as long as they may for a server that another relay may have had: `is_certain` says
    /// whether all relays have said that they do not have it.
    pub fn handle_absent(&mut self, server_id: &ServerId, is_certain: bool, now: Instant) {
        let Some(verdict_wait) = self.config.cluster.as_ref().map(|cluster| cluster.verdict_wait) else {
            return;
        };
        while let Some(key) = self.waiting.first_for(server_id).filter(|key| key.0 <= now + verdict_wait) {
            let Some((end, _)) = self.leave(key) else { return };
            self.refuse_absent(end, server_id, is_certain);
        }
    }

    fn refuse_absent(&mut self, end: EndKey, server_id: &ServerId, is_certain: bool) {
        if is_certain {
            let reason = format!("no server is registered as {server_id}");
            return self.refuse(end, CloseCode::SERVER_NOT_FOUND, &reason);
        }
        let reason = "the server is not at this relay, and not all of the others can be asked now";
        self.refuse(end, CloseCode::TRY_AGAIN_LATER, reason);
    }

    fn leave(&mut self, key: WaitKey) -> Option<(EndKey, Request)> {
        let Waiting { end, request, hold } = self.waiting.remove(key)?;
        let link = self.ends.get(end)?.link;
        self.stopped_waiting(link, hold);
        Some((end, request))
    }

    /// Tells a client that its channel is not opened.
    pub(super) fn refuse(&mut self, end: EndKey, code: CloseCode, reason: &str) {
        if let Some(end) = self.ends.get(end) {
            self.refused(end.link, code);
        }
        self.close_end(end, code, reason, Queued::Drop);
    }
}
