//! ECDSA on the curve P-521 (FIPS 186-5, SEC 1), which ring does not have.
//!
//! In: digests, keys, signatures in DER. A secret is used twice in its life here, for its public key and for one signature, each time with new
//! random numbers and by a ladder that takes the same steps for each bit; the numbers below it do not take the same time for each value.

use std::sync::LazyLock;

use x509_parser::num_bigint::BigUint;
use yasna::{Tag, models::ObjectIdentifier};

use super::{KeyError, random, write_oid};

/// Octets of a coordinate, and of a secret.
const OCTETS: usize = 66;
const BITS: u64 = 521;
/// What precedes the coordinates of a point that is not compressed.
const UNCOMPRESSED: u8 = 4;
/// `id-ecPublicKey` and `secp521r1` (RFC 5480).
const PUBLIC_KEY: &[u64] = &[1, 2, 840, 10_045, 2, 1];
const SECP521R1: &[u64] = &[1, 3, 132, 0, 35];

/// The curve `y² = x³ - 3x + b` over the integers modulo `prime`, whose points are multiples of `base`, of which there are `order`.
struct Curve {
    prime: BigUint,
    order: BigUint,
    b: BigUint,
    base: Point,
}

static CURVE: LazyLock<Curve> = LazyLock::new(|| {
    let number = |hex: &str| BigUint::parse_bytes(hex.as_bytes(), 16).expect("a number in hexadecimal digits");
    let one = BigUint::from(1_u8);
    let x = "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66";
    let y = "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650";
    let ffs = "f".repeat(64);
    Curve {
        prime: (&one << 521_u32) - &one,
        order: number(&format!("01{ffs}fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409")),
        b: number(
            "51953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
        ),
        base: Point { x: number(x), y: number(y), z: one },
    }
});

/// A point in Jacobian coordinates: `(x/z², y/z³)`, or none at all where `z` is 0.
#[derive(Clone)]
struct Point {
    x: BigUint,
    y: BigUint,
    z: BigUint,
}

fn times(a: &BigUint, b: &BigUint) -> BigUint {
    a * b % &CURVE.prime
}

fn plus(a: &BigUint, b: &BigUint) -> BigUint {
    (a + b) % &CURVE.prime
}

fn minus(a: &BigUint, b: &BigUint) -> BigUint {
    (a + &CURVE.prime - b) % &CURVE.prime
}

fn by(a: &BigUint, small: u8) -> BigUint {
    a * small % &CURVE.prime
}

impl Point {
    fn nothing() -> Self {
        Point { x: BigUint::from(1_u8), y: BigUint::from(1_u8), z: BigUint::ZERO }
    }

    /// A point as keys have it; `None` for what is none of the curve.
    fn parse(octets: &[u8]) -> Option<Self> {
        let (form, coordinates) = octets.split_first()?;
        if *form != UNCOMPRESSED || coordinates.len() != 2 * OCTETS {
            return None;
        }
        let (x, y) = coordinates.split_at(OCTETS);
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        if x >= CURVE.prime || y >= CURVE.prime {
            return None;
        }
        let cube = times(&times(&x, &x), &x);
        let right = plus(&minus(&cube, &by(&x, 3)), &CURVE.b);
        (times(&y, &y) == right).then(|| Point { x, y, z: BigUint::from(1_u8) })
    }

    /// The coordinates; `None` for no point at all.
    fn coordinates(&self) -> Option<(BigUint, BigUint)> {
        let inverse = self.z.modinv(&CURVE.prime)?;
        let square = times(&inverse, &inverse);
        Some((times(&self.x, &square), times(&self.y, &times(&square, &inverse))))
    }

    fn doubled(&self) -> Point {
        let (delta, gamma) = (times(&self.z, &self.z), times(&self.y, &self.y));
        let beta = times(&self.x, &gamma);
        let alpha = by(&times(&minus(&self.x, &delta), &plus(&self.x, &delta)), 3);
        let x = minus(&times(&alpha, &alpha), &by(&beta, 8));
        let sum = plus(&self.y, &self.z);
        let z = minus(&minus(&times(&sum, &sum), &gamma), &delta);
        let y = minus(&times(&alpha, &minus(&by(&beta, 4), &x)), &by(&times(&gamma, &gamma), 8));
        Point { x, y, z }
    }

    fn added(&self, other: &Point) -> Point {
        if self.z == BigUint::ZERO {
            return other.clone();
        }
        if other.z == BigUint::ZERO {
            return self.clone();
        }
        let (own_square, other_square) = (times(&self.z, &self.z), times(&other.z, &other.z));
        let (own_x, other_x) = (times(&self.x, &other_square), times(&other.x, &own_square));
        let own_y = times(&self.y, &times(&other.z, &other_square));
        let other_y = times(&other.y, &times(&self.z, &own_square));
        let (run, rise) = (minus(&other_x, &own_x), minus(&other_y, &own_y));
        if run == BigUint::ZERO {
            return if rise == BigUint::ZERO { self.doubled() } else { Point::nothing() };
        }
        let square = times(&run, &run);
        let (cube, middle) = (times(&square, &run), times(&own_x, &square));
        let x = minus(&minus(&times(&rise, &rise), &cube), &by(&middle, 2));
        let y = minus(&times(&rise, &minus(&middle, &x)), &times(&own_y, &cube));
        let z = times(&run, &times(&self.z, &other.z));
        Point { x, y, z }
    }

    /// So many times the point.
    fn multiplied(&self, factor: &BigUint) -> Point {
        let (mut low, mut high) = (Point::nothing(), self.clone());
        for bit in (0..BITS).rev() {
            let sum = low.added(&high);
            if factor.bit(bit) {
                (low, high) = (sum, high.doubled());
            } else {
                (low, high) = (low.doubled(), sum);
            }
        }
        low
    }
}

/// The sum of multiples of two points, for numbers that everybody may know.
fn combined(a: &BigUint, first: &Point, b: &BigUint, second: &Point) -> Point {
    let both = first.added(second);
    let mut sum = Point::nothing();
    for bit in (0..BITS).rev() {
        sum = sum.doubled();
        sum = match (a.bit(bit), b.bit(bit)) {
            (true, true) => sum.added(&both),
            (true, false) => sum.added(first),
            (false, true) => sum.added(second),
            (false, false) => sum,
        };
    }
    sum
}

/// A digest as a number; those that are longer than the order are cut, as FIPS 186-5 says.
fn of_digest(digest: &[u8]) -> BigUint {
    BigUint::from_bytes_be(&digest[..digest.len().min(OCTETS - 1)])
}

/// The octets of a number, as many as a coordinate has.
fn octets(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    let mut all = vec![0; OCTETS.saturating_sub(bytes.len())];
    all.extend(bytes);
    all
}

/// A number from 1 up to the order, which it is not.
fn random_scalar() -> Result<BigUint, KeyError> {
    loop {
        let mut bytes = random(OCTETS)?;
        bytes[0] &= 1;
        let number = BigUint::from_bytes_be(&bytes);
        if number != BigUint::ZERO && number < CURVE.order {
            return Ok(number);
        }
    }
}

/// A key.
pub struct PrivateKey {
    secret: BigUint,
    /// The point, not compressed.
    public: Vec<u8>,
}

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(PrivateKey::of(random_scalar()?))
    }

    fn of(secret: BigUint) -> Self {
        let (x, y) = CURVE.base.multiplied(&secret).coordinates().expect("no multiple below the order is nothing");
        let mut public = vec![UNCOMPRESSED];
        public.extend(octets(&x));
        public.extend(octets(&y));
        PrivateKey { secret, public }
    }

    /// The signature of a digest, in DER.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn sign(&self, digest: &[u8]) -> Result<Vec<u8>, KeyError> {
        let order = &CURVE.order;
        loop {
            let nonce = random_scalar()?;
            let Some((x, _)) = CURVE.base.multiplied(&nonce).coordinates() else { continue };
            let r = x % order;
            let Some(inverse) = nonce.modinv(order) else { continue };
            let s = inverse * (of_digest(digest) + &r * &self.secret) % order;
            if r != BigUint::ZERO && s != BigUint::ZERO {
                return Ok(yasna::construct_der(|writer| {
                    writer.write_sequence(|writer| {
                        writer.next().write_bigint_bytes(&r.to_bytes_be(), true);
                        writer.next().write_bigint_bytes(&s.to_bytes_be(), true);
                    });
                }));
            }
        }
    }

    /// The public key with its algorithm, in DER.
    pub fn public_key_info(&self) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(write_algorithm);
                writer.next().write_bitvec_bytes(&self.public, self.public.len() * 8);
            });
        })
    }

    /// The key in PKCS#8.
    pub fn pkcs8(&self) -> Vec<u8> {
        let key = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(1);
                writer.next().write_bytes(&octets(&self.secret));
                writer.next().write_tagged(Tag::context(1), |writer| writer.write_bitvec_bytes(&self.public, self.public.len() * 8));
            });
        });
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(0);
                writer.next().write_sequence(write_algorithm);
                writer.next().write_bytes(&key);
            });
        })
    }
}

fn write_algorithm(writer: &mut yasna::DERWriterSeq<'_>) {
    write_oid(writer, PUBLIC_KEY);
    writer.next().write_oid(&ObjectIdentifier::from_slice(SECP521R1));
}

/// Whether the octets are a point of the curve, as keys have it.
pub fn is_point(octets: &[u8]) -> bool {
    Point::parse(octets).is_some()
}

/// Whether the owner of the public key (a point that is not compressed) signed the digest.
pub fn verify(public: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    numbers(signature).and_then(|(r, s)| verified(public, digest, &r, &s)).unwrap_or(false)
}

/// The same for a signature as JWS has it (RFC 7518, 3.4): two numbers with as many octets as a coordinate.
pub fn verify_fixed(public: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    let Some((r, s)) = signature.split_at_checked(OCTETS).filter(|(_, s)| s.len() == OCTETS) else { return false };
    verified(public, digest, &BigUint::from_bytes_be(r), &BigUint::from_bytes_be(s)).unwrap_or(false)
}

/// The two numbers of a signature in DER.
fn numbers(signature: &[u8]) -> Option<(BigUint, BigUint)> {
    let numbers = yasna::parse_der(signature, |reader| {
        reader.read_sequence(|reader| Ok([reader.next().read_bigint_bytes()?, reader.next().read_bigint_bytes()?]))
    });
    let [r, s] = numbers.ok()?.map(|(bytes, is_positive)| is_positive.then(|| BigUint::from_bytes_be(&bytes)));
    Some((r?, s?))
}

/// A signature in DER as JWS has it.
#[cfg(test)]
pub fn fixed(signature: &[u8]) -> Vec<u8> {
    let (r, s) = numbers(signature).expect("a signature");
    [octets(&r), octets(&s)].concat()
}

fn verified(public: &[u8], digest: &[u8], r: &BigUint, s: &BigUint) -> Option<bool> {
    let order = &CURVE.order;
    let public = Point::parse(public)?;
    if [r, s].into_iter().any(|number| *number == BigUint::ZERO || number >= order) {
        return None;
    }
    let inverse = s.modinv(order)?;
    let (of_base, of_key) = (of_digest(digest) * &inverse % order, r * &inverse % order);
    let (x, _) = combined(&of_base, &CURVE.base, &of_key, &public).coordinates()?;
    Some(x % order == *r)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256, Sha512};

    use super::*;

    fn number(hex: &str) -> BigUint {
        BigUint::parse_bytes(hex.as_bytes(), 16).expect("a number")
    }

    #[test]
    fn the_public_key_of_a_secret_is_the_standards() {
        // RFC 6979, A.2.7.
        let secret =
            "0fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538";
        let x = "1894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4";
        let y = "0493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d6630f746a28a0db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956dfeaa2bfdfcf5";
        let key = PrivateKey::of(number(secret));
        assert_eq!(key.public[1..], [octets(&number(x)), octets(&number(y))].concat());
        assert!(is_point(&key.public));
    }

    #[test]
    fn signatures_of_others_are_verified() {
        let public = include_bytes!("../testdata/p521.pub.der");
        let (point, signature) = (&public[public.len() - 133..], include_bytes!("../testdata/p521.sig"));
        let digest = Sha256::digest(b"pod-uid");
        assert!(verify(point, &digest, signature));
        assert!(!verify(point, &Sha256::digest(b"another"), signature));
        let mut other = point.to_vec();
        other[132] ^= 1;
        assert!(!is_point(&other) && !verify(&other, &digest, signature));
    }

    #[test]
    fn what_a_key_signs_is_verified_and_nothing_else() {
        let key = PrivateKey::generate().expect("a key");
        let digest = Sha512::digest(b"a");
        let signature = key.sign(&digest).expect("signs");
        assert!(verify(&key.public, &digest, &signature) && verify_fixed(&key.public, &digest, &fixed(&signature)));
        assert!(!verify_fixed(&key.public, &digest, &signature) && !verify_fixed(&key.public, &Sha512::digest(b"b"), &fixed(&signature)));
        assert!(!verify(&PrivateKey::generate().expect("a key").public, &digest, &signature));
        assert!(!verify(&key.public, &digest, b"no DER") && !verify(&key.public, &digest, &[0x30, 6, 2, 1, 0, 2, 1, 0]));
    }
}
