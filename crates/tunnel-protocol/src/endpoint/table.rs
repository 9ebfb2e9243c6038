//! Sockets and links by their numbers.

use crate::sorted::SortedMap;

/// A map from numbers to what an endpoint has many of.
///
/// Nearly everything that an endpoint does begins with a look-up. The look-ups are functions of their own, which are not
/// inlined: that makes the module half a kilobyte smaller.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    boxes: SortedMap<K, Box<V>>,
}

impl<K: Copy + Ord, V> Table<K, V> {
    pub(super) const fn new() -> Self {
        Self { boxes: SortedMap::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.boxes.len()
    }

    #[inline(never)]
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.boxes.get(&key).map(|value| &**value)
    }

    #[inline(never)]
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.boxes.get_mut(&key).map(|value| &mut **value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.boxes.insert(key, Box::new(value));
    }

    #[inline(never)]
    pub(super) fn remove(&mut self, key: K) -> Option<Box<V>> {
        self.boxes.remove(&key)
    }

    /// All numbers, in order, as they are now: what is done to each may change the table.
    #[inline(never)]
    pub(super) fn keys(&self) -> Vec<K> {
        self.boxes.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.boxes.iter().map(|(key, value)| (*key, &**value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.boxes.iter_mut().map(|(key, value)| (*key, &mut **value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.boxes.values().map(|value| &**value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.boxes.values_mut().map(|value| &mut **value)
    }
}
