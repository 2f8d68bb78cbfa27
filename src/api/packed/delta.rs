//! The difference between two values: which parts one has in common with the other, and what it has of its own. Pure.
//!
//! A delta is the length of its value and then the pieces of which the value is made, in their order. A piece is a number whose lowest bit says
//! whether it is copied from the base and whose other bits are its length, followed by its place in the base, or by its bytes. Numbers are
//! LEB128: seven bits a byte, the lowest first.

/// The base is known by blocks of so many bytes …
const BLOCK: usize = 16;
/// … one of which begins at every multiple of this. Whatever has `BLOCK + STRIDE - 1` bytes in common with it is found.
const STRIDE: usize = 8;
/// No place in a base.
const NOWHERE: u16 = u16::MAX;

/// The longest base, in bytes: its places are numbers of two bytes.
pub const LONGEST: usize = 60 * 1024;

/// Where the blocks of a base are, by their hashes; of several with the same hash, the first.
pub struct Places(Box<[u16]>);

impl Places {
    /// The blocks of a base of at most [`LONGEST`] bytes.
    pub fn of(base: &[u8]) -> Self {
        let slots = (base.len() / STRIDE).next_power_of_two().max(2);
        let mut places = vec![NOWHERE; slots].into_boxed_slice();
        for (number, block) in base.windows(BLOCK).step_by(STRIDE).enumerate() {
            let place = &mut places[slot(block, slots)];
            if *place == NOWHERE {
                *place = u16::try_from(number * STRIDE).unwrap_or(NOWHERE);
            }
        }
        Places(places)
    }

    /// Where the base has a block, if that is known.
    fn find(&self, base: &[u8], block: &[u8]) -> Option<usize> {
        let place = usize::from(self.0[slot(block, self.0.len())]);
        (base.get(place..place + BLOCK)? == block).then_some(place)
    }
}

/// The slot of a block among a power of two of them.
fn slot(block: &[u8], slots: usize) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let half = |at: usize| block.get(at..at + 8).and_then(|half| half.try_into().ok()).map_or(0, u64::from_le_bytes);
    let mixed = (half(0) ^ half(8).rotate_left(31)).wrapping_mul(ODD);
    // The highest bits depend on all others.
    usize::try_from(mixed >> (64 - slots.trailing_zeros())).unwrap_or_default()
}

/// The delta that makes `value` of `base`, whose blocks are at `places`; `None` where it would have more than `most` bytes.
pub fn between(base: &[u8], places: &Places, value: &[u8], most: usize) -> Option<Box<[u8]>> {
    let mut delta = Vec::with_capacity(256);
    put_number(&mut delta, value.len());
    // The value is described up to `told`, and what was copied last ends in the base at `copied`.
    let (mut told, mut copied, mut at) = (0, 0, 0);
    while at < value.len() {
        if delta.len() + (at - told) > most {
            return None;
        }
        // Where a few bytes differ, such as a time, what follows them is mostly the same.
        let Some(found) = goes_on(base, copied + (at - told), value, at).or_else(|| places.find(base, value.get(at..at + BLOCK)?)) else {
            at += 1;
            continue;
        };
        let earlier = common_end(&base[..found], &value[told..at]);
        let (from, begin) = (found - earlier, at - earlier);
        let length = common_begin(&base[from..], &value[begin..]);
        put_own(&mut delta, &value[told..begin]);
        put_number(&mut delta, (length << 1) | 1);
        put_number(&mut delta, from);
        (at, copied) = (begin + length, from + length);
        told = at;
    }
    put_own(&mut delta, &value[told..]);
    (delta.len() <= most).then(|| delta.into_boxed_slice())
}

/// The place in the base, if it has the same there as the value has at `at`.
fn goes_on(base: &[u8], place: usize, value: &[u8], at: usize) -> Option<usize> {
    const ENOUGH: usize = 8;
    (base.get(place..place + ENOUGH)? == value.get(at..at + ENOUGH)?).then_some(place)
}

/// How many bytes are the same from the beginning on.
fn common_begin(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    whole + one[whole..].iter().zip(&other[whole..]).take_while(|(one, other)| one == other).count()
}

/// How many bytes are the same before the end.
fn common_end(one: &[u8], other: &[u8]) -> usize {
    one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}

/// Appends a piece that is the value's own.
fn put_own(delta: &mut Vec<u8>, own: &[u8]) {
    if !own.is_empty() {
        put_number(delta, own.len() << 1);
        delta.extend_from_slice(own);
    }
}

fn put_number(delta: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        delta.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    delta.push(number as u8);
}

/// Takes a number off the beginning.
fn take_number(rest: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        *rest = behind;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    number
}

/// The length of the value that a delta makes.
pub fn length(mut delta: &[u8]) -> usize {
    take_number(&mut delta)
}

/// The pieces of the value that `delta` makes of `base`, which is the one that it was made for.
pub fn pieces<'a>(base: &'a [u8], mut delta: &'a [u8]) -> Pieces<'a> {
    take_number(&mut delta);
    Pieces { base, rest: delta }
}

/// See [`pieces`].
pub struct Pieces<'a> {
    base: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let head = take_number(&mut self.rest);
        let length = head >> 1;
        if head & 1 == 1 {
            let from = take_number(&mut self.rest);
            return Some(&self.base[from..from + length]);
        }
        let (own, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delta(base: &[u8], value: &[u8]) -> Box<[u8]> {
        between(base, &Places::of(base), value, usize::MAX).expect("has no bound")
    }

    fn made(base: &[u8], delta: &[u8]) -> Vec<u8> {
        pieces(base, delta).flatten().copied().collect()
    }

    #[test]
    fn what_differs_in_few_places_is_told_in_few_bytes() {
        let pod = |name: &str, address: &str, time: &str| {
            let fields = (0..60).map(|at| format!("\"f:field{at}\":{{}}")).collect::<Vec<_>>().join(",");
            format!("{{\"metadata\":{{\"name\":\"{name}\",\"fields\":{{{fields},\"k:{address}\":{{}}}},\"time\":\"{time}\"}},\"ip\":\"{address}\"}}")
        };
        let base = pod("web-abcde", "10.0.0.1", "2026-01-01T00:00:00Z");
        let value = pod("web-fghij", "10.0.12.134", "2026-01-01T00:00:07Z");
        let delta = delta(base.as_bytes(), value.as_bytes());
        assert!(delta.len() < 60 && value.len() > 1000, "{} of {}", delta.len(), value.len());
        assert_eq!(made(base.as_bytes(), &delta), value.as_bytes());
        assert_eq!(length(&delta), value.len());
    }

    #[test]
    fn what_would_be_too_long_is_not_made() {
        let (base, value) = (vec![b'a'; 1000], vec![b'b'; 1000]);
        assert!(between(&base, &Places::of(&base), &value, 500).is_none());
        let whole = delta(&base, &value);
        assert_eq!(between(&base, &Places::of(&base), &value, whole.len() - 1), None);
        assert_eq!(made(&base, &whole), value);
    }

    #[test]
    fn numbers_of_all_lengths_come_back() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, LONGEST, usize::MAX] {
            let mut written = Vec::new();
            put_number(&mut written, number);
            written.push(9);
            let mut rest = &*written;
            assert_eq!((take_number(&mut rest), rest), (number, &[9][..]));
        }
    }

    /// A value that is the other one with parts taken away, repeated and replaced.
    fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let part = (0.0..1.0_f64, 0.0..1.0_f64, proptest::collection::vec(any::<u8>(), 0..40));
        let base = prop_oneof![proptest::collection::vec(any::<u8>(), 0..3000), proptest::collection::vec(b'a'..b'c', 0..3000)];
        (base, proptest::collection::vec(part, 0..20)).prop_map(|(base, parts)| {
            let place = |share: f64| (share * base.len() as f64) as usize;
            let mut value = Vec::new();
            for (one, other, own) in parts {
                let (from, to) = (place(one.min(other)), place(one.max(other)));
                value.extend_from_slice(&base[from..to]);
                value.extend_from_slice(&own);
            }
            (base, value)
        })
    }

    proptest! {
        #[test]
        fn a_delta_makes_the_very_value_that_it_was_made_of((base, value) in edited()) {
            let delta = delta(&base, &value);
            prop_assert_eq!(length(&delta), value.len());
            prop_assert_eq!(made(&base, &delta), value);
        }
    }
}
