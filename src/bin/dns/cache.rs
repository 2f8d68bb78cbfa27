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
    uses: u32,
    refreshing: bool,
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
}

impl Default for Cache {
    fn default() -> Self {
        Cache { held: Mutex::new(Held { entries: LruCache::new(REPLIES), bytes: 0 }) }
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
        let ended = now.saturating_duration_since(entry.since).saturating_sub(entry.lasts);
        (ended < STALE).then(|| addressed(&entry.reply, query, |_| STALE_TTL))
    }

    /// Keeps a reply of so many bytes, if it may be kept.
    pub fn put(&self, key: Key, reply: Message, size: usize, now: Instant) {
        let Some(lasts) = lasts(&reply).filter(|_| size <= LARGEST) else { return };
        let mut held = self.held.lock();
        let entry = Entry { reply, size, since: now, lasts, uses: 0, refreshing: false };
        held.bytes += size;
        if let Some((_, replaced)) = held.entries.push(key, entry) {
            held.bytes -= replaced.size;
        }
        while held.bytes > BYTES {
            let Some((_, oldest)) = held.entries.pop_lru() else { return };
            held.bytes -= oldest.size;
        }
    }

    /// Forgets all: they may be asked of others now.
    pub fn clear(&self) {
        let mut held = self.held.lock();
        held.entries.clear();
        held.bytes = 0;
    }

    /// How many replies are kept that have answers, and that deny.
    pub fn entries(&self) -> [usize; 2] {
        let held = self.held.lock();
        let denials = held.entries.iter().filter(|(_, entry)| denies(&entry.reply)).count();
        [held.entries.len() - denials, denials]
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
    let records = reply.answers.iter().chain(&reply.authorities);
    let told = if denial { denial_ttl(reply)? } else { records.map(|record| record.ttl).min()? };
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
    reply.edns = match (&query.edns, reply.edns.take()) {
        (None, _) => None,
        (Some(_), Some(edns)) => Some(edns),
        (Some(_), None) => Some(Edns::new()),
    };
    reply
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::rdata::{A, SOA},
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
    fn memory_is_bounded() {
        let (cache, start) = (Cache::default(), Instant::now());
        for at in 0..3000 {
            let reply = reply(&format!("n{at}.org."), 20);
            cache.put(Key::of(&reply).expect("a question"), reply, 4000, start);
        }
        assert_eq!(cache.len(), BYTES / 4000);
        let large = reply("large.org.", 20);
        cache.put(Key::of(&large).expect("a question"), large, LARGEST + 1, start);
        assert!(cache.get(&Key::of(&query("large.org.")).expect("a key"), &query("large.org."), start).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
