//! What a name of the cluster stands for.

use std::{collections::HashSet, hash::Hash, net::IpAddr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
};
use troupe_addresses::is_unicast;

use super::{
    index::{Index, ServiceKey},
    view::{Endpoint, Service, Slice, dashed},
};

/// Seconds that answers about cluster addresses may be kept.
const TTL: u32 = 30;
/// Seconds that answers about endpoints, and that there is nothing, may be kept.
const SHORT_TTL: u32 = 5;
/// The version of the specification that the records follow.
const SCHEMA_VERSION: &str = "1.1.0";

/// Records of an answer: more do not fit into the longest reply there is, and whoever may make Services could make them millions.
const MOST_RECORDS: usize = 4096;
/// Services that are named for one address.
const MOST_NAMES: usize = 64;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    Found {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name exists, but not with that type.
    NoData,
    /// The name does not exist.
    NoName,
    /// An alias; its target wants looking up as well.
    Alias {
        alias: Box<Record>,
        target: Name,
    },
    /// Not a name of this cluster.
    Elsewhere,
}

/// The names of one cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: Name,
    serial: u32,
    pub index: Index,
}

/// A question about the records below one Service.
struct Question<'a> {
    name: &'a Name,
    kind: RecordType,
    namespace: &'a str,
    service: &'a str,
}

impl Zone {
    /// An empty zone. `domain` is such as `cluster.local`.
    ///
    /// # Errors
    /// When `domain` is no domain name.
    pub fn new(domain: &str) -> Result<Self, hickory_proto::ProtoError> {
        let mut origin = Name::from_ascii(domain)?.to_lowercase();
        origin.set_fqdn(true);
        Ok(Zone { origin, serial: 1, index: Index::default() })
    }

    /// Sets the serial of the SOA record, such as the time of the last change in Unix seconds.
    pub fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The record that goes with every negative answer.
    pub fn soa(&self) -> Record {
        let (server, person) = (self.below("ns.dns"), self.below("hostmaster"));
        let soa = SOA::new(server, person, self.serial, 7200, 1800, 86400, SHORT_TTL);
        Record::from_rdata(self.origin.clone(), SHORT_TTL, RData::SOA(soa))
    }

    /// Looks up a name in any case. Answers carry the name as it was asked for.
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Lookup {
        if let Some(ip) = reverse_address(name) {
            return self.reverse(name, ip, kind);
        }
        if !self.origin.zone_of(name) {
            return Lookup::Elsewhere;
        }
        let count = usize::from(name.num_labels() - self.origin.num_labels());
        let labels: Vec<String> = name.iter().take(count).map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] => match kind {
                RecordType::TXT | RecordType::ANY => found(name, TTL, [RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]))]),
                _ => Lookup::NoData,
            },
            ["ns", "dns"] | ["dns"] | ["svc"] | ["pod"] => Lookup::NoData,
            [namespace, "svc" | "pod"] => self.known(self.index.has_namespace(namespace)),
            [address, namespace, "pod"] => self.pod(name, kind, address, namespace),
            [service, namespace, "svc"] => self.service(&Question { name, kind, namespace, service }),
            [protocol @ ("_tcp" | "_udp" | "_sctp"), service, namespace, "svc"] => self.protocol(protocol, namespace, service),
            [port, protocol, service, namespace, "svc"] if port.starts_with('_') && protocol.starts_with('_') => {
                self.port(&Question { name, kind, namespace, service }, &port[1..], &protocol[1..])
            }
            [host, service, namespace, "svc"] => self.host(&Question { name, kind, namespace, service }, host),
            _ => Lookup::NoName,
        }
    }

    fn known(&self, known: bool) -> Lookup {
        if known { Lookup::NoData } else { Lookup::NoName }
    }

    fn below(&self, labels: &str) -> Name {
        let name = Name::from_ascii(labels).and_then(|name| name.append_domain(&self.origin));
        name.unwrap_or_else(|_| self.origin.clone())
    }

    fn service_name(&self, key: &ServiceKey) -> Name {
        self.below(&format!("{}.{}.svc", key.1, key.0))
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Lookup {
        match kind {
            RecordType::SOA => Lookup::Found { answers: vec![self.soa()], additionals: Vec::new() },
            RecordType::NS => found(name, TTL, [RData::NS(NS(self.below("ns.dns")))]),
            _ => Lookup::NoData,
        }
    }

    fn pod(&self, name: &Name, kind: RecordType, address: &str, namespace: &str) -> Lookup {
        if !self.index.has_namespace(namespace) {
            return Lookup::NoName;
        }
        let dotted = address.replace('-', ".").parse().map(IpAddr::V4);
        match dotted.or_else(|_| address.replace('-', ":").parse().map(IpAddr::V6)) {
            Ok(ip) if is_unicast(ip) => addresses(name, kind, TTL, [ip]),
            Ok(_) | Err(_) => Lookup::NoName,
        }
    }

    fn service(&self, question: &Question<'_>) -> Lookup {
        let &Question { name, kind, namespace, service } = question;
        let Some(object) = self.index.service(namespace, service) else { return Lookup::NoName };
        if let Some(target) = object.alias() {
            return alias(name, target);
        }
        if kind == RecordType::SRV {
            return match self.ports(question, object, |_, _| true) {
                // One without ports has addresses all the same: its name must not be taken for none.
                Lookup::NoName if self.index.slices(namespace, service).any(|slice| ends(slice).next().is_some()) => Lookup::NoData,
                other => other,
            };
        }
        if !object.is_headless() {
            return addresses(name, kind, TTL, object.addresses());
        }
        let ips = distinct(self.index.slices(namespace, service).flat_map(Slice::ready).flat_map(Endpoint::ips));
        if ips.is_empty() { Lookup::NoName } else { addresses(name, kind, SHORT_TTL, ips) }
    }

    fn protocol(&self, protocol: &str, namespace: &str, service: &str) -> Lookup {
        let wanted = &protocol[1..];
        let has = self
            .index
            .service(namespace, service)
            .is_some_and(|object| object.spec.ports.iter().any(|port| port.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(wanted)));
        self.known(has)
    }

    fn port(&self, question: &Question<'_>, port: &str, protocol: &str) -> Lookup {
        let Some(object) = self.index.service(question.namespace, question.service) else { return Lookup::NoName };
        if let Some(target) = object.alias() {
            return alias(question.name, target);
        }
        match self.ports(question, object, |name, proto| name.eq_ignore_ascii_case(port) && proto.eq_ignore_ascii_case(protocol)) {
            Lookup::Found { .. } if !matches!(question.kind, RecordType::SRV | RecordType::ANY) => Lookup::NoData,
            other => other,
        }
    }

    /// SRV records of the ports that `wanted` accepts by name and protocol, with their targets' addresses.
    fn ports(&self, question: &Question<'_>, object: &Service, wanted: impl Fn(&str, &str) -> bool) -> Lookup {
        let accepts = |port: &&super::view::Port| wanted(port.name.as_deref().unwrap_or_default(), port.protocol.as_deref().unwrap_or("TCP"));
        let (mut answers, mut additionals, mut told) = (Vec::new(), Vec::new(), HashSet::new());
        let own = self.service_name(&(question.namespace.to_owned(), question.service.to_owned()));
        let mut add = |target: Name, ips: Vec<IpAddr>, port: Option<u16>, ttl: u32| {
            let srv = SRV::new(0, 100, port.unwrap_or_default(), target.clone());
            answers.push(Record::from_rdata(question.name.clone(), ttl, RData::SRV(srv)));
            for ip in ips {
                if told.insert((target.clone(), ip)) {
                    additionals.push(Record::from_rdata(target.clone(), ttl, address(ip)));
                }
            }
        };
        if object.is_headless() {
            let slices = self.index.slices(question.namespace, question.service);
            let all = slices.flat_map(|slice| slice.ports.iter().filter(accepts).flat_map(move |port| ends(slice).map(move |end| (port, end))));
            for (port, (endpoint, ip)) in all.take(MOST_RECORDS) {
                let target = own.prepend_label(endpoint.label(ip)).unwrap_or_else(|_| own.clone());
                add(target, vec![ip], port.port, SHORT_TTL);
            }
        } else {
            object.spec.ports.iter().filter(accepts).take(MOST_RECORDS).for_each(|port| add(own.clone(), object.addresses(), port.port, TTL));
        }
        if answers.is_empty() { Lookup::NoName } else { Lookup::Found { answers, additionals } }
    }

    /// One endpoint by its hostname or dashed address.
    fn host(&self, question: &Question<'_>, host: &str) -> Lookup {
        let ready = self.index.slices(question.namespace, question.service).flat_map(Slice::ready);
        let address = dashed(host);
        let ips = distinct(ready.flat_map(|endpoint| endpoint.ips().filter(move |ip| endpoint.is_called(*ip, host, address))));
        if self.index.service(question.namespace, question.service).is_none() || ips.is_empty() {
            return Lookup::NoName;
        }
        addresses(question.name, question.kind, SHORT_TTL, ips)
    }

    fn reverse(&self, name: &Name, ip: IpAddr, kind: RecordType) -> Lookup {
        let mut names = Vec::new();
        for key in self.index.by_address(ip).take(MOST_NAMES) {
            let service = self.service_name(key);
            if self.index.service(&key.0, &key.1).is_some_and(|object| object.addresses().contains(&ip)) {
                names.push(service.clone());
            }
            for endpoint in self.index.slices(&key.0, &key.1).flat_map(Slice::ready).filter(|endpoint| endpoint.ips().any(|own| own == ip)) {
                names.extend(service.prepend_label(endpoint.label(ip)));
            }
        }
        match (names.is_empty(), kind) {
            (true, _) => Lookup::Elsewhere,
            (false, RecordType::PTR | RecordType::ANY) => found(name, SHORT_TTL, distinct(names).into_iter().map(|name| RData::PTR(PTR(name)))),
            (false, _) => Lookup::NoData,
        }
    }
}

/// The address in a reverse name of full length.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let full = match name.num_labels() {
        6 => "in-addr.arpa.",
        34 => "ip6.arpa.",
        _ => return None,
    };
    name.to_ascii().to_lowercase().ends_with(full).then(|| name.parse_arpa_name().ok()).flatten().map(|net| net.addr())
}

/// The ready endpoints of a slice by address.
fn ends(slice: &Slice) -> impl Iterator<Item = (&Endpoint, IpAddr)> {
    slice.ready().flat_map(|endpoint| endpoint.ips().map(move |ip| (endpoint, ip)))
}

/// Each once, in their order, and no more than an answer holds.
fn distinct<T: Eq + Hash + Clone>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).take(MOST_RECORDS).collect()
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The addresses that fit the type asked for.
fn addresses(name: &Name, kind: RecordType, ttl: u32, ips: impl IntoIterator<Item = IpAddr>) -> Lookup {
    let fits = |ip: &IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        other => other == RecordType::ANY,
    };
    found(name, ttl, ips.into_iter().filter(fits).map(address))
}

/// Another name for `target`. An address is no name: what is called so stands for nothing, as with CoreDNS.
fn alias(name: &Name, target: &str) -> Lookup {
    if target.trim_end_matches('.').parse::<IpAddr>().is_ok() {
        return Lookup::NoName;
    }
    let Ok(mut target) = Name::from_ascii(target) else { return Lookup::NoData };
    target.set_fqdn(true);
    Lookup::Alias { alias: Box::new(Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())))), target }
}

/// Records under one name; none is "no data".
fn found(name: &Name, ttl: u32, data: impl IntoIterator<Item = RData>) -> Lookup {
    let answers: Vec<Record> = data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)).collect();
    if answers.is_empty() { Lookup::NoData } else { Lookup::Found { answers, additionals: Vec::new() } }
}
