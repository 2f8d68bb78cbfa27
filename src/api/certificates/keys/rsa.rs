//! RSA keys, which ring uses but does not make (FIPS 186-5, A.1.3), and signatures whose salt has any length (RFC 8017, 8.1.2), which it does
//! not verify.

use sha2::{Digest, Sha256};
use x509_parser::num_bigint::BigUint;

use super::{KeyError, random, write_oid};

/// The exponent of all public keys that are made here.
const EXPONENT: u32 = 65_537;
/// `rsaEncryption`.
const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
/// Candidates that one of the primes below divides are not tried.
const SIEVED: u32 = 8_192;
/// How far from a random number a prime is looked for.
const REACH: u32 = 1 << 16;
/// Tests by Miller and Rabin: after five of a number of 1,536 bits it is composite once in 2¹²⁸ times (FIPS 186-5, table B.1).
const ROUNDS: usize = 8;
/// The longest exponent that Go takes.
const LONGEST_EXPONENT: u64 = 31;
const HASH: usize = 32;

/// A new key of so many bits, in PKCS#8.
///
/// # Errors
/// When the system has no random numbers.
pub fn generate(bits: usize) -> Result<Vec<u8>, KeyError> {
    let (exponent, one) = (BigUint::from(EXPONENT), BigUint::from(1_u8));
    let small = small_primes();
    loop {
        let (first, second) = (prime(bits / 2, &small)?, prime(bits / 2, &small)?);
        let (p, q) = if first > second { (first, second) } else { (second, first) };
        // Primes that are close to each other are found from their product.
        if (&p - &q).bits() < (bits / 2 - 100) as u64 {
            continue;
        }
        let (before_p, before_q) = (&p - &one, &q - &one);
        let (Some(d), Some(coefficient)) = (exponent.modinv(&(&before_p * &before_q)), q.modinv(&p)) else { continue };
        let numbers = [&p * &q, exponent, d.clone(), p, q, &d % &before_p, &d % &before_q, coefficient];
        return Ok(pkcs8(&numbers));
    }
}

/// The parts of a key in their order: modulus, exponents, primes, their exponents, coefficient (RFC 8017, A.1.2).
fn pkcs8(numbers: &[BigUint]) -> Vec<u8> {
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            numbers.iter().for_each(|number| writer.next().write_bigint_bytes(&number.to_bytes_be(), true));
        });
    });
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(|writer| {
                write_oid(writer, RSA);
                writer.next().write_null();
            });
            writer.next().write_bytes(&key);
        });
    })
}

/// The odd primes below [`SIEVED`].
fn small_primes() -> Vec<u32> {
    let mut primes: Vec<u32> = Vec::new();
    for number in (3..SIEVED).step_by(2) {
        if primes.iter().take_while(|prime| *prime * *prime <= number).all(|prime| !number.is_multiple_of(*prime)) {
            primes.push(number);
        }
    }
    primes
}

/// A prime of so many bits whose two highest are set, so that a product of two has twice as many.
fn prime(bits: usize, small: &[u32]) -> Result<BigUint, KeyError> {
    loop {
        let mut start = BigUint::from_bytes_be(&random(bits.div_ceil(8))?);
        let highest = bits as u64 - 1;
        for bit in [0, highest - 1, highest] {
            start.set_bit(bit, true);
        }
        let rests: Vec<u32> = small.iter().map(|prime| rest(&start, *prime)).collect();
        for step in (0..REACH).step_by(2) {
            if small.iter().zip(&rests).any(|(prime, rest)| (rest + step).is_multiple_of(*prime)) {
                continue;
            }
            let candidate = &start + step;
            // The public exponent has an inverse only where it divides neither prime less one.
            if candidate.bits() == bits as u64 && rest(&candidate, EXPONENT) != 1 && is_prime(&candidate)? {
                return Ok(candidate);
            }
        }
    }
}

fn rest(number: &BigUint, divisor: u32) -> u32 {
    (number % divisor).iter_u32_digits().next().unwrap_or(0)
}

/// Whether a large odd number is prime, but for a chance that nobody meets.
fn is_prime(number: &BigUint) -> Result<bool, KeyError> {
    let one = BigUint::from(1_u8);
    let before = number - &one;
    let twos = before.trailing_zeros().unwrap_or(0);
    let odd = &before >> twos;
    for round in 0..ROUNDS {
        // Nearly all that are composite fail with the first.
        let base = if round == 0 { BigUint::from(2_u8) } else { BigUint::from_bytes_be(&random(32)?) };
        let mut power = base.modpow(&odd, number);
        let tells_nothing = power == one || power == before || &base % number == BigUint::ZERO;
        if tells_nothing {
            continue;
        }
        let mut squares = 1;
        loop {
            if squares >= twos {
                return Ok(false);
            }
            power = &power * &power % number;
            if power == before {
                break;
            }
            squares += 1;
        }
    }
    Ok(true)
}

/// Whether the owner of the key signed the message with SHA-256 and PSS, with a salt of any length. Numbers are big endian.
pub fn verify_pss(modulus: &[u8], exponent: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    let signed = BigUint::from_bytes_be(signature);
    if modulus == BigUint::ZERO || exponent.bits() > LONGEST_EXPONENT || signed >= modulus {
        return false;
    }
    let bits = modulus.bits() - 1;
    let Ok(length) = usize::try_from(bits.div_ceil(8)) else { return false };
    let bytes = signed.modpow(&exponent, &modulus).to_bytes_be();
    if bytes.len() > length || length < HASH + 2 {
        return false;
    }
    let mut encoded = vec![0; length - bytes.len()];
    encoded.extend(bytes);
    is_encoding(&encoded, length as u64 * 8 - bits, message)
}

/// RFC 8017, 9.1.2; the highest `unused` bits are none of the encoding's.
fn is_encoding(encoded: &[u8], unused: u64, message: &[u8]) -> bool {
    let (masked, end) = encoded.split_at(encoded.len() - HASH - 1);
    let (hash, trailer) = end.split_at(HASH);
    let own = 0xff_u8.checked_shr(u32::try_from(unused).unwrap_or(8)).unwrap_or(0);
    if trailer != [0xbc] || masked.first().is_none_or(|first| first & !own != 0) {
        return false;
    }
    let mask = (0_u32..).flat_map(|count| Sha256::new().chain_update(hash).chain_update(count.to_be_bytes()).finalize());
    let mut block: Vec<u8> = masked.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    block[0] &= own;
    let padding = block.iter().take_while(|byte| **byte == 0).count();
    let Some((1, salt)) = block[padding..].split_first().map(|(mark, salt)| (*mark, salt)) else { return false };
    let expected = Sha256::new().chain_update([0_u8; 8]).chain_update(Sha256::digest(message)).chain_update(salt).finalize();
    expected[..] == *hash
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair as _, RsaKeyPair};
    use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

    use super::*;

    #[test]
    fn a_key_has_the_bits_that_were_asked_for_and_ring_takes_it() {
        let key = RsaKeyPair::from_pkcs8(&generate(2048).expect("a key")).expect("ring checks its parts");
        assert_eq!(key.public().modulus_len(), 256);
        let message = b"a message";
        let mut signature = vec![0; 256];
        let random = ring::rand::SystemRandom::new();
        key.sign(&ring::signature::RSA_PSS_SHA256, &random, message, &mut signature).expect("signs");
        let public: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public_key().into();
        assert!(verify_pss(&public.n, &public.e, message, &signature));
        assert!(!verify_pss(&public.n, &public.e, b"another", &signature));
    }

    #[test]
    fn salts_may_have_any_length() {
        let (_, info) = SubjectPublicKeyInfo::from_der(include_bytes!("../testdata/rsa-3072.pub.der")).expect("a key");
        let PublicKey::RSA(key) = info.parsed().expect("parses") else { panic!("an RSA key") };
        let signature = include_bytes!("../testdata/rsa-pss.sig");
        assert!(verify_pss(key.modulus, key.exponent, b"pod-uid", signature));
        assert!(!verify_pss(key.modulus, key.exponent, b"pod-uie", signature));
        assert!(!verify_pss(key.modulus, key.exponent, b"pod-uid", &signature[1..]));
        assert!(!verify_pss(&[], &[], b"", b"") && !verify_pss(&[5], &[3], b"", &[1]));
    }

    #[test]
    fn small_numbers_are_told_apart() {
        let is = |number: u32| is_prime(&BigUint::from(number)).expect("random numbers");
        assert!([65_537, 104_729, 1_000_003].into_iter().all(is));
        assert!(![65_535, 561 * 3, 104_729 * 3, 1_000_001].into_iter().any(is));
        assert_eq!(small_primes()[..5], [3, 5, 7, 11, 13]);
    }
}
