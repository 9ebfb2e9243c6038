//! A vector with holes whose keys stay invalid after their value is gone.

/// The place of a value; never valid again once the value is removed.
///
/// The lower half is the index, the upper half how often the slot was used before.
pub(super) type Key = u64;

/// Values by [`Key`]: constant time, the same keys on every run.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// Bytes of memory that are set aside, without what the values own elsewhere.
    pub(super) const fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>() + self.vacant.capacity() * size_of::<u32>()
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.vacant.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return key(index, slot.generation);
        }
        let index = u32::try_from(self.slots.len()).expect("memory ends before 2^32 values");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        key(index, 0)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key as u32 as usize)?;
        if slot.generation == (key >> 32) as u32 { slot.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key as u32 as usize)?;
        if slot.generation == (key >> 32) as u32 { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let index = key as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != (key >> 32) as u32 {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(index);
        Some(value)
    }

    /// The keys in use, in a fixed order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.keys_from(0)
    }

    /// The keys in use, from the slot at `start` (counted round and round) on, each once.
    pub(super) fn keys_from(&self, start: usize) -> impl Iterator<Item = Key> {
        let (before, after) = self.slots.split_at(start % self.slots.len().max(1));
        let from = before.len();
        let slots = (from..).zip(after).chain(before.iter().enumerate());
        slots.filter_map(|(index, slot)| slot.value.as_ref().map(|_| key(index as u32, slot.generation)))
    }
}

const fn key(index: u32, generation: u32) -> Key {
    (generation as u64) << 32 | index as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_valid_again_after_its_slot_is_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first as u32, second as u32, "the slot is used again");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.keys().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn keys_come_round_from_any_start_each_once() {
        let mut slab = Slab::new();
        assert_eq!(slab.keys_from(7).next(), None);
        let keys = ["a", "b", "c", "d"].map(|value| slab.insert(value));
        slab.remove(keys[1]);
        for (start, first) in [(0, 0), (1, 2), (2, 2), (3, 3), (4, 0), (6, 2)] {
            let mut order: Vec<_> = slab.keys_from(start).collect();
            assert_eq!(order[0], keys[first], "from {start}");
            order.sort_unstable();
            assert_eq!(order, [keys[0], keys[2], keys[3]]);
        }
    }
}
