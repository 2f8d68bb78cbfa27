//! Which addresses of a name of policies stay where there is not room for all. Pure: all servers read the same of a slice, and keep the same.
//!
//! Whoever owns one name below `*.example.com` must not take the room of the others, and neither must a pod that asks for ever new names. So the
//! room is shared: of the pod that brought most, and of the name that most of that is of, the oldest address goes. What was asked last comes in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use troupe_net::{dns::domain_names::MOST_ADDRESSES, hash};

/// Seconds since 1970 until which addresses count.
pub type Until = BTreeMap<IpAddr, u64>;

/// A pod that has brought more of a slice than this leaves an address to another one that asks for it, too, and has brought less than half as much.
const MUCH: usize = MOST_ADDRESSES / 2;

/// What was asked for, and by whom: short names of both, that slices have for other servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub name: Arc<str>,
    pub by: Arc<str>,
}

impl Asked {
    /// `name` is in small letters, without a dot at its end.
    pub fn new(name: &str, by: IpAddr) -> Self {
        Asked { name: hash::short(&["asked ", name]).into(), by: hash::short(&["asker ", &by.to_canonical().to_string()]).into() }
    }
}

/// An address of a full name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: Arc<str>,
    ip: IpAddr,
}

/// Seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    by: Arc<str>,
    asked: u64,
    until: u64,
}

/// As slices have it: name, who asked, address, and the seconds since 1970 when it was asked for and until which it counts.
pub type Told = (String, String, IpAddr, u64, u64);

/// The addresses of a slice, by the full names that lead to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<Key, Entry>);

impl Entries {
    /// What a slice tells. An address of which it only says until when it counts is of no name and nobody.
    pub fn read(told: Vec<Told>, until: &Until) -> Self {
        let mut entries = Entries::default();
        let mut rest: BTreeSet<IpAddr> = until.keys().copied().collect();
        for (name, by, ip, asked, ends) in told.into_iter().filter(|told| until.contains_key(&told.2)) {
            rest.remove(&ip);
            entries.0.insert(Key { name: name.into(), ip }, Entry { by: by.into(), asked, until: ends });
        }
        for ip in rest {
            let entry = Entry { by: Arc::default(), asked: 0, until: until.get(&ip).copied().unwrap_or_default() };
            entries.0.insert(Key { name: Arc::default(), ip }, entry);
        }
        entries
    }

    /// As a slice tells it.
    pub fn told(&self) -> Vec<Told> {
        self.0.iter().map(|(key, entry)| (key.name.to_string(), entry.by.to_string(), key.ip, entry.asked, entry.until)).collect()
    }

    /// Until when each address counts.
    pub fn until(&self) -> Until {
        let mut until = Until::new();
        for (key, entry) in &self.0 {
            let known = until.entry(key.ip).or_default();
            *known = (*known).max(entry.until);
        }
        until
    }

    /// Keeps what counts after `now`, and what `is_let` says yes to.
    pub fn retain(&mut self, now: u64, is_let: impl Fn(IpAddr) -> bool) {
        self.0.retain(|key, entry| entry.until > now && is_let(key.ip));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address of a name counts until then, and nothing about it is to be told anew.
    pub fn has(&self, asked: &Asked, ip: IpAddr, until: u64) -> bool {
        let known = self.0.get(&Key { name: asked.name.clone(), ip });
        known.is_some_and(|entry| entry.until >= until && !self.leaves(&entry.by, &asked.by))
    }

    /// Takes an address in that a name led to `now`.
    pub fn put(&mut self, asked: &Asked, ip: IpAddr, now: u64, until: u64) {
        self.merge(Key { name: asked.name.clone(), ip }, Entry { by: asked.by.clone(), asked: now, until });
        self.shrink();
    }

    /// Takes all of `others` in.
    pub fn extend(&mut self, others: &Entries) {
        for (key, entry) in &others.0 {
            self.merge(key.clone(), entry.clone());
        }
        self.shrink();
    }

    fn merge(&mut self, key: Key, new: Entry) {
        let is_left = self.0.get(&key).is_some_and(|known| self.leaves(&known.by, &new.by));
        let entry = self.0.entry(key).or_insert_with(|| new.clone());
        (entry.asked, entry.until) = (entry.asked.max(new.asked), entry.until.max(new.until));
        if is_left {
            entry.by = new.by;
        }
    }

    /// Whether who brought an address leaves it to another one.
    fn leaves(&self, owner: &str, other: &str) -> bool {
        owner != other && self.count(owner) > MUCH && self.count(other) + 1 < self.count(owner) / 2
    }

    fn count(&self, by: &str) -> usize {
        self.0.values().filter(|entry| *entry.by == *by).count()
    }

    /// Lets go of what there is no room for.
    fn shrink(&mut self) {
        let excess = self.0.len().saturating_sub(MOST_ADDRESSES);
        if excess == 0 {
            return;
        }
        for key in self.first_to_go(excess) {
            self.0.remove(&key);
        }
    }

    fn first_to_go(&self, count: usize) -> Vec<Key> {
        let mut askers = BTreeMap::<&str, Names<'_>>::new();
        for (key, entry) in &self.0 {
            askers.entry(&entry.by).or_default().entry(&key.name).or_default().insert((entry.asked, key.ip));
        }
        (0..count).filter_map(|_| oldest_of_greediest(&mut askers)).collect()
    }
}

/// What a pod has brought: addresses by full name, the oldest first.
type Names<'a> = BTreeMap<&'a str, BTreeSet<(u64, IpAddr)>>;

/// Takes out what goes next. Among pods and names that have as much it is those with the oldest address.
fn oldest_of_greediest(askers: &mut BTreeMap<&str, Names<'_>>) -> Option<Key> {
    let names = askers.values_mut().max_by_key(|names| {
        let count: usize = names.values().map(BTreeSet::len).sum();
        (count, Reverse(names.values().filter_map(BTreeSet::first).min().copied()))
    })?;
    let (name, addresses) = names.iter_mut().max_by_key(|(_, addresses)| (addresses.len(), Reverse(addresses.first().copied())))?;
    let (_, ip) = addresses.pop_first()?;
    Some(Key { name: Arc::from(*name), ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = 3900;

    fn pod(last: u8) -> IpAddr {
        IpAddr::from([10, 244, 0, last])
    }

    fn ip(at: u16) -> IpAddr {
        let [high, low] = at.to_be_bytes();
        IpAddr::from([203, 1, high, low])
    }

    fn good() -> IpAddr {
        IpAddr::from([203, 0, 113, 9])
    }

    /// `good.example.com`, asked for by a pod.
    fn with_good() -> Entries {
        let mut entries = Entries::default();
        entries.put(&Asked::new("good.example.com", pod(5)), good(), 1000, 1360);
        entries
    }

    fn has_good(entries: &Entries) -> bool {
        entries.until().contains_key(&good())
    }

    #[test]
    fn one_name_takes_no_other_ones_room() {
        for asker in [pod(5), pod(9)] {
            let mut entries = with_good();
            for at in 0..14 * 20 {
                entries.put(&Asked::new(&format!("evil-x{}.example.com", at / 20), asker), ip(at), 1001, 1001 + LONG);
            }
            assert!(has_good(&entries), "14 questions with 20 addresses each are no reason for it to go");
            assert_eq!(entries.until().len(), MOST_ADDRESSES);
        }
    }

    #[test]
    fn a_pod_that_asks_for_ever_new_names_takes_only_its_own_room() {
        let mut entries = with_good();
        for at in 0..2000 {
            entries.put(&Asked::new(&format!("evil-{at}.example.com"), pod(9)), ip(at), 1001 + u64::from(at), 1001 + u64::from(at) + LONG);
        }
        assert!(has_good(&entries) && entries.until().contains_key(&ip(1999)) && !entries.until().contains_key(&ip(0)));

        // Both are the same pod's: then the oldest goes, and what it asks for again is in again.
        let mut entries = with_good();
        for at in 0..2000 {
            entries.put(&Asked::new(&format!("evil-{at}.example.com"), pod(5)), ip(at), 1001 + u64::from(at), 1001 + u64::from(at) + LONG);
        }
        assert!(!has_good(&entries));
        entries.put(&Asked::new("good.example.com", pod(5)), good(), 4000, 4360);
        assert!(has_good(&entries));
    }

    #[test]
    fn what_a_greedy_pod_asked_for_first_is_left_to_another_one() {
        let mut entries = Entries::default();
        let (first, second) = (Asked::new("good.example.com", pod(9)), Asked::new("good.example.com", pod(5)));
        entries.put(&first, good(), 1000, 1360);
        assert!(entries.has(&second, good(), 1180), "one is as good as the other");
        for at in 0..200 {
            entries.put(&Asked::new(&format!("evil-{at}.example.com"), pod(9)), ip(at), 1001, 1001 + LONG);
        }
        assert!(entries.has(&first, good(), 1180) && !entries.has(&second, good(), 1180));
        entries.put(&second, good(), 1002, 1362);
        for at in 200..2000 {
            entries.put(&Asked::new(&format!("evil-{at}.example.com"), pod(9)), ip(at), 1003, 1003 + LONG);
        }
        assert!(has_good(&entries));
    }

    #[test]
    fn servers_keep_the_same_whoever_writes_first() {
        let learned = |names: std::ops::Range<u16>, by: u8| {
            let mut entries = Entries::default();
            for at in names {
                entries.put(&Asked::new(&format!("n{}.example.com", at % 7), pod(by)), ip(at), 1000 + u64::from(at % 11), 5000);
            }
            entries
        };
        let (one, other) = (learned(0..200, 5), learned(200..400, 9));
        let kept = |first: &Entries, then: &Entries| {
            let mut entries = first.clone();
            entries.extend(then);
            // As the next server reads it.
            Entries::read(entries.told(), &entries.until())
        };
        assert_eq!(kept(&one, &other).until().len(), MOST_ADDRESSES);
        assert_eq!(kept(&one, &other), kept(&other, &one));
    }

    #[test]
    fn slices_without_the_names_that_were_asked_for_are_read() {
        let until = Until::from([(ip(1), 2000), (ip(2), 3000)]);
        let entries = Entries::read(vec![("N".into(), "P".into(), ip(2), 1000, 3000), ("N".into(), "P".into(), ip(3), 1000, 3000)], &until);
        assert_eq!(entries.until(), until);
        assert_eq!(entries.told().len(), 2, "an address that was taken out of the slice is gone");
    }
}
