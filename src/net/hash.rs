//! Short names that follow from what they stand for.

use sha2::{Digest, Sha256};

/// The first 16 characters of the base32 form of the parts' SHA-256.
pub fn short(parts: &[&str]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    let bits = digest.finalize()[..10].iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    (0..16).rev().map(|at| char::from(ALPHABET[(bits >> (5 * at) & 31) as usize])).collect()
}
