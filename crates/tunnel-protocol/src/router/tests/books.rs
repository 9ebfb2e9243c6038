//! Adds up what the router keeps twice for speed.

use super::*;
use crate::router::channel::EndStage;
use crate::router::link::is_opened_by_peer;
use crate::router::livecode::LivecodeLink;

impl Router {
    pub(super) fn waiting_cost(&self) -> usize {
        self.waiting.cost()
    }

    /// Checks that all counts and indexes agree.
    pub(super) fn assert_consistent(&self, when: &str) {
        let (mut total, mut ends) = (0, 0);
        for key in self.links.keys() {
            let (id, link) = (LinkId(key), self.links.get(key).expect("a key of the slab"));
            let (control, added_up) = link.outbox.control_cost();
            assert_eq!(control, added_up, "{when}: {id}");
            let mut held = control + self.waiting.cost_of(id, &self.ends);
            let (mut opened, mut incoming) = (0, 0);
            for (channel, &end) in &link.channels {
                let end =
                    self.ends.get(end).unwrap_or_else(|| panic!("{when}: {channel} of {id} has no end"));
                assert_eq!((end.link, end.id), (id, *channel), "{when}");
                assert_eq!(end.queued(), end.cost_of_queue(), "{when}: {channel} of {id}");
                let ready = end.queued() > 0 && !end.is_still();
                assert_eq!(
                    link.outbox.ready.contains_key(&(*channel).into()),
                    ready,
                    "{when}: {channel} of {id}"
                );
                held += end.queued();
                *(if is_opened_by_peer(*channel) { &mut opened } else { &mut incoming }) += 1;
                assert!(link.has_used(*channel), "{when}: {channel} of {id}");
                if let Some(other) = end.other() {
                    let back = self.ends.get(other).and_then(End::other).and_then(|end| self.ends.get(end));
                    assert!(back.is_some_and(|back| std::ptr::eq(back, end)), "{when}: {channel} of {id}");
                }
                if end.stage == EndStage::Closing {
                    assert!(end.queued() > 0, "{when}: {channel} of {id} is closed and still there");
                }
            }
            assert_eq!((link.opened, link.incoming), (opened, incoming), "{when}: {id}");
            assert!(link.outbox.ready.len() <= link.channels.len(), "{when}: {id}");
            let stopped =
                link.channels.values().filter(|end| self.ends.get(**end).is_some_and(|end| end.is_stopped));
            assert_eq!(link.outbox.stopped.len(), stopped.count(), "{when}: {id}");
            assert_eq!(self.nodes.contains(&id), link.node.is_some(), "{when}: {id}");
            assert!(link.outbox.flow.iter().all(|id| link.channels.contains_key(id)), "{when}: {id}");
            assert_eq!(link.outbox.account.held(), held, "{when}: {id}");
            total += held;
            ends += link.channels.len();
        }
        assert_eq!((self.ledger.total(), self.ends.len()), (total, ends), "{when}");
        let (mut registered, mut waiting) = (Shares::default(), Shares::default());
        for key in self.links.keys() {
            let link = self.links.get(key).expect("a key of the slab");
            (0..link.waiting).for_each(|_| waiting.add(&link.peer.address));
        }
        for link in self.registrations.values().filter_map(|link| self.links.get(link.0)) {
            registered.add(&link.peer.address);
        }
        assert_eq!(self.registered_from.entries(), registered.entries(), "{when}");
        assert_eq!(self.waiting_from.entries(), waiting.entries(), "{when}");
        for (server_id, link) in &self.registrations {
            let link = self.links.get(link.0).unwrap_or_else(|| panic!("{when}: {server_id} has no link"));
            let seat = |livecode: &LivecodeLink| matches!(server_id, ServerId::Number(number) if livecode.seats.contains(number));
            let is_registered = link.registered.is_some_and(|(id, _)| id == *server_id);
            assert!(is_registered || link.livecode.as_deref().is_some_and(seat), "{when}: {server_id}");
        }
    }
}
