//! The same word of four blocks at once: one SIMD register of WebAssembly, or four numbers.

pub(crate) use imp::Lanes;

/// The number of blocks that are computed at once.
pub(crate) const LANES: usize = 4;

/// The bytes of four blocks.
pub(crate) type Blocks = [u8; 64 * LANES];

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod imp {
    use super::{Blocks, LANES};
    use core::arch::wasm32::{
        i8x16_shuffle, i32x4_shuffle, i64x2_shuffle, u32x4, u32x4_add, u32x4_shl, u32x4_shr, u32x4_splat,
        u64x2, u64x2_extract_lane, v128, v128_or, v128_xor,
    };

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes(v128);

    impl Lanes {
        #[inline(always)]
        pub(crate) fn new(lanes: [u32; LANES]) -> Self {
            Self(u32x4(lanes[0], lanes[1], lanes[2], lanes[3]))
        }

        #[inline(always)]
        pub(crate) fn splat(word: u32) -> Self {
            Self(u32x4_splat(word))
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            Self(u32x4_add(self.0, other.0))
        }

        /// The exclusive or with `other`, rotated to the left by `BITS`.
        #[inline(always)]
        pub(crate) fn xor_rotate<const BITS: u32>(self, other: Self) -> Self {
            let bits = v128_xor(self.0, other.0);
            // Halves are shuffled by two instructions. For bytes V8 would make a mask anew each time.
            Self(match BITS {
                16 => i8x16_shuffle::<2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13>(bits, bits),
                _ => v128_or(u32x4_shl(bits, BITS), u32x4_shr(bits, 32 - BITS)),
            })
        }
    }

    /// Combines four blocks, given by word, with `data`.
    #[inline(always)]
    pub(crate) fn xor_blocks(words: &[Lanes; 16], data: &mut Blocks) {
        for quarter in 0..4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|word| words[4 * quarter + word].0);
            // Four words of four blocks become four blocks of four words.
            let (ab_low, ab_high) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
            let (cd_low, cd_high) = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
            let rows = [
                i64x2_shuffle::<0, 2>(ab_low, cd_low),
                i64x2_shuffle::<1, 3>(ab_low, cd_low),
                i64x2_shuffle::<0, 2>(ab_high, cd_high),
                i64x2_shuffle::<1, 3>(ab_high, cd_high),
            ];
            for (block, row) in rows.into_iter().enumerate() {
                let (rows, _) = data.as_chunks_mut::<16>();
                let bytes = &mut rows[block * 4 + quarter];
                // One load and one store: the compiler joins the halves.
                let bits = u128::from_le_bytes(*bytes);
                let row = v128_xor(u64x2(bits as u64, (bits >> 64) as u64), row);
                let (halves, _) = bytes.as_chunks_mut::<8>();
                halves[0] = u64x2_extract_lane::<0>(row).to_le_bytes();
                halves[1] = u64x2_extract_lane::<1>(row).to_le_bytes();
            }
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod imp {
    use super::{Blocks, LANES};
    use std::array;

    #[derive(Clone, Copy)]
    pub(crate) struct Lanes([u32; LANES]);

    impl Lanes {
        #[inline(always)]
        pub(crate) fn new(lanes: [u32; LANES]) -> Self {
            Self(lanes)
        }

        #[inline(always)]
        pub(crate) fn splat(word: u32) -> Self {
            Self([word; LANES])
        }

        #[inline(always)]
        pub(crate) fn add(self, other: Self) -> Self {
            Self(array::from_fn(|lane| self.0[lane].wrapping_add(other.0[lane])))
        }

        /// The exclusive or with `other`, rotated to the left by `BITS`.
        #[inline(always)]
        pub(crate) fn xor_rotate<const BITS: u32>(self, other: Self) -> Self {
            Self(array::from_fn(|lane| (self.0[lane] ^ other.0[lane]).rotate_left(BITS)))
        }
    }

    /// Combines four blocks, given by word, with `data`.
    #[inline(always)]
    pub(crate) fn xor_blocks(words: &[Lanes; 16], data: &mut Blocks) {
        for (block, bytes) in data.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = (u32::from_le_bytes(*bytes) ^ word.0[block]).to_le_bytes();
            }
        }
    }
}

pub(crate) use imp::xor_blocks;
