//! Which names policies have, what slices say of their addresses, and what they do not say yet. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr},
    ops::Bound,
};

use serde_json::Value;
use troupe_net::{
    dns::{
        cluster_addresses::{ClusterAddresses, Source, SourceKind},
        domain_names::{DomainName, DomainNames, MOST_NAMES},
    },
    iptables::Family,
};

use super::{
    entries::{Asked, Entries, Until},
    slice::{AddressSlice, NamingPolicy, body},
};

/// An address counts for so many seconds at least and at most, whatever its record says. Programs use addresses for longer than they may.
const SHORTEST: u32 = 60;
const LONGEST: u32 = 3600;
/// And so many seconds longer than that.
const GRACE: u64 = 300;
/// Slices that are kept in mind: two of each name, and as many of names that have just gone.
const MOST_SLICES: usize = 4 * MOST_NAMES;
/// Addresses of the cluster that names led to and that were told of.
const MOST_TOLD: usize = 256;
/// Stands for all clients that are no node's and no node's pods.
const STRANGERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// What must be known of the cluster before anything is written; the rest is known before the server is ready.
const NEEDED: [SourceKind; 2] = [SourceKind::Node, SourceKind::ServiceRange];

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    policies: BTreeMap<String, Vec<DomainName>>,
    names: DomainNames,
    slices: HashMap<String, Slice>,
    /// Where no name leads.
    cluster: ClusterAddresses,
    /// The kinds of objects that tell of it and were listed.
    listed: BTreeSet<SourceKind>,
    /// What names led to although they must not, and somebody was told.
    told: BTreeSet<IpAddr>,
    /// What is to be written, by slice.
    pending: BTreeMap<String, Pending>,
    /// The slice of the last draft: the next one is behind it, so that one that nobody can write stands in no other's way.
    last: String,
}

#[derive(Debug)]
struct Slice {
    revision: String,
    /// `None` where it is not what it says.
    about: Option<(DomainName, Family)>,
    entries: Entries,
    until: Until,
}

/// Addresses of a family of a name that are to be told.
#[derive(Clone, Debug)]
struct Pending {
    name: DomainName,
    family: Family,
    entries: Entries,
}

impl Pending {
    fn new(name: DomainName, family: Family) -> Self {
        Pending { name, family, entries: Entries::default() }
    }
}

/// What came of a reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// There is something to write.
    pub is_news: bool,
    /// Addresses that no slice has, each with its slice.
    pub unknown: Vec<(String, IpAddr)>,
    /// Addresses of the cluster, with why no name leads there, of which nobody was told yet.
    pub refused: Vec<(IpAddr, String)>,
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

    /// Whose share of addresses a client's questions count in: its own, but one share is for all clients that are no node's and no node's pods, so
    /// that nobody has many shares by writing others' addresses into questions. Where nodes tell of no ranges of pods each client has its own.
    pub fn asker(&self, client: IpAddr) -> IpAddr {
        let client = client.to_canonical();
        if self.cluster.has_pod_ranges() && !self.cluster.is_of_nodes(client) { STRANGERS } else { client }
    }

    /// Notes the addresses that a reply gave to what was asked for and these names cover, with the seconds that they may be kept.
    pub fn learn(&mut self, names: &[DomainName], asked: &Asked, addresses: &[(IpAddr, u32)], now: u64) -> Lesson {
        let mut lesson = Lesson::default();
        for (ip, ttl) in addresses {
            if let Some(why) = self.cluster.refuses(*ip) {
                if self.told.len() < MOST_TOLD && self.told.insert(*ip) {
                    lesson.refused.push((*ip, why));
                }
                continue;
            }
            let (family, lasts) = (Family::of(*ip), u64::from((*ttl).clamp(SHORTEST, LONGEST)) + GRACE);
            for name in names {
                let slice = name.slice(family);
                let known = self.slices.get(&slice);
                if known.is_some_and(|slice| slice.entries.has(asked, *ip, now + lasts / 2)) {
                    continue;
                }
                let counts = known.and_then(|slice| slice.until.get(ip)).is_some_and(|until| *until > now);
                lesson.is_news = true;
                let pending = self.pending.entry(slice.clone()).or_insert_with(|| Pending::new(name.clone(), family));
                pending.entries.put(asked, *ip, now, now + lasts);
                if !counts {
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

    /// Something to write, which is not to be written any more from then on; nothing before it is known which addresses the cluster has.
    pub fn draft(&mut self, now: u64) -> Option<Draft> {
        if !NEEDED.iter().all(|kind| self.listed.contains(kind)) {
            return None;
        }
        loop {
            let behind = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
            let slice = self.pending.range::<str, _>(behind).chain(&self.pending).next().map(|(slice, _)| slice.clone())?;
            let pending = self.pending.remove(&slice)?;
            self.last.clone_from(&slice);
            let known = self.slices.get(&slice);
            let is_let = |ip| self.cluster.refuses(ip).is_none();
            let mut entries = known.map(|slice| slice.entries.clone()).unwrap_or_default();
            entries.retain(now, is_let);
            let mut news = pending.entries.clone();
            news.retain(now, is_let);
            entries.extend(&news);
            let is_told = known.map_or(entries.is_empty(), |known| known.entries == entries);
            if is_told {
                continue;
            }
            let body = body(&pending.name, pending.family, &entries, known.map(|slice| slice.revision.as_str()));
            return Some(Draft { replaces: known.is_some(), slice, body, pending });
        }
    }

    /// It could not be written.
    pub fn put_back(&mut self, draft: Draft) {
        match self.pending.entry(draft.slice) {
            Entry::Vacant(place) => {
                place.insert(draft.pending);
            }
            Entry::Occupied(mut newer) => newer.get_mut().entries.extend(&draft.pending.entries),
        }
    }

    /// Says whether it has addresses of the cluster, so that it is to be written without them.
    pub fn set_slice(&mut self, slice: AddressSlice) -> bool {
        if self.slices.len() >= MOST_SLICES && !self.slices.contains_key(&slice.metadata.name) {
            return false;
        }
        let (about, entries, until) = (slice.about(), slice.entries(), slice.until());
        let name = slice.metadata.name;
        self.slices.insert(name.clone(), Slice { revision: slice.metadata.resource_version, about, entries, until });
        self.mend(&name)
    }

    /// Has a slice with addresses of the cluster written anew; says whether it is one.
    fn mend(&mut self, slice: &str) -> bool {
        let Some(known) = self.slices.get(slice) else { return false };
        let Some((name, family)) = known.about.clone().filter(|(name, _)| self.names.has(name)) else { return false };
        if !known.until.keys().any(|ip| self.cluster.refuses(*ip).is_some()) {
            return false;
        }
        self.pending.entry(slice.to_owned()).or_insert_with(|| Pending::new(name, family));
        true
    }

    /// What a source tells of the cluster's addresses; says whether something is to be written.
    pub fn set_cluster<T: AsRef<str>>(&mut self, source: Source, told: impl IntoIterator<Item = T>) -> bool {
        self.cluster.set(source, told) && self.mend_all()
    }

    /// The same of all sources of a kind. It may be what the first draft waited for.
    pub fn replace_cluster<T: AsRef<str>>(&mut self, kind: SourceKind, all: impl IntoIterator<Item = (String, Vec<T>)>) -> bool {
        let is_first = self.listed.insert(kind);
        let is_mended = self.cluster.replace(kind, all) && self.mend_all();
        is_mended || is_first && !self.pending.is_empty()
    }

    fn mend_all(&mut self) -> bool {
        let all: Vec<String> = self.slices.keys().cloned().collect();
        let mut any = false;
        for slice in &all {
            any |= self.mend(slice);
        }
        any
    }

    pub fn remove_slice(&mut self, name: &str) {
        self.slices.remove(name);
    }

    /// Says whether any has addresses of the cluster.
    pub fn replace_slices(&mut self, all: Vec<AddressSlice>) -> bool {
        self.slices.clear();
        let mut any = false;
        for slice in all {
            any |= self.set_slice(slice);
        }
        any
    }

    /// Slices, and what [`NEEDED`] names, are as good as never listed.
    pub fn follow_no_more(&mut self) {
        self.slices.clear();
        self.listed.retain(|kind| !NEEDED.contains(kind));
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
