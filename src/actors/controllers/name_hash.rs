//! Short hashes for names: stable, and spelling no bad words.

/// What FNV-1a begins with.
pub const START: u32 = 0x811c_9dc5;

/// FNV-1a of 32 bits, going on from `start`.
pub fn fnv1a(bytes: &[u8], start: u32) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// `rand.SafeEncodeString`: letters and digits that spell no bad words.
pub fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The hash of texts, one after the other.
pub fn of(parts: &[&str]) -> String {
    safe_encode(&parts.iter().fold(START, |hash, part| fnv1a(part.as_bytes(), hash)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_fnv() {
        // The reference vectors of FNV-1a.
        assert_eq!((fnv1a(b"", START), fnv1a(b"a", START), fnv1a(b"foobar", START)), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
        assert_eq!(of(&["foo", "bar"]), safe_encode(&0xbf9c_f968_u32.to_string()));
        assert!(of(&["foobar"]).bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
