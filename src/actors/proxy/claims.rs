//! Which Service has an address, where several claim it: who was given it by its load balancer's status before whoever names it as an external
//! address, then the oldest, then by namespace and name. Others keep the ports that it does not have.
//!
//! Every Service's unit says what it claims and asks what others have; who shares an address with it is to plan anew when that changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::Service;
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::Family;

use super::service::{Outside, Taken};

/// What one Service claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Seconds of the epoch.
    created: i64,
    outside: Outside,
}

impl Claim {
    /// `None` for a Service without addresses of the family but its cluster address.
    pub fn of(service: &Service, family: Family) -> Option<Self> {
        let outside = Outside::of(service, family)?;
        // What tells no age is the youngest.
        let created = service.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
        Some(Claim { created, outside })
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.outside.balancer_ips.iter().chain(self.outside.external_ips.iter()).copied()
    }

    /// Less is better.
    fn rank<'a>(&self, ip: IpAddr, key: &'a ObjectKey) -> (bool, i64, &'a ObjectKey) {
        (!self.outside.balancer_ips.contains(&ip), self.created, key)
    }
}

#[derive(Debug, Default)]
struct Book {
    claims: HashMap<ObjectKey, Claim>,
    by_address: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
}

/// The claims of all Services of one family of addresses. Locks are held for looking up only.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Book>);

impl Claims {
    /// Takes what a Service claims now, and says who else claims an address that it gained, lost, or has otherwise.
    pub fn set(&self, key: &ObjectKey, claim: Option<Claim>) -> BTreeSet<ObjectKey> {
        let mut book = self.0.lock();
        if book.claims.get(key) == claim.as_ref() {
            return BTreeSet::new();
        }
        let old = book.claims.remove(key);
        let mut concerned = BTreeSet::new();
        for ip in old.iter().flat_map(Claim::addresses) {
            if let Some(holders) = book.by_address.get_mut(&ip) {
                holders.remove(key);
                concerned.extend(holders.iter().cloned());
                if holders.is_empty() {
                    book.by_address.remove(&ip);
                }
            }
        }
        if let Some(claim) = claim {
            for ip in claim.addresses() {
                let holders = book.by_address.entry(ip).or_default();
                concerned.extend(holders.iter().filter(|holder| *holder != key).cloned());
                holders.insert(key.clone());
            }
            book.claims.insert(key.clone(), claim);
        }
        concerned
    }

    /// What others have of what a Service claims.
    pub fn taken(&self, key: &ObjectKey) -> Taken {
        let book = self.0.lock();
        let mut taken = Taken::new();
        let Some(own) = book.claims.get(key) else { return taken };
        for ip in own.addresses() {
            let rivals = book.by_address.get(&ip).into_iter().flatten().filter_map(|rival| Some((rival, book.claims.get(rival)?)));
            for (_, claim) in rivals.filter(|(rival, claim)| claim.rank(ip, rival) < own.rank(ip, key)) {
                let doors = claim.outside.doors.intersection(&own.outside.doors).copied();
                let doors: BTreeSet<_> = doors.collect();
                if !doors.is_empty() {
                    taken.entry(ip).or_default().extend(doors);
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IP: &str = "203.0.113.9";

    fn claim(created: &str, external: &[&str], balancer: &[&str], ports: &[u16]) -> Option<Claim> {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
        let ingress: Vec<Value> = balancer.iter().map(|ip| json!({"ip": ip})).collect();
        let service = json!({
            "metadata": {"name": "s", "creationTimestamp": created},
            "spec": {"clusterIP": "10.96.0.9", "externalIPs": external, "ports": ports},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        Claim::of(&serde_json::from_value(service).expect("a service"), Family::V4)
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn doors(claims: &Claims, name: &str) -> Vec<u16> {
        claims.taken(&key(name)).values().flatten().map(|(_, port)| *port).collect()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-02T00:00:00Z";

    #[test]
    fn the_oldest_has_an_address_whoever_claims_it_first() {
        let (old, new) = (claim(EARLY, &[IP], &[], &[80, 443]), claim(LATE, &[IP], &[], &[443, 444]));
        for old_first in [true, false] {
            let claims = Claims::default();
            // By name it would be the other way round.
            let all = [("z", &old), ("a", &new)];
            for (name, claim) in if old_first { all } else { [all[1], all[0]] } {
                claims.set(&key(name), claim.clone());
            }
            assert_eq!((doors(&claims, "z"), doors(&claims, "a")), (vec![], vec![443]));
            assert_eq!(claims.set(&key("z"), None), BTreeSet::from([key("a")]), "who waits is told");
            assert_eq!(doors(&claims, "a"), Vec::<u16>::new());
        }
        let claims = Claims::default();
        for name in ["b", "a"] {
            claims.set(&key(name), old.clone());
        }
        assert_eq!((doors(&claims, "a"), doors(&claims, "b")), (vec![], vec![80, 443]), "of one age");
    }

    #[test]
    fn who_was_given_an_address_comes_before_who_names_it() {
        let claims = Claims::default();
        assert_eq!(claims.set(&key("names"), claim(EARLY, &[IP], &[], &[80])), BTreeSet::new());
        assert_eq!(claims.set(&key("given"), claim(LATE, &[], &[IP], &[80])), BTreeSet::from([key("names")]));
        assert_eq!((doors(&claims, "names"), doors(&claims, "given")), (vec![80], vec![]));
        assert_eq!(claims.set(&key("given"), claim(LATE, &[], &[IP], &[80])), BTreeSet::new(), "nothing changed");
        assert_eq!(claims.set(&key("given"), claim(LATE, &[], &["203.0.113.10"], &[80])), BTreeSet::from([key("names")]));
        assert!(doors(&claims, "names").is_empty());
    }

    #[test]
    fn a_service_with_a_cluster_address_alone_claims_nothing() {
        assert_eq!(claim(EARLY, &[], &[], &[80]), None);
        assert_eq!(claim(EARLY, &["2001:db8::1"], &[], &[80]), None, "of another family");
    }
}
