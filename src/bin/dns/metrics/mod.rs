//! What is counted, under CoreDNS' names (<https://coredns.io/plugins/metrics/>, and the pages of its plugins `cache` and `forward`), for `/metrics`.
//!
//! A query costs a dozen additions to atomics and no lock; what leaves for upstream takes a short one more. Label values come from fixed lists, and
//! resolvers' addresses from the configuration: clients cannot make series.

mod histogram;
mod page;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, ResponseCode};
use parking_lot::Mutex;

use self::histogram::Histogram;
pub use self::page::page;

/// This process's.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// CoreDNS' buckets of durations: 0.25 ms, doubled sixteen times; in nanoseconds.
const DURATIONS: [u64; 16] = doubled(250_000);
/// Its buckets of how long names took to be programmed: 1 ms, doubled twenty times; in nanoseconds.
const PROGRAMMING: [u64; 20] = doubled(1_000_000);
/// Its buckets of sizes, in bytes.
const SIZES: [u64; 14] = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
/// The types of records that are told by name; all others are `other`.
const TYPES: [(u16, &str); 18] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (43, "DS"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (65, "HTTPS"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
];
/// The codes of replies by number (RFC 1035, RFC 2136, RFC 6891); a higher one is told as the last.
const CODES: [&str; 18] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE", "11", "12", "13",
    "14", "15", "BADVERS", "other",
];

const fn doubled<const N: usize>(first: u64) -> [u64; N] {
    let mut all = [first; N];
    let mut at = 1;
    while at < all.len() {
        all[at] = all[at - 1] * 2;
        at += 1;
    }
    all
}

/// Who found a reply, by the names of CoreDNS' plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    Kubernetes,
    Cache,
    Forward,
    /// Nobody: it was refused.
    None,
}

const PLUGINS: [&str; 4] = ["kubernetes", "cache", "forward", ""];

/// A reply on its way, and what is told of it.
#[derive(Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    code: u16,
    by: Plugin,
    /// The type that was asked for; 0 where no question could be read.
    kind: u16,
    /// Signatures are wanted.
    secure: bool,
}

impl Reply {
    /// The reply to a query.
    pub fn new(query: &Message, bytes: Vec<u8>, code: ResponseCode, by: Plugin) -> Self {
        let kind = query.queries.first().map_or(0, |question| question.query_type().into());
        let secure = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        Reply { bytes, code: code.into(), by, kind, secure }
    }

    /// The reply to what could not be read.
    pub fn malformed(bytes: Vec<u8>) -> Self {
        Reply { bytes, code: ResponseCode::FormErr.into(), by: Plugin::None, kind: 0, secure: false }
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    pub begun: Instant,
    pub tcp: bool,
    pub client: IpAddr,
    /// In bytes.
    pub size: usize,
}

/// How many replies of upstream were kept, and so on.
#[derive(Debug, Default)]
pub struct CacheCounts {
    /// Whether a name was denied.
    hits: [AtomicU64; 2],
    misses: AtomicU64,
    prefetches: AtomicU64,
    stale: AtomicU64,
    drops: AtomicU64,
}

/// What became of questions to one resolver.
#[derive(Debug, Default)]
pub struct To {
    requests: AtomicU64,
    health_failures: AtomicU64,
    /// How long replies took, by their code.
    replies: Mutex<BTreeMap<u8, Histogram>>,
}

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// By protocol, family and type.
    requests: [[[AtomicU64; TYPES.len() + 1]; 2]; 2],
    secure: AtomicU64,
    durations: Histogram,
    request_sizes: [Histogram; 2],
    response_sizes: [Histogram; 2],
    /// By code and plugin.
    responses: [[AtomicU64; PLUGINS.len()]; CODES.len()],
    pub cache: CacheCounts,
    to: Mutex<BTreeMap<SocketAddr, Arc<To>>>,
    rejects: AtomicU64,
    broken: AtomicU64,
    /// How long it took from what changed endpoints of a headless Service until names say so.
    programming: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let sizes = || [(); 2].map(|()| Histogram::new(&SIZES, 1.0));
        Metrics {
            requests: Default::default(),
            secure: AtomicU64::default(),
            durations: durations(),
            request_sizes: sizes(),
            response_sizes: sizes(),
            responses: Default::default(),
            cache: CacheCounts::default(),
            to: Mutex::default(),
            rejects: AtomicU64::default(),
            broken: AtomicU64::default(),
            programming: Histogram::new(&PROGRAMMING, 1e9),
        }
    }
}

fn durations() -> Histogram {
    Histogram::new(&DURATIONS, 1e9)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Metrics {
    /// A query is answered.
    pub fn answered(&self, came: &Came, reply: &Reply) {
        let (proto, family) = (usize::from(came.tcp), usize::from(came.client.to_canonical().is_ipv6()));
        let kind = TYPES.iter().position(|(kind, _)| *kind == reply.kind).unwrap_or(TYPES.len());
        self.requests[proto][family][kind].fetch_add(1, Relaxed);
        if reply.secure {
            self.secure.fetch_add(1, Relaxed);
        }
        self.durations.observe(nanoseconds(came.begun.elapsed()));
        self.request_sizes[proto].observe(length(came.size));
        self.response_sizes[proto].observe(length(reply.bytes.len()));
        let code = usize::from(reply.code).min(CODES.len() - 1);
        self.responses[code][reply.by as usize].fetch_add(1, Relaxed);
    }

    /// The counters of a resolver.
    pub fn to(&self, address: SocketAddr) -> Arc<To> {
        self.to.lock().entry(address).or_default().clone()
    }

    /// Names of a headless Service follow a change that began so long ago.
    pub fn programmed(&self, took: Duration) {
        self.programming.observe(nanoseconds(took));
    }

    /// A query is not forwarded: too many are under way.
    pub fn rejected(&self) {
        self.rejects.fetch_add(1, Relaxed);
    }

    /// No resolver is up: they are asked all the same.
    pub fn all_are_down(&self) {
        self.broken.fetch_add(1, Relaxed);
    }
}

impl CacheCounts {
    /// A reply was looked for; `denied` tells of the one that is there whether it denies a name.
    pub fn looked(&self, denied: Option<bool>) {
        match denied {
            Some(denied) => self.hits[usize::from(denied)].fetch_add(1, Relaxed),
            None => self.misses.fetch_add(1, Relaxed),
        };
    }

    /// A reply is asked for anew before it ends.
    pub fn prefetched(&self) {
        self.prefetches.fetch_add(1, Relaxed);
    }

    /// A reply that had ended was given for want of a newer one.
    pub fn served_stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    /// A reply is not kept: it is one to another question.
    pub fn dropped(&self) {
        self.drops.fetch_add(1, Relaxed);
    }
}

impl To {
    /// It is asked.
    pub fn asked(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// It answered after so long, with a message.
    pub fn answered(&self, reply: &[u8], took: Duration) {
        let code = reply.get(3).map_or(0, |flags| flags & 0x0f);
        self.replies.lock().entry(code).or_insert_with(durations).observe(nanoseconds(took));
    }

    /// It did not answer when it was looked whether it is up.
    pub fn is_not_well(&self) {
        self.health_failures.fetch_add(1, Relaxed);
    }
}
