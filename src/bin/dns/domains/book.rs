//! Which names policies have, what slices say of their addresses, and what they do not say yet. Pure.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    net::IpAddr,
    ops::Bound,
};

use serde_json::Value;
use troupe_net::{
    dns::domain_names::{DomainName, DomainNames, MOST_ADDRESSES, MOST_NAMES},
    iptables::Family,
};

use super::slice::{AddressSlice, NamingPolicy, Until, body};

/// An address counts for so many seconds at least and at most, whatever its record says. Programs use addresses for longer than they may.
const SHORTEST: u32 = 60;
const LONGEST: u32 = 3600;
/// And so many seconds longer than that.
const GRACE: u64 = 300;
/// Slices that are kept in mind: two of each name, and as many of names that have just gone.
const MOST_SLICES: usize = 4 * MOST_NAMES;

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    policies: BTreeMap<String, Vec<DomainName>>,
    names: DomainNames,
    slices: HashMap<String, Slice>,
    /// What is to be written, by slice.
    pending: BTreeMap<String, Pending>,
    /// The slice of the last draft: the next one is behind it, so that one that nobody can write stands in no other's way.
    last: String,
}

#[derive(Debug)]
struct Slice {
    revision: String,
    until: Until,
}

/// Addresses of a family of a name that are to be told.
#[derive(Clone, Debug)]
struct Pending {
    name: DomainName,
    family: Family,
    until: Until,
}

/// What came of a reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// There is something to write.
    pub is_news: bool,
    /// Addresses that no slice has, each with its slice.
    pub unknown: Vec<(String, IpAddr)>,
}

/// A slice to be written.
#[derive(Debug)]
pub struct Draft {
    /// Its name.
    pub slice: String,
    /// It replaces one that is there.
    pub replaces: bool,
    pub body: Value,
    pending: Pending,
}

impl Book {
    /// Whether policies name any domain.
    pub fn is_naming(&self) -> bool {
        !self.names.is_empty()
    }

    /// The names of policies that cover what is asked for.
    pub fn names_of(&self, asked: &str) -> Vec<DomainName> {
        self.names.of(asked)
    }

    /// Notes the addresses that a reply gave to what these names cover, with the seconds that they may be kept.
    pub fn learn(&mut self, names: &[DomainName], addresses: &[(IpAddr, u32)], now: u64) -> Lesson {
        let mut lesson = Lesson::default();
        for name in names {
            for (ip, ttl) in addresses {
                let (family, lasts) = (Family::of(*ip), u64::from((*ttl).clamp(SHORTEST, LONGEST)) + GRACE);
                let slice = name.slice(family);
                let known = self.slices.get(&slice).and_then(|slice| slice.until.get(ip)).copied().unwrap_or_default();
                if known >= now + lasts / 2 {
                    continue;
                }
                lesson.is_news = true;
                let pending = self.pending.entry(slice.clone()).or_insert_with(|| Pending { name: name.clone(), family, until: Until::new() });
                put(&mut pending.until, *ip, now + lasts);
                if known <= now {
                    lesson.unknown.push((slice, *ip));
                }
            }
        }
        lesson
    }

    /// Whether slices have these addresses.
    pub fn has(&self, addresses: &[(String, IpAddr)]) -> bool {
        addresses.iter().all(|(slice, ip)| self.slices.get(slice).is_some_and(|slice| slice.until.contains_key(ip)))
    }

    /// Something to write, which is not to be written any more from then on.
    pub fn draft(&mut self, now: u64) -> Option<Draft> {
        let behind = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let slice = self.pending.range::<str, _>(behind).chain(&self.pending).next().map(|(slice, _)| slice.clone())?;
        let pending = self.pending.remove(&slice)?;
        self.last.clone_from(&slice);
        let known = self.slices.get(&slice);
        let mut until = pending.until.clone();
        for (ip, known) in known.iter().flat_map(|slice| &slice.until).filter(|(_, known)| **known > now) {
            put(&mut until, *ip, *known);
        }
        let body = body(&pending.name, pending.family, &until, known.map(|slice| slice.revision.as_str()));
        Some(Draft { replaces: known.is_some(), slice, body, pending })
    }

    /// It could not be written.
    pub fn put_back(&mut self, draft: Draft) {
        match self.pending.entry(draft.slice) {
            Entry::Vacant(place) => {
                place.insert(draft.pending);
            }
            Entry::Occupied(mut newer) => draft.pending.until.into_iter().for_each(|(ip, until)| put(&mut newer.get_mut().until, ip, until)),
        }
    }

    pub fn set_slice(&mut self, slice: AddressSlice) {
        if self.slices.len() < MOST_SLICES || self.slices.contains_key(&slice.metadata.name) {
            let until = slice.until();
            self.slices.insert(slice.metadata.name, Slice { revision: slice.metadata.resource_version, until });
        }
    }

    pub fn remove_slice(&mut self, name: &str) {
        self.slices.remove(name);
    }

    pub fn replace_slices(&mut self, all: Vec<AddressSlice>) {
        self.slices.clear();
        all.into_iter().for_each(|slice| self.set_slice(slice));
    }

    pub fn set_policy(&mut self, policy: NamingPolicy) {
        self.policies.insert(policy.metadata.name.clone(), policy.names());
        self.policies_changed();
    }

    pub fn remove_policy(&mut self, name: &str) {
        self.policies.remove(name);
        self.policies_changed();
    }

    pub fn replace_policies(&mut self, all: Vec<NamingPolicy>) {
        self.policies = all.into_iter().map(|policy| (policy.metadata.name.clone(), policy.names())).collect();
        self.policies_changed();
    }

    fn policies_changed(&mut self) {
        self.names = DomainNames::new(self.policies.values().flatten().cloned());
        // What was learned for names that are gone is nobody's business.
        let names = &self.names;
        self.pending.retain(|_, pending| names.has(&pending.name));
    }
}

/// The later of two times for an address. Of too many addresses those that count the longest stay.
fn put(all: &mut Until, ip: IpAddr, until: u64) {
    let known = all.entry(ip).or_default();
    *known = (*known).max(until);
    if all.len() > MOST_ADDRESSES {
        let first = all.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip);
        if let Some(ip) = first {
            all.remove(&ip);
        }
    }
}
