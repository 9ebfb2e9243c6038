//! The load of a router, for metrics.

use super::link::LinkState;
use super::slab::Slab;
use super::{LinkId, Router};
use crate::{Instant, ServerId};

/// The load of a [`Router`]: what waits in it, and the memory of its tables.
///
/// The numbers of bytes are those of its own tables: what the allocator adds is not known here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// Links that something is queued for.
    pub links_waiting: usize,
    /// Bytes queued for the link that has most, overhead included.
    pub longest_queue: usize,
    /// Channels, by direction, whose sender was told to pause.
    pub paused: usize,
    /// Bytes of memory that are set aside for links, vacant places included.
    pub links_memory: usize,
    /// Bytes of memory that are set aside for the ends of channels and their queues, vacant places included.
    pub channels_memory: usize,
    /// Bytes of memory that registrations take.
    pub registrations_memory: usize,
}

impl Router {
    /// Returns the load. Looks at every link and every channel: for now and then, not for every frame.
    #[must_use]
    pub fn load(&self) -> Load {
        let mut load = Load {
            links_memory: self.links.memory() + self.checks.len() * size_of::<(Instant, LinkId)>(),
            channels_memory: self.ends.memory(),
            registrations_memory: self.registrations.len() * size_of::<(ServerId, LinkId)>(),
            ..Load::default()
        };
        for link in values(&self.links) {
            load.add_link(link);
        }
        for end in values(&self.ends) {
            load.paused += usize::from(end.is_paused());
            load.channels_memory += end.queue_memory();
        }
        load
    }

    /// The time at which a frame came in that [`poll_transmit`](Self::poll_transmit) has handed out since the last call: the
    /// earliest of those that are measured, which is one of each channel at a time.
    pub fn poll_waited(&mut self) -> Option<Instant> {
        self.waited_since.take()
    }
}

impl Load {
    fn add_link(&mut self, link: &LinkState) {
        let buffered = link.outbox.account.held();
        self.links_waiting += usize::from(buffered > 0);
        self.longest_queue = self.longest_queue.max(buffered);
        self.links_memory += link.memory();
    }
}

fn values<T>(slab: &Slab<T>) -> impl Iterator<Item = &T> {
    slab.keys().filter_map(|key| slab.get(key))
}
