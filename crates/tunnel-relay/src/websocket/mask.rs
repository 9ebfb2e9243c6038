//! Takes off the mask that clients put over what they send (RFC 6455, section 5.3). `decode` calls it.

/// Takes the mask off; `mask` is turned so that its first byte belongs to the first of `bytes`.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    // Whole words: of loops over bytes, compilers make better instructions for some widths than for others.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// The mask rotated by `len` bytes.
pub(super) fn turn(mut mask: [u8; 4], len: usize) -> [u8; 4] {
    mask.rotate_left(len % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_comes_off_wherever_a_payload_is_cut() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        for len in [0, 1, 3, 4, 7, 8, 9, 31, 32, 33, 100, 1_000] {
            let plain: Vec<u8> = (0..len).map(|number| number as u8).collect();
            let masked: Vec<u8> = plain.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            for cut in 0..=len.min(70) {
                let mut bytes = masked.clone();
                let (before, after) = bytes.split_at_mut(cut);
                unmask(before, mask);
                unmask(after, turn(mask, cut));
                assert_eq!(bytes, plain, "{len} bytes cut at {cut}");
            }
        }
    }
}
