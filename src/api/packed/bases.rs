//! Which values are described by which: those of objects of one kind whose names begin alike, by one of them.
//!
//! An object that nobody is like stays whole, however often it changes: no value is described by an earlier one of the same object before
//! another object is. A value becomes the base where there is none, where it says all that the base does and more, as pods that run do
//! beside pods that wait, and after several that were not much like the base.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    ops::RangeInclusive,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Base, Form, Packed,
    delta::{self, Places, between},
};

/// How long values are of which a part of this can be spared.
const LENGTHS: RangeInclusive<usize> = 512..=delta::LONGEST;
/// A base may be so many times as long as a value that keeps it.
const LONGER: usize = 2;
/// The part of its value that a delta may have …
const MOST: usize = 2;
/// … and that one has whose value is much like its base.
const LITTLE: usize = 4;
/// So many values that are not much like the base, one after the other, and there is a new one.
const PATIENCE: u32 = 16;
/// Bases that are known at one time.
const SLOTS: usize = 4096;
/// What stands before the metadata is within so many bytes.
const HEAD: usize = 512;
/// How values begin of which parts are read and kept in the place where they lie: they stay in one piece.
const READ_IN_PLACE: &[u8] = b"{\"kind\":\"CustomResourceDefinition\"";

/// See the module.
pub(super) struct Bases(Box<[Mutex<Slot>]>);

/// The base of what has the same key. It lives as long as values need it.
#[derive(Default)]
struct Slot {
    key: u64,
    base: Weak<Base>,
    /// The name of its object, hashed.
    name: u64,
    /// Values since the last that was much like it.
    unlike: u32,
}

impl Default for Bases {
    fn default() -> Self {
        Bases((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl Bases {
    /// See [`Packed::new`].
    pub fn pack(&self, value: Bytes, name: &str) -> Packed {
        let Some(head) = head(&value).filter(|_| LENGTHS.contains(&value.len()) && !value.starts_with(READ_IN_PLACE)) else { return value.into() };
        let (key, name) = (hash(&(head, stem(name))), hash(name));
        let place = usize::try_from(key % SLOTS as u64).expect("a small number");
        let slot = &self.0[place];
        let known = {
            let slot = slot.lock();
            if slot.key == key { slot.base.upgrade().map(|base| (base, slot.name == name)) } else { None }
        };
        match known {
            None => begin(slot, key, name, Base::new(value)),
            // The store and the caches have the same value.
            Some((base, _)) if base.bytes == value => Packed(Form::Base(base)),
            Some((base, true)) if !base.is_asked_for() => begin(slot, key, name, Base::new(value)),
            Some((base, _)) => describe(slot, base, key, name, value),
        }
    }
}

/// The value is a base from now on.
fn begin(slot: &Mutex<Slot>, key: u64, name: u64, base: Base) -> Packed {
    let base = Arc::new(base);
    *slot.lock() = Slot { key, base: Arc::downgrade(&base), name, unlike: 0 };
    Packed(Form::Base(base))
}

/// The value as a delta, if it is like the base.
fn describe(slot: &Mutex<Slot>, base: Arc<Base>, key: u64, name: u64, value: Bytes) -> Packed {
    let delta = delta_of(&base, &value);
    let is_much_like = delta.as_ref().is_some_and(|delta| delta.len() <= value.len() / LITTLE);
    if !is_much_like && let Some(places) = places_of_more(&value, &base.bytes) {
        return begin(slot, key, name, Base::with_places(value, places));
    }
    let unlike = {
        let mut slot = slot.lock();
        // Meanwhile it may have become another one's.
        if slot.key == key {
            slot.unlike = if is_much_like { 0 } else { slot.unlike.saturating_add(1) };
            slot.unlike
        } else {
            0
        }
    };
    match delta {
        _ if unlike >= PATIENCE => begin(slot, key, name, Base::new(value)),
        Some(delta) => Packed(Form::Delta { base, delta }),
        None => value.into(),
    }
}

/// The delta that makes this very value of the base; `None` where too little is spared, or what stands before the metadata is not the same.
fn delta_of(base: &Base, value: &Bytes) -> Option<Box<[u8]>> {
    if base.bytes.len() > LONGER * value.len() || !base.bytes.starts_with(head(value)?) {
        return None;
    }
    let delta = between(&base.bytes, base.places(), value, value.len() / MOST)?;
    let mut rest = &**value;
    for piece in delta::pieces(&base.bytes, &delta) {
        rest = rest.strip_prefix(piece)?;
    }
    rest.is_empty().then_some(delta)
}

/// The places of a value that says nearly all that the base does, and more; `None` if it does not.
fn places_of_more(value: &Bytes, base: &Bytes) -> Option<Places> {
    if value.len() <= base.len() {
        return None;
    }
    let places = Places::of(value);
    between(value, &places, base, base.len() / LITTLE).is_some().then_some(places)
}

/// The beginning of an object in the store's form, up to the first byte of its metadata.
fn head(value: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"\"metadata\":{";
    let at = value[..value.len().min(HEAD)].windows(MARK.len()).position(|window| window == MARK)?;
    value.get(..=at + MARK.len())
}

/// What names have in common of objects that were made alike: without the last part behind a dot, the last behind a hyphen, and numbers.
fn stem(name: &str) -> &str {
    let name = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let name = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
    name.trim_end_matches(|at: char| at.is_ascii_digit() || at == '-')
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of the store's form, with as many fields as are said.
    fn value(name: &str, fields: usize, own: &str) -> Bytes {
        let fields: Vec<String> = (0..fields).map(|at| format!("\"field{at}\":{{\".\":{{}}}}")).collect();
        format!("{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{{}}},\"own\":\"{own}\"}}", fields.join(","))
            .into()
    }

    /// A text of so many bytes that has nothing in common with that of another seed.
    fn unlike(seed: u64, length: usize) -> String {
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            char::from(b'a' + (number % 26) as u8)
        };
        (0..length).map(next).collect()
    }

    fn base(packed: &Packed) -> Option<&Arc<Base>> {
        match &packed.0 {
            Form::Whole(_) => None,
            Form::Base(base) | Form::Delta { base, .. } => Some(base),
        }
    }

    fn is_delta(packed: &Packed) -> bool {
        packed.in_one_piece().is_none()
    }

    #[test]
    fn objects_of_one_template_share_the_bytes_of_one() {
        let bases = Bases::default();
        let names: Vec<String> = (0..100).map(|at| format!("web-5d9c7-{}", unlike(at, 5))).collect();
        let packed: Vec<Packed> = names.iter().map(|name| bases.pack(value(name, 100, "x"), name)).collect();
        let first = base(&packed[0]).expect("is a base");
        assert!(packed.iter().skip(1).all(|other| is_delta(other) && base(other).is_some_and(|base| Arc::ptr_eq(base, first))));
        let footprint: usize = packed[1..].iter().map(Packed::footprint).sum();
        assert!(footprint < 99 * 40, "{footprint} bytes for {}", 99 * packed[1].length());
        for (name, packed) in names.iter().zip(&packed) {
            assert_eq!(packed.to_bytes(), value(name, 100, "x"));
        }
    }

    #[test]
    fn every_part_of_a_value_is_written_as_it_was() {
        let bases = Bases::default();
        let _first = bases.pack(value("web-a", 40, "one"), "web-a");
        let (wanted, whole) = (value("web-b", 39, "two"), Packed::from(value("web-b", 39, "two")));
        let packed = bases.pack(wanted.clone(), "web-b");
        assert!(is_delta(&packed) && !is_delta(&whole));
        for packed in [&packed, &whole] {
            assert_eq!((packed.length(), &*packed.bytes(), packed.to_bytes()), (wanted.len(), &*wanted, wanted.clone()));
            let head = head(&wanted).expect("an object");
            assert_eq!(&packed.beginning()[..head.len()], head);
            for skipped in 0..=wanted.len() {
                let mut out = b"before".to_vec();
                packed.write_from(skipped, &mut out);
                assert_eq!(out, [&b"before"[..], &wanted[skipped..]].concat());
            }
        }
    }

    #[test]
    fn an_object_that_none_is_like_stays_whole_however_often_it_changes() {
        let bases = Bases::default();
        let mut held = Vec::new();
        for change in 0..10 {
            let wanted = value("settings", 50, &change.to_string());
            let packed = bases.pack(wanted.clone(), "settings");
            assert_eq!(packed.in_one_piece().map(|bytes| bytes.as_ptr()), Some(wanted.as_ptr()), "no byte was copied");
            held.push(packed);
        }
        assert!(held.iter().all(|packed| base(packed).is_some_and(|base| !base.is_asked_for())));
    }

    #[test]
    fn an_object_that_others_are_described_by_is_like_them_when_it_changes() {
        let bases = Bases::default();
        let held = ["web-a", "web-b"].map(|name| bases.pack(value(name, 50, "1"), name));
        let changed = bases.pack(value("web-a", 50, "2"), "web-a");
        assert!(is_delta(&changed));
        assert!(Arc::ptr_eq(base(&changed).expect("has one"), base(&held[0]).expect("is one")));
    }

    #[test]
    fn the_same_value_twice_is_one_base() {
        let bases = Bases::default();
        let [one, other] = [(), ()].map(|()| bases.pack(value("web-a", 50, "1"), "web-a"));
        assert!(Arc::ptr_eq(base(&one).expect("is one"), base(&other).expect("is one")));
    }

    #[test]
    fn a_base_lives_as_long_as_it_is_needed() {
        let bases = Bases::default();
        let first = bases.pack(value("web-a", 50, "1"), "web-a");
        let second = bases.pack(value("web-b", 50, "1"), "web-b");
        let known = Arc::downgrade(base(&first).expect("is one"));
        drop(first);
        assert!(known.upgrade().is_some());
        assert_eq!(second.to_bytes(), value("web-b", 50, "1"));
        drop(second);
        assert!(known.upgrade().is_none());
        assert!(!is_delta(&bases.pack(value("web-c", 50, "1"), "web-c")));
    }

    #[test]
    fn another_base_is_chosen_when_values_become_unlike_it() {
        let bases = Bases::default();
        let pack = |at: u64, kind: u64| {
            let name = format!("web-{at}x");
            bases.pack(value(&name, 20, &unlike(kind, 2000)), &name)
        };
        let first = pack(0, 1);
        assert!(is_delta(&pack(1, 1)));
        let held: Vec<Packed> = (2..40).map(|at| pack(at, 2)).collect();
        let described = held.iter().filter(|packed| is_delta(packed)).count();
        assert_eq!(described, held.len() - PATIENCE as usize, "the last of the unlike ones is the new base");
        assert!(held.iter().rev().take(5).all(|packed| packed.footprint() < 200));
        drop(first);
    }

    #[test]
    fn a_value_that_says_more_takes_the_place_of_the_base() {
        let bases = Bases::default();
        let pack = |name: &str, own: &str| bases.pack(value(name, 100, own), name);
        let waiting = ["web-a", "web-b"].map(|name| pack(name, "waits"));
        let running = ["web-a", "web-b", "web-c"].map(|name| pack(name, &unlike(1, 1500)));
        assert!(is_delta(&waiting[1]) && !is_delta(&running[0]) && is_delta(&running[1]) && is_delta(&running[2]));
        let new = base(&running[0]).expect("is one");
        assert!(running.iter().chain([&pack("web-d", "waits")]).all(|packed| base(packed).is_some_and(|base| Arc::ptr_eq(base, new))));
        assert!(running[1..].iter().all(|packed| packed.footprint() < 100));
        assert_eq!(waiting[1].to_bytes(), value("web-b", 100, "waits"));
        let bases = Bases::default();
        let _waiting = bases.pack(value("web-a", 100, "waits"), "web-a");
        let alone = bases.pack(value("web-b", 100, &unlike(1, 1500)), "web-b");
        let alone = base(&alone).expect("is one");
        assert!(alone.places.get().is_some() && !alone.is_asked_for(), "they are known, and it describes nobody");
    }

    #[test]
    fn what_is_short_or_long_or_read_in_place_or_no_object_stays_whole() {
        let bases = Bases::default();
        let definition = |name: &str| {
            let text = String::from_utf8(value(name, 50, "1").to_vec()).expect("a text");
            Bytes::from(text.replacen("Pod", "CustomResourceDefinition", 1))
        };
        let sealed = |_: &str| Bytes::from(unlike(1, 1000));
        let short = |name: &str| value(name, 1, "1");
        let long = |name: &str| value(name, 10, &"x".repeat(delta::LONGEST));
        let makers: [&dyn Fn(&str) -> Bytes; 4] = [&definition, &sealed, &short, &long];
        for make in makers {
            let held = ["web-a", "web-b"].map(|name| bases.pack(make(name), name));
            assert!(held.iter().all(|packed| base(packed).is_none()));
        }
    }

    #[test]
    fn a_short_value_does_not_keep_a_long_base() {
        let bases = Bases::default();
        let _long = bases.pack(value("web-a", 400, "1"), "web-a");
        assert!(!is_delta(&bases.pack(value("web-b", 100, "1"), "web-b")));
    }

    #[test]
    fn names_of_one_template_have_one_stem() {
        let stems =
            ["web-5d9c7-x7k2p", "web-5d9c7-x7k2p.18ed5c7cfe01d97b", "db-0", "hollow-1234", "ip-10-0-0-5.ec2.internal", "web", "1-2"].map(stem);
        assert_eq!(stems, ["web-5d9c", "web-5d9c", "db", "hollow", "ip", "web", ""]);
    }
}
