//! The page that Prometheus reads (<https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4).

use std::{
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{CODES, METRICS, Metrics, PLUGINS, TYPES, To};
use crate::cache::Cache;

/// Whose numbers they are: one server of all names, in CoreDNS' terms.
const SERVER: &str = "server=\"dns://:53\",zone=\".\",view=\"\"";
/// The same of a cache.
const CACHE: &str = "server=\"dns://:53\",zones=\".\",view=\"\"";
const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
/// Families by the numbers that IANA gave them.
const FAMILIES: [&str; 2] = ["1", "2"];
const CACHED: [&str; 2] = ["success", "denial"];

/// All families with their lines.
pub fn page(cache: &Cache) -> String {
    let mut page = Page(String::new());
    page.family("coredns_build_info", "gauge", "What serves names here.");
    page.line("coredns_build_info", concat!("version=\"troupe-", env!("CARGO_PKG_VERSION"), "\",revision=\"\",goversion=\"\""), 1);
    page.queries(&METRICS);
    page.cache(&METRICS, cache);
    page.forward(&METRICS);
    page.kubernetes(&METRICS);
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = if labels.is_empty() { writeln!(self.0, "{name} {value}") } else { writeln!(self.0, "{name}{{{labels}}} {value}") };
    }

    /// A line where something was counted.
    fn counted(&mut self, name: &str, labels: &str, count: &AtomicU64) {
        let count = count.load(Relaxed);
        if count > 0 {
            self.line(name, labels, count);
        }
    }

    fn queries(&mut self, metrics: &Metrics) {
        let name = "coredns_dns_requests_total";
        self.family(name, "counter", "Queries by protocol, family of addresses and type.");
        for (proto, of_proto) in PROTOCOLS.iter().zip(&metrics.requests) {
            for (family, of_family) in FAMILIES.iter().zip(of_proto) {
                let kinds = TYPES.iter().map(|(_, kind)| *kind).chain(["other"]);
                for (kind, count) in kinds.zip(of_family) {
                    self.counted(name, &format!("{SERVER},proto=\"{proto}\",family=\"{family}\",type=\"{kind}\""), count);
                }
            }
        }
        self.family("coredns_dns_do_requests_total", "counter", "Queries that want signatures.");
        self.line("coredns_dns_do_requests_total", SERVER, metrics.secure.load(Relaxed));
        let name = "coredns_dns_request_duration_seconds";
        self.family(name, "histogram", "How long answers took.");
        metrics.durations.write(name, SERVER, &mut self.0);
        for (name, help, sizes) in [
            ("coredns_dns_request_size_bytes", "Sizes of queries.", &metrics.request_sizes),
            ("coredns_dns_response_size_bytes", "Sizes of replies.", &metrics.response_sizes),
        ] {
            self.family(name, "histogram", help);
            for (proto, sizes) in PROTOCOLS.iter().zip(sizes) {
                sizes.write(name, &format!("{SERVER},proto=\"{proto}\""), &mut self.0);
            }
        }
        let name = "coredns_dns_responses_total";
        self.family(name, "counter", "Replies by code and who found them.");
        for (code, of_code) in CODES.iter().zip(&metrics.responses) {
            for (plugin, count) in PLUGINS.iter().zip(of_code) {
                self.counted(name, &format!("{SERVER},rcode=\"{code}\",plugin=\"{plugin}\""), count);
            }
        }
    }

    fn cache(&mut self, metrics: &Metrics, cache: &Cache) {
        let counts = &metrics.cache;
        self.family("coredns_cache_entries", "gauge", "Replies that are kept.");
        for (kind, count) in CACHED.iter().zip(cache.entries()) {
            self.line("coredns_cache_entries", &format!("{CACHE},type=\"{kind}\""), u64::try_from(count).unwrap_or(u64::MAX));
        }
        self.family("coredns_cache_hits_total", "counter", "Replies that were found.");
        for (kind, count) in CACHED.iter().zip(&counts.hits) {
            self.line("coredns_cache_hits_total", &format!("{CACHE},type=\"{kind}\""), count.load(Relaxed));
        }
        self.family("coredns_cache_evictions_total", "counter", "Replies that had to go for others.");
        for (kind, count) in CACHED.iter().zip(cache.evictions()) {
            self.line("coredns_cache_evictions_total", &format!("{CACHE},type=\"{kind}\""), count);
        }
        let misses = counts.misses.load(Relaxed);
        let looked = misses + counts.hits.iter().map(|hits| hits.load(Relaxed)).sum::<u64>();
        for (name, help, count) in [
            ("coredns_cache_misses_total", "Replies that were not found.", misses),
            ("coredns_cache_requests_total", "Replies that were looked for.", looked),
            ("coredns_cache_prefetch_total", "Replies that were asked for anew before they ended.", counts.prefetches.load(Relaxed)),
            ("coredns_cache_served_stale_total", "Replies that had ended and were given all the same.", counts.stale.load(Relaxed)),
            ("coredns_cache_drops_total", "Replies that were not kept because they answer another question.", counts.drops.load(Relaxed)),
        ] {
            self.family(name, "counter", help);
            self.line(name, CACHE, count);
        }
    }

    fn forward(&mut self, metrics: &Metrics) {
        let all: Vec<(SocketAddr, Arc<To>)> = metrics.to.lock().iter().map(|(address, to)| (*address, to.clone())).collect();
        self.family("coredns_forward_requests_total", "counter", "Questions to a resolver.");
        all.iter().for_each(|(address, to)| self.line("coredns_forward_requests_total", &format!("to=\"{address}\""), to.requests.load(Relaxed)));
        self.family("coredns_forward_responses_total", "counter", "Its replies by code.");
        for (address, to) in &all {
            for (code, took) in to.replies.lock().iter() {
                self.line("coredns_forward_responses_total", &format!("to=\"{address}\",rcode=\"{}\"", CODES[usize::from(*code)]), took.count());
            }
        }
        // Since its version 1.11 CoreDNS tells this under the second name.
        for (name, proxy) in [("coredns_forward_request_duration_seconds", ""), ("coredns_proxy_request_duration_seconds", "proxy_name=\"forward\",")]
        {
            self.family(name, "histogram", "How long a resolver's replies took.");
            for (address, to) in &all {
                for (code, took) in to.replies.lock().iter() {
                    took.write(name, &format!("{proxy}to=\"{address}\",rcode=\"{}\"", CODES[usize::from(*code)]), &mut self.0);
                }
            }
        }
        for (name, proxy) in
            [("coredns_forward_healthcheck_failures_total", ""), ("coredns_proxy_healthcheck_failures_total", "proxy_name=\"forward\",")]
        {
            self.family(name, "counter", "Times that a resolver was looked at and did not answer.");
            all.iter().for_each(|(address, to)| self.line(name, &format!("{proxy}to=\"{address}\""), to.health_failures.load(Relaxed)));
        }
        for (name, help, count) in [
            ("coredns_forward_healthcheck_broken_total", "Questions that were asked though no resolver was up.", &metrics.broken),
            ("coredns_forward_max_concurrent_rejects_total", "Queries that were not forwarded because too many were under way.", &metrics.rejects),
        ] {
            self.family(name, "counter", help);
            self.line(name, "", count.load(Relaxed));
        }
    }

    fn kubernetes(&mut self, metrics: &Metrics) {
        let name = "coredns_kubernetes_dns_programming_duration_seconds";
        self.family(name, "histogram", "How long it took from a change of endpoints until names say so.");
        // CoreDNS tells it of these alone, too: only their names lead to endpoints.
        metrics.programming.write(name, "service_kind=\"headless_with_selector\"", &mut self.0);
    }
}
