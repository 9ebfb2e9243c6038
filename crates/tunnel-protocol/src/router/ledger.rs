//! The books: how many bytes are held, in all and for each link.
//!
//! Nobody else adds or subtracts. What is held is either in a [`Queue`] or stands for a [`Hold`], and both go in and out
//! through the [`Ledger`], so that the total is the sum of all accounts, and an account the sum of what is held for it.

use super::Transmit;
use super::config::FRAME_OVERHEAD;
use std::collections::VecDeque;

/// Returns the number of bytes that are held in all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    total: usize,
}

/// Returns the number of bytes that are held for one link.
#[derive(Debug, Default)]
pub(super) struct Account {
    held: usize,
}

/// Messages that wait for one peer, and what they cost.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Transmit>,
    cost: usize,
}

/// Bytes that are held without being in a queue. It is given back to the ledger.
#[derive(Debug, Eq, PartialEq)]
#[must_use]
pub(super) struct Hold(usize);

/// The cost of a message: its bytes, and what is needed to keep it.
pub(super) const fn cost(len: usize) -> usize {
    len + FRAME_OVERHEAD
}

impl Ledger {
    /// Bytes held in all, overhead included.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Adds a message to the end of a queue.
    pub(super) fn push(&mut self, account: &mut Account, queue: &mut Queue, message: Transmit) {
        let cost = cost(message.len());
        queue.messages.push_back(message);
        queue.cost += cost;
        self.add(account, cost);
    }

    /// Takes the first message of a queue.
    pub(super) fn pop(&mut self, account: &mut Account, queue: &mut Queue) -> Option<Transmit> {
        let message = queue.messages.pop_front()?;
        let cost = cost(message.len());
        queue.cost -= cost;
        self.subtract(account, cost);
        Some(message)
    }

    /// Forgets all that is in a queue, and its memory.
    pub(super) fn clear(&mut self, account: &mut Account, queue: &mut Queue) {
        self.subtract(account, queue.cost);
        *queue = Queue::default();
    }

    /// Notes bytes that are held elsewhere.
    pub(super) fn hold(&mut self, account: &mut Account, bytes: usize) -> Hold {
        self.add(account, bytes);
        Hold(bytes)
    }

    /// Takes bytes back that were held elsewhere.
    pub(super) fn release(&mut self, account: &mut Account, hold: Hold) {
        self.subtract(account, hold.0);
    }

    const fn add(&mut self, account: &mut Account, bytes: usize) {
        self.total += bytes;
        account.held += bytes;
    }

    const fn subtract(&mut self, account: &mut Account, bytes: usize) {
        self.total -= bytes;
        account.held -= bytes;
    }
}

impl Account {
    /// Bytes held for the link, overhead included.
    pub(super) const fn held(&self) -> usize {
        self.held
    }
}

impl Hold {
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.0
    }
}

impl Queue {
    /// The cost of its messages, in bytes.
    pub(super) const fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Transmit> {
        self.messages.front()
    }

    /// Memory of its places, in bytes; what the messages themselves hold is not counted.
    pub(super) fn memory(&self) -> usize {
        self.messages.capacity() * size_of::<Transmit>()
    }

    /// Gives memory back that an empty queue does not need.
    pub(super) fn shrink(&mut self, places: usize) {
        if self.messages.is_empty() && self.messages.capacity() > places {
            self.messages = VecDeque::new();
        }
    }

    /// The sum of the messages' costs.
    #[cfg(test)]
    pub(super) fn added_up(&self) -> usize {
        self.messages.iter().map(|message| cost(message.len())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// One entry: which link, which of its queues, and a length.
    #[derive(Clone, Copy, Debug)]
    enum Entry {
        Push(usize, usize, usize),
        Pop(usize, usize),
        Clear(usize, usize),
        Hold(usize, usize),
        Release(usize),
    }

    const LINKS: usize = 3;
    const QUEUES: usize = 4;

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            4 => (0..LINKS, 0..QUEUES, 0_usize..100_000).prop_map(|(l, q, len)| Entry::Push(l, q, len)),
            3 => (0..LINKS, 0..QUEUES).prop_map(|(l, q)| Entry::Pop(l, q)),
            1 => (0..LINKS, 0..QUEUES).prop_map(|(l, q)| Entry::Clear(l, q)),
            2 => (0..LINKS, 0_usize..100_000).prop_map(|(l, bytes)| Entry::Hold(l, bytes)),
            2 => (0..LINKS).prop_map(Entry::Release),
        ]
    }

    #[derive(Default)]
    struct Books {
        ledger: Ledger,
        accounts: [Account; LINKS],
        queues: [[Queue; QUEUES]; LINKS],
        holds: [Vec<Hold>; LINKS],
    }

    impl Books {
        fn enter(&mut self, entry: Entry) {
            let Self { ledger, accounts, queues, holds } = self;
            match entry {
                Entry::Push(link, queue, len) => {
                    let message = Transmit::Binary(Bytes::from(vec![0; len]));
                    ledger.push(&mut accounts[link], &mut queues[link][queue], message);
                }
                Entry::Pop(link, queue) => {
                    let _maybe_empty = ledger.pop(&mut accounts[link], &mut queues[link][queue]);
                }
                Entry::Clear(link, queue) => ledger.clear(&mut accounts[link], &mut queues[link][queue]),
                Entry::Hold(link, bytes) => holds[link].push(ledger.hold(&mut accounts[link], bytes)),
                Entry::Release(link) => {
                    if let Some(hold) = holds[link].pop() {
                        ledger.release(&mut accounts[link], hold);
                    }
                }
            }
        }

        fn assert_right(&self) {
            let mut total = 0;
            for link in 0..LINKS {
                let queued = self.queues[link].iter().map(Queue::added_up);
                let held = queued.chain(self.holds[link].iter().map(Hold::bytes)).sum::<usize>();
                assert_eq!(self.accounts[link].held(), held, "link {link}");
                total += held;
            }
            assert_eq!(self.ledger.total(), total);
        }
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_all_that_is_held_and_nothing_when_all_is_gone(
            entries in prop::collection::vec(entry(), 0..100)
        ) {
            let mut books = Books::default();
            for entry in entries {
                books.enter(entry);
                books.assert_right();
            }
            for link in 0..LINKS {
                (0..QUEUES).for_each(|queue| books.enter(Entry::Clear(link, queue)));
                while !books.holds[link].is_empty() {
                    books.enter(Entry::Release(link));
                }
            }
            prop_assert_eq!(books.ledger.total(), 0);
            prop_assert!(books.accounts.iter().all(|account| account.held() == 0));
        }
    }
}
