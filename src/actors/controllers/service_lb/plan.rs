//! What is done for one Service. Pure.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::api::core::v1::Service;
use troupe_api::load_balancing::{FINALIZER, assigned, is_announced, wants};

use super::pool::Pool;

/// What others have, by address: since when, and their names.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub taken: BTreeMap<Ipv4Addr, (Right, String)>,
}

/// Who of two has an address: the older one.
pub type Right = (String, String);

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Keep,
    Assign(Ipv4Addr),
    Release,
    Refuse(String),
}

/// Whether a Service has, had or wants an address of ours.
pub fn concerns(service: &Service) -> bool {
    wants(service) || has_finalizer(service)
}

/// Since when a Service is there.
pub fn right(service: &Service) -> Right {
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
    (created.unwrap_or_default(), service.metadata.uid.clone().unwrap_or_default())
}

fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|held| held == FINALIZER)
}

/// Decides; `view` is asked for only where addresses matter.
pub fn plan(service: &Service, pool: Option<&Pool>, view: impl FnOnce() -> View) -> Plan {
    if !wants(service) || service.metadata.deletion_timestamp.is_some() {
        // The class of a Service cannot change; one with another's class may have another's finalizer of this name.
        let ours = has_finalizer(service) && (is_announced(service) || !has_class(service));
        return if ours { Plan::Release } else { Plan::Keep };
    }
    let Some(pool) = pool else {
        let has = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()).is_some_and(|balancer| balancer.ingress.is_some());
        return if has { Plan::Keep } else { Plan::Refuse("there is no pool of addresses: troupe needs --load-balancer-pool".into()) };
    };
    if has_foreign_address(service) {
        return Plan::Keep;
    }
    let view = view();
    let mine = right(service);
    let elder = |ip: Ipv4Addr| view.taken.get(&ip).filter(|(theirs, _)| *theirs < mine || assigned(service) != Some(ip));
    let wanted = match requested(service) {
        Some(Err(text)) => return Plan::Refuse(format!("the requested address {text:?} is no IPv4 address")),
        Some(Ok(ip)) if !pool.contains(ip) => return Plan::Refuse(format!("the requested address {ip} is not in the pool {pool}")),
        Some(Ok(ip)) => match elder(ip) {
            Some((_, name)) => return Plan::Refuse(format!("the requested address {ip} is the Service {name}'s")),
            None => Some(ip),
        },
        None => {
            assigned(service).filter(|ip| pool.contains(*ip) && elder(*ip).is_none()).or_else(|| pool.first_free(|ip| view.taken.contains_key(&ip)))
        }
    };
    match wanted {
        None => Plan::Refuse(format!("all addresses of the pool {pool} are taken")),
        Some(ip) if assigned(service) == Some(ip) && has_finalizer(service) => Plan::Keep,
        Some(ip) => Plan::Assign(ip),
    }
}

fn has_class(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_some())
}

/// Somebody else gave it one: two would fight.
fn has_foreign_address(service: &Service) -> bool {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    !is_announced(service) && balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}

fn requested(service: &Service) -> Option<Result<Ipv4Addr, String>> {
    let text = service.spec.as_ref()?.load_balancer_ip.as_ref().filter(|text| !text.is_empty())?;
    Some(text.parse().map_err(|_| text.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::load_balancing::{ANNOUNCED, is_assigned_here};

    use super::*;

    fn pool() -> Pool {
        "192.0.2.10-192.0.2.11".parse().expect("a pool")
    }

    fn service(uid: &str, more: Value) -> Service {
        let mut all = json!({"metadata": {"name": uid, "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"type": "LoadBalancer"}});
        for part in ["metadata", "spec", "status"] {
            for (name, value) in more[part].as_object().into_iter().flatten() {
                all[part][name] = value.clone();
            }
        }
        serde_json::from_value(all).expect("a service")
    }

    /// As it is after an address was assigned.
    fn given(uid: &str, ip: &str) -> Value {
        let _ = uid;
        json!({"metadata": {"finalizers": [FINALIZER], "annotations": {ANNOUNCED: "true"}}, "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
    }

    fn others(all: &[(&str, &str)]) -> View {
        let taken = all.iter().map(|(uid, ip)| {
            let other = service(uid, given(uid, ip));
            (ip.parse().expect("an address"), (right(&other), (*uid).to_owned()))
        });
        View { taken: taken.collect() }
    }

    fn planned(service: &Service, taken: &[(&str, &str)]) -> Plan {
        plan(service, Some(&pool()), || others(taken))
    }

    #[test]
    fn an_address_is_given_once_and_stays() {
        let new = service("m", json!({}));
        assert_eq!(planned(&new, &[("a", "192.0.2.10")]), Plan::Assign([192, 0, 2, 11].into()));
        assert_eq!(planned(&service("m", given("m", "192.0.2.11")), &[("a", "192.0.2.10")]), Plan::Keep, "planning again gives nothing");
        let Plan::Refuse(why) = planned(&new, &[("a", "192.0.2.10"), ("b", "192.0.2.11")]) else { panic!("refused") };
        assert!(why.contains("all addresses") && why.contains("192.0.2.10-192.0.2.11"));
    }

    #[test]
    fn of_two_with_one_address_the_younger_moves() {
        let mine = service("m", given("m", "192.0.2.10"));
        assert_eq!(planned(&mine, &[("a", "192.0.2.10")]), Plan::Assign([192, 0, 2, 11].into()));
        assert_eq!(planned(&mine, &[("z", "192.0.2.10")]), Plan::Keep);
    }

    #[test]
    fn a_requested_address_is_given_or_refused_by_name() {
        let asks = |ip: &str| service("m", json!({"spec": {"loadBalancerIP": ip}}));
        assert_eq!(planned(&asks("192.0.2.11"), &[]), Plan::Assign([192, 0, 2, 11].into()));
        let refused = |ip: &str, taken: &[(&str, &str)]| match planned(&asks(ip), taken) {
            Plan::Refuse(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused("192.0.2.11", &[("z", "192.0.2.11")]).contains("Service z's"));
        assert!(refused("192.0.2.99", &[]).contains("not in the pool") && refused("x", &[]).contains("no IPv4"));
    }

    #[test]
    fn it_is_released_with_the_service_or_its_type_and_others_are_left_alone() {
        let mut going = service("m", given("m", "192.0.2.10"));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-02T00:00:00Z")).expect("a time");
        assert_eq!(planned(&going, &[]), Plan::Release);
        assert_eq!(is_assigned_here(&going), None);
        let mut plain = given("m", "192.0.2.10");
        plain["spec"] = json!({"type": "ClusterIP"});
        assert_eq!(planned(&service("m", plain), &[]), Plan::Release);
        assert_eq!(planned(&service("m", json!({"spec": {"loadBalancerClass": "a/b"}})), &[]), Plan::Keep);
        let theirs = json!({"spec": {"loadBalancerClass": "a/b"}, "metadata": {"finalizers": [FINALIZER]}});
        assert_eq!(planned(&service("m", theirs), &[]), Plan::Keep);
        assert_eq!(planned(&service("m", json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}})), &[]), Plan::Keep);
    }

    #[test]
    fn without_a_pool_it_stays_pending_and_is_told_why() {
        let Plan::Refuse(why) = plan(&service("m", json!({})), None, View::default) else { panic!("refused") };
        assert!(why.contains("--load-balancer-pool"));
    }
}
