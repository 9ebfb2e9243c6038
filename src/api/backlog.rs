//! Sockets that wait for somebody who takes them, and takers who wait for sockets: never both.
//!
//! The classes of the npm package use it for `accept()` and for the iterator of a server.

use super::ports::MAX_BACKLOG;
use std::collections::VecDeque;

/// The queue of one server.
pub(crate) struct Backlog<S, T> {
    /// True when somebody has wanted to take sockets.
    is_used: bool,
    sockets: VecDeque<S>,
    takers: VecDeque<T>,
}

impl<S, T> Default for Backlog<S, T> {
    fn default() -> Self {
        Self { is_used: false, sockets: VecDeque::new(), takers: VecDeque::new() }
    }
}

impl<S: PartialEq, T> Backlog<S, T> {
    /// Notes that somebody takes sockets from now on.
    pub(crate) const fn begin(&mut self) {
        self.is_used = true;
    }

    /// Returns whether anybody has ever wanted to take sockets.
    pub(crate) const fn is_used(&self) -> bool {
        self.is_used
    }

    /// Returns whether no more clients may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.sockets.len() >= MAX_BACKLOG
    }

    /// Has a socket wait, or returns it with the taker that has waited longest.
    pub(crate) fn put(&mut self, socket: S) -> Option<(S, T)> {
        match self.takers.pop_front() {
            Some(taker) => Some((socket, taker)),
            None => {
                self.sockets.push_back(socket);
                None
            }
        }
    }

    /// Takes the socket that has waited longest.
    pub(crate) fn take(&mut self) -> Option<S> {
        self.sockets.pop_front()
    }

    /// Has a taker wait for the next socket. Call it when there is no socket to [`take`](Self::take).
    pub(crate) fn wait(&mut self, taker: T) {
        self.takers.push_back(taker);
    }

    /// Forgets a socket that has ended.
    pub(crate) fn remove(&mut self, socket: &S) {
        self.sockets.retain(|waiting| waiting != socket);
    }

    /// All takers, who wait in vain.
    pub(crate) fn dismiss(&mut self) -> VecDeque<T> {
        std::mem::take(&mut self.takers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_takers_meet_in_order_whoever_comes_first() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.put("a"), None);
        assert_eq!(backlog.put("b"), None);
        assert_eq!(backlog.take(), Some("a"));
        assert_eq!(backlog.take(), Some("b"));
        assert_eq!(backlog.take(), None);
        backlog.wait(1);
        backlog.wait(2);
        assert_eq!(backlog.put("c"), Some(("c", 1)));
        assert_eq!(backlog.dismiss(), [2]);
        assert_eq!(backlog.put("d"), None);
    }

    #[test]
    fn nobody_takes_sockets_before_somebody_has_wanted_to() {
        let mut backlog = Backlog::<(), ()>::default();
        assert!(!backlog.is_used());
        backlog.begin();
        assert!(backlog.is_used());
    }

    #[test]
    fn a_socket_that_ends_leaves_its_place_to_another() {
        let mut backlog = Backlog::<_, ()>::default();
        for socket in 0..MAX_BACKLOG {
            assert!(!backlog.is_full());
            backlog.put(socket);
        }
        assert!(backlog.is_full());
        backlog.remove(&7);
        assert!(!backlog.is_full());
    }
}
