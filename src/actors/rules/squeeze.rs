//! Bytes told shorter: what was there before, or is in nearly all rules, is told by where it was. Pure.
//!
//! A byte below 0x80 says that so many bytes and one more follow as they are. Any other says that so many less 0x80 and four more are copied,
//! 0xff that a number follows which is added to that; then follows how far back they are. All bytes stand behind [`KNOWN`]. Numbers are LEB128.
//!
//! It is no general compression: rules of one owner are some hundred bytes, of which names, addresses and hashes of both are new. Equal bytes are
//! told equally.

use std::sync::LazyLock;

/// What rules are made of. What is nearer to its end is told in fewer bytes.
const KNOWN: &[u8] = concat!(
    "-m statistic --mode random --probability 0.-m comment --comment \"masquerade traffic for  external destinations\" -j KUBE-MARK-MASQ",
    "KUBE-EXT-KUBE-NODEPORTSKUBE-EXTERNAL-SERVICES has no local endpoints\" -m addrtype --dst-type LOCAL -j DROP",
    "TROUPE-PE-TROUPE-PI-TROUPE-NE-10.244.TROUPE-NI-10.244.-m set --match-set TROUPE- src -m comment --comment \"\" -j RETURN is isolated\" -j DROP",
    " has no endpoints\" -m udp --dport 53 -m tcp --dport 443 -j REJECT --reject-with icmp-port-unreachable",
    "\x01\x19KUBE-SVC-\x01\x19KUBE-SEP-",
    "! -s 10.244.0.0/16 -d 10.96.0.0/32 -p tcp -m comment --comment \" cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ",
    "-m comment --comment \":http -> 10.244.0.0:8080\" -j KUBE-SEP-",
    "-s 10.244.0.0/32 -m comment --comment \"\" -j KUBE-MARK-MASQ",
    "-p tcp -m comment --comment \"\" -m tcp -j DNAT --to-destination 10.244.0.0:8080",
    "KUBE-NET-10.96.0.0-d 10.96.0.0/32 -p tcp -m comment --comment \" cluster IP\" -m tcp --dport 80 -j KUBE-SVC-",
)
.as_bytes();

/// The first of the bytes that say that something is copied.
const COPY: usize = 0x80;
/// Fewer bytes are not copied.
const LEAST: usize = 4;
/// Places that are remembered: one for each hash of so many bits.
const BITS: u32 = 11;

type Places = [u32; 1 << BITS];

/// Where in [`KNOWN`] something of each hash is; where there is nothing, its begin.
static PLACES: LazyLock<Box<Places>> = LazyLock::new(|| {
    let mut places: Box<Places> = Box::new([0; 1 << BITS]);
    (0..=KNOWN.len() - LEAST).for_each(|at| note(&mut places, KNOWN, at));
    places
});

fn slot(text: &[u8]) -> usize {
    let first = u32::from_le_bytes(*text.first_chunk::<4>().expect("there are four"));
    (first.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BITS)) as usize
}

fn note(places: &mut Places, text: &[u8], at: usize) {
    // What is further away than that is not found again.
    places[slot(&text[at..])] = u32::try_from(at).unwrap_or(0);
}

/// The bytes in short.
pub fn squeeze(bytes: &[u8]) -> Vec<u8> {
    let text = [KNOWN, bytes].concat();
    let mut places = Box::clone(&PLACES);
    let mut out = Vec::new();
    // What is before `plain` is told.
    let (mut at, mut plain) = (KNOWN.len(), KNOWN.len());
    while at + LEAST <= text.len() {
        let before = places[slot(&text[at..])] as usize;
        note(&mut places, &text, at);
        let length = text[before..].iter().zip(&text[at..]).take_while(|(old, new)| old == new).count();
        if length < LEAST {
            at += 1;
            continue;
        }
        put_plain(&mut out, &text[plain..at]);
        put_copy(&mut out, length, at - before);
        let last = (at + length).min(text.len() - LEAST + 1);
        (at + 1..last).for_each(|passed| note(&mut places, &text, passed));
        at += length;
        plain = at;
    }
    put_plain(&mut out, &text[plain..]);
    out
}

fn put_plain(out: &mut Vec<u8>, bytes: &[u8]) {
    for some in bytes.chunks(COPY) {
        out.push((some.len() - 1) as u8);
        out.extend_from_slice(some);
    }
}

fn put_copy(out: &mut Vec<u8>, length: usize, distance: usize) {
    let (more, longest) = (length - LEAST, usize::from(u8::MAX) - COPY);
    out.push((COPY + more.min(longest)) as u8);
    if more >= longest {
        put_number(out, more - longest);
    }
    put_number(out, distance);
}

/// The bytes that [`squeeze`] told, and no others.
pub fn expand(mut told: &[u8]) -> Vec<u8> {
    let mut out = KNOWN.to_vec();
    while let Some((token, rest)) = told.split_first() {
        told = rest;
        let token = usize::from(*token);
        if token < COPY {
            let (plain, rest) = told.split_at(token + 1);
            out.extend_from_slice(plain);
            told = rest;
            continue;
        }
        let more = if token == usize::from(u8::MAX) { take_number(&mut told) } else { 0 };
        let length = token - COPY + LEAST + more;
        let from = out.len() - take_number(&mut told);
        copy(&mut out, from, length);
    }
    out.drain(..KNOWN.len());
    out
}

/// Appends bytes from a place on, which may be among those that are appended.
fn copy(out: &mut Vec<u8>, from: usize, length: usize) {
    if from + length <= out.len() {
        return out.extend_from_within(from..from + length);
    }
    for at in from..from + length {
        let byte = out[at];
        out.push(byte);
    }
}

/// Appends a number as LEB128.
pub fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number that [`put_number`] wrote off the begin.
pub fn take_number(from: &mut &[u8]) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = from.split_first().expect("a number was written");
        *from = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop_oneof!["[a-c]{0,300}", "-m comment --comment \"[a-z/]{0,9}\"", "\\PC{0,9}"], 0..20)
    }

    proptest! {
        #[test]
        fn what_was_squeezed_comes_back(parts in parts()) {
            let bytes = parts.concat().into_bytes();
            prop_assert_eq!(expand(&squeeze(&bytes)), bytes);
        }

        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let told = squeeze(&bytes);
            prop_assert!(told.len() <= bytes.len() + bytes.len() / 8 + 1);
            prop_assert_eq!(expand(&told), bytes);
        }
    }

    #[test]
    fn long_bytes_come_back_and_repetitions_take_next_to_nothing() {
        for period in [1, 3, 200, 5000] {
            let bytes: Vec<u8> = (0..100_000_usize).map(|at| (at % period * 31 % 251) as u8).collect();
            let told = squeeze(&bytes);
            assert!(told.len() < 2 * period + 64, "{period}: {}", told.len());
            assert_eq!(expand(&told), bytes);
        }
        assert_eq!(squeeze(b""), b"");
    }
}
