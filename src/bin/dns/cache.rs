//! Replies of upstream resolvers, kept for as long as they say and half a minute at most, as CoreDNS' usual configuration does (`cache 30`).
//!
//! What is asked for again shortly before it ends is asked of upstream anew beforehand; what has ended stays for an hour, for when upstream
//! does not answer (RFC 8767). Pure: the time comes from outside.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};
use lru::LruCache;
use parking_lot::Mutex;

/// No reply counts for longer, whatever it says.
const LONGEST: Duration = Duration::from_secs(30);
/// Ended replies stay for so long.
const STALE: Duration = Duration::from_secs(3600);
/// The time to live of an ended reply, in seconds (RFC 8767, section 4).
const STALE_TTL: u32 = 30;
/// A reply that was used so often is asked for anew in the last tenth of its time.
const WORTH_REFRESHING: u32 = 2;
const REPLIES: NonZeroUsize = NonZeroUsize::new(10_000).expect("is not zero");
/// Bytes of all replies, as they travel; in memory they take a few times as many.
const BYTES: usize = 4 << 20;
/// A record counts for so many at least: one that travels in few takes as much memory as others.
const RECORD: usize = 128;
/// The largest datagram that is taken (as `troupe_net::dns` says of the cluster's own names).
const PAYLOAD: u16 = 1232;
/// A larger reply is not kept.
const LARGEST: usize = 4096;

/// What a reply answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    name: Name,
    kind: RecordType,
    class: DNSClass,
    /// Whether signatures are wanted, and unchecked ones do.
    secure: bool,
    unchecked: bool,
}

impl Key {
    /// `None` for what is no single question.
    pub fn of(query: &Message) -> Option<Self> {
        let [question] = query.queries.as_slice() else { return None };
        Some(Key {
            name: question.name().to_lowercase(),
            kind: question.query_type(),
            class: question.query_class(),
            secure: query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            unchecked: query.metadata.checking_disabled,
        })
    }

    /// Whether a reply's question is this one.
    pub fn asks_the_same(&self, other: &Key) -> bool {
        (&self.name, self.kind, self.class) == (&other.name, other.kind, other.class)
    }
}

#[derive(Debug)]
struct Entry {
    reply: Message,
    size: usize,
    since: Instant,
    lasts: Duration,
    denies: bool,
    uses: u32,
    refreshing: bool,
}

impl Entry {
    /// The reply although it may have ended, unless that is too long ago.
    fn old(&self, query: &Message, now: Instant) -> Option<Message> {
        let ended = now.saturating_duration_since(self.since).saturating_sub(self.lasts);
        (ended < STALE).then(|| addressed(&self.reply, query, |_| STALE_TTL))
    }
}

/// A reply that still counts.
#[derive(Debug)]
pub struct Hit {
    pub reply: Message,
    /// Whoever is told so asks upstream anew: it ends soon.
    pub refresh: bool,
}

/// The replies.
#[derive(Debug)]
pub struct Cache {
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    entries: LruCache<Key, Entry>,
    bytes: usize,
    denials: usize,
    /// How many had to go for others: answers, and denials.
    evictions: [u64; 2],
}

impl Held {
    /// What was kept is no more.
    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.size;
        self.denials -= usize::from(entry.denies);
    }

    /// The same of one that goes for another one.
    fn evict(&mut self, entry: &Entry) {
        self.forget(entry);
        self.evictions[usize::from(entry.denies)] += 1;
    }
}

impl Default for Cache {
    fn default() -> Self {
        Cache { held: Mutex::new(Held { entries: LruCache::new(REPLIES), bytes: 0, denials: 0, evictions: [0; 2] }) }
    }
}

impl Cache {
    /// The reply to a query, if one counts.
    pub fn get(&self, key: &Key, query: &Message, now: Instant) -> Option<Hit> {
        let mut held = self.held.lock();
        let entry = held.entries.get_mut(key)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= entry.lasts {
            return None;
        }
        entry.uses = entry.uses.saturating_add(1);
        let refresh = entry.uses >= WORTH_REFRESHING && !entry.refreshing && age >= entry.lasts * 9 / 10;
        entry.refreshing |= refresh;
        let left = entry.lasts - age;
        Some(Hit { reply: addressed(&entry.reply, query, |ttl| ttl.saturating_sub(seconds(age)).min(seconds(left).max(1))), refresh })
    }

    /// The reply to a query that has ended, for want of a newer one.
    pub fn stale(&self, key: &Key, query: &Message, now: Instant) -> Option<Message> {
        let mut held = self.held.lock();
        let entry = held.entries.get_mut(key)?;
        entry.refreshing = false;
        entry.old(query, now)
    }

    /// The same while nobody is asked who would have to be waited for.
    pub fn old(&self, key: &Key, query: &Message, now: Instant) -> Option<Hit> {
        let mut held = self.held.lock();
        let entry = held.entries.get_mut(key)?;
        let reply = entry.old(query, now)?;
        Some(Hit { reply, refresh: !std::mem::replace(&mut entry.refreshing, true) })
    }

    /// Nobody asks anew for what somebody was told to.
    pub fn release(&self, key: &Key) {
        if let Some(entry) = self.held.lock().entries.get_mut(key) {
            entry.refreshing = false;
        }
    }

    /// Keeps a reply of so many bytes, if it may be kept.
    pub fn put(&self, key: Key, reply: Message, size: usize, now: Instant) {
        let Some(lasts) = lasts(&reply).filter(|_| size <= LARGEST) else { return };
        let size = size.max(RECORD * (reply.answers.len() + reply.authorities.len() + reply.additionals.len()));
        let mut held = self.held.lock();
        let denies = denies(&reply);
        let entry = Entry { reply, size, since: now, lasts, denies, uses: 0, refreshing: false };
        held.bytes += size;
        held.denials += usize::from(denies);
        let is_known = held.entries.contains(&key);
        match held.entries.push(key, entry) {
            Some((_, older)) if is_known => held.forget(&older),
            Some((_, oldest)) => held.evict(&oldest),
            None => {}
        }
        while held.bytes > BYTES {
            let Some((_, oldest)) = held.entries.pop_lru() else { return };
            held.evict(&oldest);
        }
    }

    /// Forgets all: they may be asked of others now.
    pub fn clear(&self) {
        let mut held = self.held.lock();
        held.entries.clear();
        (held.bytes, held.denials) = (0, 0);
    }

    /// How many replies are kept that have answers, and that deny.
    pub fn entries(&self) -> [usize; 2] {
        let held = self.held.lock();
        [held.entries.len() - held.denials, held.denials]
    }

    /// How many had to go for others that have answers, and that deny.
    pub fn evictions(&self) -> [u64; 2] {
        self.held.lock().evictions
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.held.lock().entries.len()
    }
}

/// Whether a reply says that there is no such name, or nothing of the type that was asked for.
pub fn denies(reply: &Message) -> bool {
    reply.metadata.response_code == ResponseCode::NXDomain || reply.answers.is_empty()
}

/// How long a reply counts; `None` for one that is no answer, is cut, or says that it must not be kept.
fn lasts(reply: &Message) -> Option<Duration> {
    let denial = denies(reply);
    let answers = matches!(reply.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !answers || reply.metadata.truncation {
        return None;
    }
    let told = reply.answers.iter().chain(&reply.authorities).map(|record| record.ttl).min()?;
    // An alias that leads to a denial counts no longer than either.
    let told = match denial_ttl(reply) {
        Some(ttl) => told.min(ttl),
        None if denial => return None,
        None => told,
    };
    (told > 0).then(|| Duration::from_secs(told.into()).min(LONGEST))
}

/// RFC 2308, section 5: the smaller of the SOA's own time and the one that it names.
fn denial_ttl(reply: &Message) -> Option<u32> {
    reply.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A kept reply as the answer to this query.
fn addressed(kept: &Message, query: &Message, ttl: impl Fn(u32) -> u32) -> Message {
    let mut reply = kept.clone();
    reply.metadata.id = query.metadata.id;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.queries.clone_from(&query.queries);
    let aged = |records: &mut Vec<Record>| records.iter_mut().for_each(|record| record.ttl = ttl(record.ttl));
    aged(&mut reply.answers);
    aged(&mut reply.authorities);
    aged(&mut reply.additionals);
    // Options were for whoever asked first: cookies, padding, a client's network.
    reply.edns = query.edns.as_ref().map(|asked| {
        let mut own = Edns::new();
        own.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        own
    });
    reply
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::rdata::{A, CNAME, SOA, opt::EdnsOption},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn query(text: &str) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name(text), RecordType::A));
        query
    }

    fn reply(text: &str, ttl: u32) -> Message {
        let mut reply = Message::response(1, OpCode::Query);
        reply.add_queries(query(text).queries);
        reply.add_answer(Record::from_rdata(name(text), ttl, RData::A(A(Ipv4Addr::LOCALHOST))));
        reply
    }

    fn denial(text: &str, minimum: u32) -> Message {
        let mut reply = Message::response(1, OpCode::Query);
        reply.metadata.response_code = ResponseCode::NXDomain;
        reply.add_queries(query(text).queries);
        let soa = SOA::new(name("ns."), name("root."), 1, 2, 3, 4, minimum);
        reply.add_authority(Record::from_rdata(name("org."), 900, RData::SOA(soa)));
        reply
    }

    fn put(cache: &Cache, reply: Message, now: Instant) {
        cache.put(Key::of(&reply).expect("a question"), reply, 60, now);
    }

    #[test]
    fn a_reply_counts_as_long_as_it_says_and_its_records_age() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, reply("a.org.", 20), start);
        put(&cache, reply("b.org.", 3600), start);
        put(&cache, reply("c.org.", 0), start);
        let get = |text: &str, after: u64| cache.get(&Key::of(&query(text)).expect("a key"), &query(text), start + Duration::from_secs(after));
        let hit = get("A.org.", 5).expect("is kept, in any case");
        assert_eq!((hit.reply.metadata.id, hit.reply.answers[0].ttl), (7, 15));
        assert_eq!(hit.reply.queries, query("A.org.").queries, "as it was asked");
        assert!(get("a.org.", 20).is_none());
        assert!(get("b.org.", 29).is_some() && get("b.org.", 30).is_none(), "no longer than half a minute");
        assert!(get("c.org.", 0).is_none());
    }

    #[test]
    fn denials_count_as_their_zone_says_and_errors_not_at_all() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, denial("no.org.", 10), start);
        let mut failed = reply("failed.org.", 20);
        failed.metadata.response_code = ResponseCode::ServFail;
        put(&cache, failed, start);
        let get = |text: &str, after: u64| cache.get(&Key::of(&query(text)).expect("a key"), &query(text), start + Duration::from_secs(after));
        assert_eq!(get("no.org.", 9).expect("is kept").reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(get("no.org.", 10).is_none());
        assert!(get("failed.org.", 0).is_none());
    }

    #[test]
    fn an_alias_that_leads_nowhere_counts_as_long_as_the_shorter_of_both() {
        let lasts_for = |alias: u32, minimum: u32| {
            let mut denied = denial("no.org.", minimum);
            denied.add_answer(Record::from_rdata(name("no.org."), alias, RData::CNAME(CNAME(name("gone.org.")))));
            let mut absent = denied.clone();
            absent.metadata.response_code = ResponseCode::NoError;
            [lasts(&denied), lasts(&absent)].map(|lasts| lasts.expect("is kept").as_secs())
        };
        assert_eq!((lasts_for(3, 20), lasts_for(20, 3)), ([3, 3], [3, 3]));
    }

    #[test]
    fn nobody_gets_the_options_of_whoever_asked_first() {
        let (cache, start) = (Cache::default(), Instant::now());
        let mut first = reply("a.org.", 20);
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(10, b"cookies!".to_vec()));
        first.set_edns(edns);
        put(&cache, first, start);
        let get = |query: &Message| cache.get(&Key::of(query).expect("a key"), query, start).expect("is kept").reply.edns;
        assert_eq!(get(&query("a.org.")), None, "who did not ask for extensions has none");
        let mut extended = query("a.org.");
        extended.set_edns(Edns::new());
        let edns = get(&extended).expect("has some");
        assert_eq!((edns.options().options.len(), edns.max_payload(), edns.flags().dnssec_ok), (0, PAYLOAD, false));
    }

    #[test]
    fn what_is_used_is_refreshed_once_shortly_before_it_ends() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, reply("a.org.", 30), start);
        let refresh = |after: u64| {
            cache.get(&Key::of(&query("a.org.")).expect("a key"), &query("a.org."), start + Duration::from_secs(after)).expect("is kept").refresh
        };
        assert_eq!([1, 2, 26, 27, 28].map(refresh), [false, false, false, true, false]);
    }

    #[test]
    fn what_has_ended_is_kept_for_when_nobody_answers() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, reply("a.org.", 20), start);
        let stale = |after: u64| cache.stale(&Key::of(&query("a.org.")).expect("a key"), &query("a.org."), start + Duration::from_secs(after));
        assert_eq!(stale(100).expect("is kept").answers[0].ttl, STALE_TTL);
        assert!(stale(20 + 3600).is_none());
    }

    #[test]
    fn one_asks_anew_while_others_are_given_what_has_ended() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, reply("a.org.", 20), start);
        let (asked, key) = (query("a.org."), Key::of(&query("a.org.")).expect("a key"));
        let old = |after: u64| cache.old(&key, &asked, start + Duration::from_secs(after)).map(|hit| (hit.reply.answers[0].ttl, hit.refresh));
        assert_eq!([old(100), old(101)], [Some((STALE_TTL, true)), Some((STALE_TTL, false))]);
        cache.release(&key);
        assert_eq!(old(102), Some((STALE_TTL, true)), "nobody did");
        cache.stale(&key, &asked, start + Duration::from_secs(103));
        assert_eq!(old(104), Some((STALE_TTL, true)), "nobody answered");
        assert_eq!(old(20 + 3600), None);
    }

    #[test]
    fn answers_and_denials_are_counted_as_they_come_and_go() {
        let (cache, start) = (Cache::default(), Instant::now());
        put(&cache, denial("a.org.", 10), start);
        put(&cache, denial("b.org.", 10), start);
        put(&cache, reply("c.org.", 10), start);
        assert_eq!(cache.entries(), [1, 2]);
        put(&cache, reply("a.org.", 10), start);
        assert_eq!((cache.entries(), cache.evictions()), ([2, 1], [0, 0]), "it was replaced");
        for at in 0..=BYTES / 4000 {
            let more = reply(&format!("n{at}.org."), 20);
            cache.put(Key::of(&more).expect("a question"), more, 4000, start);
        }
        assert_eq!((cache.entries(), cache.evictions()), ([BYTES / 4000, 0], [3, 1]), "the others made room, and the first of these");
        cache.clear();
        assert_eq!(cache.entries(), [0, 0]);
    }

    #[test]
    fn memory_is_bounded() {
        let (cache, start) = (Cache::default(), Instant::now());
        for at in 0..3000 {
            let reply = reply(&format!("n{at}.org."), 20);
            cache.put(Key::of(&reply).expect("a question"), reply, 4000, start);
        }
        assert_eq!(cache.len(), BYTES / 4000);
        for at in 0..3000 {
            let mut reply = reply(&format!("n{at}.org."), 20);
            let more = vec![reply.answers[0].clone(); 99];
            reply.add_answers(more);
            cache.put(Key::of(&reply).expect("a question"), reply, 60, start);
        }
        assert_eq!(cache.len(), BYTES / (100 * RECORD), "short records are no way around it");
        let large = reply("large.org.", 20);
        cache.put(Key::of(&large).expect("a question"), large, LARGEST + 1, start);
        assert!(cache.get(&Key::of(&query("large.org.")).expect("a key"), &query("large.org."), start).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
