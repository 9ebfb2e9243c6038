//! The room that a server has for clients, and which client gives way when there is none.
//!
//! A client's address is the relay's word. It decides who gives way to whom, and nothing else.

use super::*;
use crate::sorted::SortedMap;

/// The time that a client may take to come in before it gives way to any other, if there is no room. Its first record comes after a
/// round trip; a replayed handshake's never does.
const GRACE: Duration = Duration::from_secs(2);

/// The cost of a client that is away beside what its session holds, in bytes.
const AWAY_OVERHEAD: u64 = 4 * 1024;

/// Counts by owner.
fn count<'a>(owners: impl Iterator<Item = &'a Owner>) -> SortedMap<&'a Owner, usize> {
    let mut counts = SortedMap::new();
    for owner in owners {
        let count = counts.get(&owner).copied().unwrap_or_default();
        counts.insert(owner, count + 1);
    }
    counts
}

/// Those of the owner who has most, if that is at least two more than the newcomer has.
fn of_heaviest<'a, T: Copy>(
    clients: &[(T, &'a Owner)],
    counts: &SortedMap<&'a Owner, usize>,
    newcomer: &Owner,
) -> Vec<T> {
    let weight = |owner: &Owner| counts.get(&owner).copied().unwrap_or_default();
    let heaviest = clients.iter().map(|(_, owner)| *owner).max_by_key(|owner| weight(owner));
    let heaviest = heaviest.filter(|owner| weight(owner) > weight(newcomer) + 1);
    clients.iter().filter(|(_, owner)| Some(*owner) == heaviest).map(|(client, _)| *client).collect()
}

impl Endpoint {
    /// The sockets of the server's clients, whether they are in or not.
    fn clients(&self) -> impl Iterator<Item = (SocketId, &Socket, &ServerSide)> {
        self.sockets.iter().filter_map(|(id, entry)| match &entry.side {
            Side::Server(served) => Some((id, &entry.socket, &**served)),
            Side::Client(_) => None,
        })
    }

    #[cfg(test)]
    pub(super) fn client_count(&self) -> usize {
        self.clients().count()
    }

    /// Returns whether there is room for one more client, which somebody else may have to leave for it.
    pub(super) fn make_room(&mut self, newcomer: &Owner, now: Instant) -> bool {
        if self.clients().count() < self.config.max_clients {
            return true;
        }
        if let Some(socket) = self.least_confirmed(newcomer, now) {
            let paths = self.by_path.iter().filter(|(_, owner)| **owner == socket);
            for path in paths.map(|(path, _)| *path).collect::<Vec<_>>() {
                self.close_path(path, CloseCode::TRY_AGAIN_LATER, "others want to come in");
            }
            self.remove(socket, now);
        } else if let Some(socket) = self.longest_away(newcomer) {
            self.give_up_on(socket, now);
        }
        self.clients().count() < self.config.max_clients
    }

    /// One of those who have not come in yet, at random: of the address from which most of them come, or of those who
    /// have had time enough.
    fn least_confirmed(&mut self, newcomer: &Owner, now: Instant) -> Option<SocketId> {
        let random = self.keys.entropy.u64();
        let unconfirmed = || self.clients().filter(|(_, socket, _)| !socket.opened);
        let clients: Vec<_> = unconfirmed().map(|(id, _, served)| (id, &served.owner)).collect();
        let counts = count(clients.iter().map(|(_, owner)| *owner));
        let mut losers = of_heaviest(&clients, &counts, newcomer);
        if losers.is_empty() {
            let late = unconfirmed().filter(|(_, _, served)| served.arrived_at + GRACE <= now);
            losers = late.map(|(id, ..)| id).collect();
        }
        losers.get(random.checked_rem(losers.len() as u64)? as usize).copied()
    }

    /// The client that has been away for longest, of the address that has most clients.
    fn longest_away(&self, newcomer: &Owner) -> Option<SocketId> {
        let counts = count(self.clients().map(|(.., served)| &served.owner));
        let away = self.clients().filter(|(_, socket, _)| socket.is_interrupted());
        let clients: Vec<_> =
            away.map(|(id, socket, served)| ((socket.interrupted_at, id), &served.owner)).collect();
        of_heaviest(&clients, &counts, newcomer).into_iter().min().map(|(_, id)| id)
    }

    fn give_up_on(&mut self, socket: SocketId, now: Instant) {
        self.step_served(socket, now, |_, socket, _| {
            let reason = format!("too many clients are away; {}", socket.session.certainty());
            socket.session.give_up(CloseCode::OVERFLOW, &reason);
        });
    }

    /// Drops sessions whose clients are away, when they hold too much.
    pub(in crate::endpoint) fn evict_away(&mut self, now: Instant) {
        while let Some(socket) = self.surplus_away() {
            self.give_up_on(socket, now);
        }
    }

    /// The session that has been away for longest of a key that holds more than a quarter of what there is, or, if all
    /// of them hold too much, of the address that holds most.
    fn surplus_away(&self) -> Option<SocketId> {
        let budget = self.config.away_buffer;
        let away = || {
            let away = self.clients().filter(|(_, socket, served)| {
                served.is_away && socket.is_interrupted() && !socket.session.has_ended()
            });
            away.map(|(id, socket, served)| {
                let owners = [served.owner.clone(), Owner::Key(served.key)];
                (socket.interrupted_at, id, owners, socket.session.held() + AWAY_OVERHEAD)
            })
        };
        let mut total = 0;
        let mut held = SortedMap::<Owner, u64>::new();
        for (_, _, owners, cost) in away() {
            total += cost;
            for owner in owners {
                let before = held.get(&owner).copied().unwrap_or_default();
                held.insert(owner, before + cost);
            }
        }
        let most = |of_keys: bool| {
            let held = held.iter().filter(|(owner, _)| matches!(owner, Owner::Key(_)) == of_keys);
            held.max_by_key(|(_, held)| **held)
        };
        let greedy = most(true).filter(|(_, held)| **held > budget / 4);
        let (owner, _) = greedy.or_else(|| most(false).filter(|_| total > budget))?;
        away()
            .filter(|(_, _, owners, _)| owners.contains(owner))
            .map(|(at, id, ..)| (at, id))
            .min()
            .map(|(_, id)| id)
    }
}
