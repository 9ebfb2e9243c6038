//! A budget of memory that several owners share, so that none of them can use it up.
//!
//! A [`Ledger`] knows how much there is and who holds how much of it. Each holder has an [`Account`], which gives all
//! back when it is dropped. **The rule: an owner may hold as much as is still free.** One owner gets half of the budget,
//! two get a third each, and whatever they do, some is left for the next one.

use crate::server_id::PublicKey;
use crate::sorted::SortedMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of messages of which only a part has arrived, and of messages longer than a window, in one page.
pub const REASSEMBLY_BUDGET: u64 = 256 * 1024 * 1024;

/// Somebody who may hold a share.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Owner {
    /// The holder of a key.
    Key(PublicKey),
    /// The users of an address, as the relay says: an IPv4 address, or the first 56 bits of an IPv6 address, which is
    /// what a household is given.
    Network([u8; 7]),
    /// An address that is neither.
    Name(String),
}

impl Owner {
    /// The owner to whom what comes from `address` is charged: an IP address, with or without a port.
    ///
    /// The relay can say any address: use this for shares, and never to tell who somebody is.
    #[must_use]
    pub fn of_address(address: &str) -> Self {
        let ip = address.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| address.parse());
        match ip.map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                // No IPv6 network of the world begins with a zero byte.
                Self::Network([0, 0, 0, a, b, c, d])
            }
            Ok(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self::Network([a, b, c, d, e, f, g])
            }
            Err(_) => Self::Name(address.to_owned()),
        }
    }
}

/// There is no room for what was asked for; nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

/// A budget. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
}

#[derive(Debug)]
struct Books {
    budget: u64,
    held: u64,
    owners: SortedMap<Owner, u64>,
}

impl Ledger {
    /// A budget of so many bytes, of which nothing is held.
    #[must_use]
    pub fn new(budget: u64) -> Self {
        let books = Books { budget, held: 0, owners: SortedMap::new() };
        Self { books: Arc::new(Mutex::new(books)) }
    }

    /// An account that holds nothing. What it will hold counts for each of `owners`.
    #[must_use]
    pub fn account(&self, owners: Vec<Owner>) -> Account {
        Account { ledger: self.clone(), owners, held: 0 }
    }

    /// Bytes that are held in all.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.books().held
    }

    /// Nothing panics while the books are open, so they are never poisoned.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(REASSEMBLY_BUDGET)
    }
}

impl Books {
    fn held_by(&self, owner: &Owner) -> u64 {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    /// Returns whether these owners may hold so much more.
    fn has_room(&self, owners: &[Owner], more: u64) -> bool {
        let held = self.held.checked_add(more);
        let free = held.and_then(|held| self.budget.checked_sub(held));
        free.is_some_and(|free| owners.iter().all(|owner| self.held_by(owner) + more <= free))
    }

    /// Adds and takes away.
    fn move_by(&mut self, owners: &[Owner], more: u64, less: u64) {
        self.held = self.held + more - less;
        for owner in owners {
            match self.held_by(owner) + more - less {
                0 => drop(self.owners.remove(owner)),
                held => drop(self.owners.insert(owner.clone(), held)),
            }
        }
    }
}

/// One holder's part of a [`Ledger`]; given back when it is dropped.
#[derive(Debug)]
pub struct Account {
    ledger: Ledger,
    owners: Vec<Owner>,
    held: u64,
}

impl Account {
    /// Holds so many bytes from now on.
    ///
    /// # Errors
    ///
    /// It would be more than before, and more than is left for one of the owners. Less is never refused.
    pub fn hold(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if bytes == self.held {
            return Ok(());
        }
        let (more, less) = (bytes.saturating_sub(self.held), self.held.saturating_sub(bytes));
        let mut books = self.ledger.books();
        if more > 0 && !books.has_room(&self.owners, more) {
            return Err(NoRoom);
        }
        books.move_by(&self.owners, more, less);
        self.held = bytes;
        Ok(())
    }

    /// Charges what is held to these owners from now on.
    pub fn belong_to(&mut self, owners: Vec<Owner>) {
        let mut books = self.ledger.books();
        books.move_by(&self.owners, 0, self.held);
        books.move_by(&owners, self.held, 0);
        drop(books);
        self.owners = owners;
    }

    /// Bytes held.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.held
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ledger.books().move_by(&self.owners, 0, self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(last: u8) -> Owner {
        Owner::of_address(&format!("192.0.2.{last}"))
    }

    #[test]
    fn one_owner_gets_half_and_two_get_a_third_each() {
        let ledger = Ledger::new(600);
        let mut first = ledger.account(vec![network(1)]);
        assert_eq!(first.hold(301), Err(NoRoom));
        assert_eq!(first.hold(300), Ok(()));
        assert_eq!(first.hold(200), Ok(()));
        let mut second = ledger.account(vec![network(2)]);
        assert_eq!(second.hold(201), Err(NoRoom));
        assert_eq!(second.hold(200), Ok(()));
        assert_eq!(first.hold(201), Err(NoRoom));
        let mut third = ledger.account(vec![network(3)]);
        assert_eq!(third.hold(100), Ok(()), "some is left for the next one");
    }

    #[test]
    fn accounts_of_one_owner_have_one_share_and_give_it_back_when_they_are_dropped() {
        let ledger = Ledger::new(100);
        let mut accounts: Vec<_> = (0..50).map(|_| ledger.account(vec![network(1)])).collect();
        for account in &mut accounts {
            assert_eq!(account.hold(1), Ok(()));
        }
        assert_eq!(accounts[0].hold(2), Err(NoRoom));
        drop(accounts);
        assert_eq!(ledger.held(), 0);
        assert!(ledger.books().owners.is_empty());
    }

    #[test]
    fn a_household_is_one_owner_whichever_of_its_addresses_and_ports_it_uses() {
        let of = Owner::of_address;
        assert_eq!(of("192.0.2.1:5"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8:1:ff00::1"), of("[2001:db8:1:ffff:9::2]:80"));
        assert_ne!(of("2001:db8:1:ff00::1"), of("2001:db8:1:fe00::1"));
        assert_eq!(of("somewhere"), Owner::Name("somewhere".into()));
    }

    proptest! {
        #[test]
        fn whatever_is_held_and_given_back_the_books_add_up(
            steps in prop::collection::vec((0_usize..6, 0_u64..700), 0..80)
        ) {
            let ledger = Ledger::new(1_000);
            let key = Owner::Key(PublicKey([1; 32]));
            let owners = |at: usize| if at < 3 { vec![network(at as u8), key.clone()] } else { vec![network(3)] };
            let mut accounts: Vec<_> = (0..6).map(|at| ledger.account(owners(at))).collect();
            for (at, bytes) in steps {
                let before = accounts[at].held();
                let outcome = accounts[at].hold(bytes);
                prop_assert_eq!(accounts[at].held(), if outcome.is_ok() { bytes } else { before });
                prop_assert!(bytes > before || outcome.is_ok(), "less is never refused");
                let sum = accounts.iter().map(Account::held).sum::<u64>();
                prop_assert_eq!(ledger.held(), sum);
                prop_assert!(sum <= 1_000);
                let of_key = accounts[..3].iter().map(Account::held).sum::<u64>();
                prop_assert_eq!(ledger.books().held_by(&key), of_key);
            }
        }
    }
}
