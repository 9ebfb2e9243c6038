//! The ChaCha20 key stream (RFC 8439, section 2.4), four blocks at a time.

use crate::Nonce;
use crate::lanes::{Blocks, LANES, Lanes, xor_blocks};
use std::hint::black_box;

/// "expand 32-byte k"
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Index of the block number in the state; the nonce follows it.
const COUNTER: usize = 12;

/// The key stream of one nonce.
pub(crate) struct Keystream {
    /// The state before the rounds, with the numbers of the next four blocks.
    state: [Lanes; 16],
    /// Blocks 0 to 3: block 0 holds the authenticator's key, and the others are enough for a short message.
    first: Blocks,
}

impl Keystream {
    pub(crate) fn new(key: &[u8; 32], nonce: &Nonce) -> Self {
        let mut state = [Lanes::splat(0); 16];
        for (word, constant) in state.iter_mut().zip(CONSTANTS) {
            *word = Lanes::splat(constant);
        }
        for (word, bytes) in state[4..COUNTER].iter_mut().zip(key.as_chunks().0) {
            *word = Lanes::splat(u32::from_le_bytes(*bytes));
        }
        state[COUNTER] = Lanes::new([0, 1, 2, 3]);
        for (word, bytes) in state[COUNTER + 1..].iter_mut().zip(nonce.as_chunks().0) {
            *word = Lanes::splat(u32::from_le_bytes(*bytes));
        }
        let mut first = [0; 64 * LANES];
        combine(&mut state, &mut first);
        Self { state, first }
    }

    /// The key for the tag: the first half of block 0.
    pub(crate) fn authenticator_key(&self) -> &[u8; 32] {
        self.first.first_chunk().expect("a block has 64 bytes")
    }

    /// Encrypts or decrypts `data` with block 1 and those that follow; possible once.
    pub(crate) fn apply(&mut self, data: &mut [u8]) {
        let (head, rest) = data.split_at_mut(data.len().min(64 * (LANES - 1)));
        head.iter_mut().zip(&self.first[64..]).for_each(|(byte, key)| *byte ^= key);

        let (whole, tail) = rest.as_chunks_mut();
        for blocks in whole {
            combine(&mut self.state, blocks);
        }
        if !tail.is_empty() {
            let mut blocks = [0; 64 * LANES];
            blocks[..tail.len()].copy_from_slice(tail);
            combine(&mut self.state, &mut blocks);
            tail.copy_from_slice(&blocks[..tail.len()]);
            wipe(&mut blocks, 0);
        }
    }
}

impl Keystream {
    /// Overwrites all that is secret; the key is in the state.
    fn wipe(&mut self) {
        wipe(&mut self.state, Lanes::splat(0));
        wipe(&mut self.first, 0);
    }
}

impl Drop for Keystream {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Overwrites secrets as `zeroize` does, but with few large stores instead of one for each byte.
fn wipe<T: Copy>(secrets: &mut [T], zero: T) {
    secrets.fill(zero);
    // The compiler has to assume that the zeros are read, so it can't leave them out.
    black_box(secrets);
}

/// Combines the next four blocks with `data`, and moves on.
///
/// Never inlined: a page would download the rounds three times, and a call is nothing beside them.
#[inline(never)]
fn combine(state: &mut [Lanes; 16], data: &mut Blocks) {
    xor_blocks(&rounds(state), data);
    state[COUNTER] = state[COUNTER].add(Lanes::splat(LANES as u32));
}

#[inline(always)]
fn rounds(state: &[Lanes; 16]) -> [Lanes; 16] {
    let mut words = *state;
    for _ in 0..20 {
        // Written out: indices that are known before anything is unrolled keep the words in registers.
        quarter_round(&mut words, [0, 4, 8, 12]);
        quarter_round(&mut words, [1, 5, 9, 13]);
        quarter_round(&mut words, [2, 6, 10, 14]);
        quarter_round(&mut words, [3, 7, 11, 15]);
        // A mirror image, in which diagonals are columns and columns diagonals: half as much code.
        for (a, b) in [(1, 3), (4, 5), (6, 7), (8, 10), (12, 15), (13, 14)] {
            words.swap(a, b);
        }
    }
    for (word, before) in words.iter_mut().zip(state) {
        *word = word.add(*before);
    }
    words
}

#[inline(always)]
fn quarter_round(words: &mut [Lanes; 16], [a, b, c, d]: [usize; 4]) {
    words[a] = words[a].add(words[b]);
    words[d] = words[d].xor_rotate::<16>(words[a]);
    words[c] = words[c].add(words[d]);
    words[b] = words[b].xor_rotate::<12>(words[c]);
    words[a] = words[a].add(words[b]);
    words[d] = words[d].xor_rotate::<8>(words[a]);
    words[c] = words[c].add(words[d]);
    words[b] = words[b].xor_rotate::<7>(words[c]);
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::native;
    use std::array;

    #[test]
    fn a_key_stream_that_is_dropped_leaves_nothing_of_its_key_and_blocks() {
        let mut keystream = Keystream::new(&[7; 32], &[9; 12]);
        keystream.wipe(); // as its drop does
        // The blocks that were kept, and four that are made of a state of zeros: without a key they are zeros, too.
        let mut data = [0; 64 * (2 * LANES - 1)];
        keystream.apply(&mut data);
        assert_eq!(*keystream.authenticator_key(), [0; 32]);
        assert!(data.iter().all(|byte| *byte == 0), "{data:?}");
    }

    #[test]
    fn the_key_stream_is_that_of_the_chacha20_crate_at_every_length() {
        for len in (0..=1100).chain([4096, 65_519, 65_535, 1 << 20]) {
            let key = array::from_fn(|at| (at * 7 + len) as u8);
            let nonce = array::from_fn(|at| (at * 13 + len * 5) as u8);
            let (mut ours, mut theirs) = (Keystream::new(&key, &nonce), native::Keystream::new(&key, &nonce));
            assert_eq!(ours.authenticator_key(), theirs.authenticator_key(), "length {len}");
            let mut ours_data: Vec<_> = (0..len).map(|at| (at * 31) as u8).collect();
            let mut theirs_data = ours_data.clone();
            ours.apply(&mut ours_data);
            theirs.apply(&mut theirs_data);
            assert!(ours_data == theirs_data, "length {len}");
        }
    }
}
