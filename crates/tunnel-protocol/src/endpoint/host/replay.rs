//! First handshake messages that have come lately.

use crate::Instant;
use crate::sorted::SortedSet;
use crate::time::Duration;

/// The time that a message is remembered at least, unless very many come: longer than anything is done about one.
const LIFETIME: Duration = Duration::from_secs(60);

/// Messages remembered in each of two generations: 128 KiB in all.
const MAX_MESSAGES: usize = 4_096;

/// The beginning of a message: an ephemeral key, which is never used twice.
type Beginning = [u8; 16];

/// Notices first handshake messages that come again. To replay one that was seen on the way costs no cryptography.
#[derive(Debug, Default)]
pub(super) struct Replays {
    young: SortedSet<Beginning>,
    old: SortedSet<Beginning>,
    turned_at: Instant,
}

impl Replays {
    /// Remembers a message; says whether it was new.
    pub(super) fn is_new(&mut self, message: &[u8], now: Instant) -> bool {
        if now >= self.turned_at + LIFETIME || self.young.len() >= MAX_MESSAGES {
            self.old = std::mem::take(&mut self.young);
            self.turned_at = now;
        }
        // A shorter message is none of a handshake, and is refused elsewhere.
        let Some(beginning) = message.first_chunk() else { return true };
        !self.old.contains(beginning) && self.young.insert(*beginning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_within_its_lifetime() {
        let mut replays = Replays::default();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let message = [7; 100];
        assert!(replays.is_new(&message, at(100)));
        for seconds in [100, 130, 159] {
            assert!(!replays.is_new(&message, at(seconds)), "after {seconds} s");
        }
        assert!(replays.is_new(&[8; 100], at(161)));
        assert!(!replays.is_new(&message, at(162)), "the old generation");
        assert!(!replays.is_new(&[8; 100], at(230)));
        assert!(replays.is_new(&message, at(300)), "long ago");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let mut replays = Replays::default();
        for number in 0..20_000_u128 {
            assert!(replays.is_new(&number.to_be_bytes(), Instant::ORIGIN));
            assert!(replays.young.len() + replays.old.len() <= 2 * MAX_MESSAGES);
        }
    }
}
