//! Lower-case hexadecimal encoding of ids into fixed-size arrays, without allocation.

/// Returns the 8 digits of a number. All digits are computed in parallel in one word.
fn encode_u32(number: u32) -> [u8; 8] {
    let wide = u64::from(number);
    let halves = (wide << 16 | wide) & 0x0000_ffff_0000_ffff;
    let bytes = (halves << 8 | halves) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes << 4 | bytes) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte that is a letter: a nibble of 10 or more carries when 6 is added
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Returns the 16 digits of a number.
pub fn encode_u64(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let halves = [(number >> 32) as u32, number as u32];
    text.as_chunks_mut().0.iter_mut().zip(halves).for_each(|(to, half)| *to = encode_u32(half));
    text
}

/// Returns the 32 digits of a number.
pub fn encode_u128(number: u128) -> [u8; 32] {
    let mut text = [0; 32];
    let halves = [(number >> 64) as u64, number as u64];
    text.as_chunks_mut().0.iter_mut().zip(halves).for_each(|(to, half)| *to = encode_u64(half));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0xf0f0_0f0f_aa55_1001] {
            assert_eq!(encode_u64(number).as_slice(), format!("{number:016x}").as_bytes());
            let both = u128::from(number) << 64 | u128::from(!number);
            assert_eq!(encode_u128(both).as_slice(), format!("{both:032x}").as_bytes());
        }
    }
}
