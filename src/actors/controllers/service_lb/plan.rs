//! What is done for one Service. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::Service;
use troupe_api::load_balancing::{FINALIZER, assigned, is_announced, wants};
use troupe_net::iptables::Family;

use super::pool::Pool;

/// What others have, by address: since when, and their names.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub taken: BTreeMap<IpAddr, (Right, String)>,
    /// Addresses that somebody on a link of a node answers for who is none of the cluster's.
    pub answered: BTreeSet<IpAddr>,
    /// Those of which one node alone has said so for long: given after all others.
    pub doubted: BTreeSet<IpAddr>,
}

/// Who of two has an address: the older one.
pub type Right = (String, String);

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Keep,
    /// One address of each of its families.
    Assign(Vec<IpAddr>),
    Release,
    Refuse(String),
    /// The same for a Service that has an address which is somebody else's: it has none until there is another one.
    Withdraw(String),
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
    let (view, own) = (view(), assigned(service));
    match families(service, pool).and_then(|families| families.into_iter().map(|family| address(service, family, pool, &view, &own)).collect()) {
        Err(why) if own.iter().any(|ip| view.answered.contains(ip)) => Plan::Withdraw(why),
        Err(why) => Plan::Refuse(why),
        Ok(wanted) if wanted == own && has_finalizer(service) => Plan::Keep,
        Ok(wanted) => Plan::Assign(wanted),
    }
}

/// Of which families a Service gets addresses: of its own those that the pool has, unless it requires both.
fn families(service: &Service, pool: &Pool) -> Result<Vec<Family>, String> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten().filter_map(|name| Family::named(name));
    let mut own: Vec<Family> = named.collect();
    if own.is_empty() {
        own.push(Family::V4);
    }
    let strict = spec.is_some_and(|spec| spec.ip_family_policy.as_deref() == Some("RequireDualStack"));
    let lacking = own.iter().find(|family| !pool.has(**family)).copied();
    let has: Vec<Family> = own.into_iter().filter(|family| pool.has(*family)).collect();
    if let Some(Ok(ip)) = requested(service)
        && pool.contains(ip)
        && !has.contains(&Family::of(ip))
    {
        return Err(format!("the requested address {ip} is of none of the Service's families"));
    }
    match lacking {
        Some(lacking) if strict || has.is_empty() => Err(format!("the pool {pool} has no {} addresses", lacking.name())),
        _ => Ok(has),
    }
}

/// The address of a family: what is asked for, else what it has, else the first that is free.
fn address(service: &Service, family: Family, pool: &Pool, view: &View, own: &[IpAddr]) -> Result<IpAddr, String> {
    let mine = right(service);
    let elder = |ip: IpAddr| view.taken.get(&ip).filter(|(theirs, _)| *theirs < mine || !own.contains(&ip));
    match requested(service) {
        Some(Err(text)) => return Err(format!("the requested address {text:?} is no address")),
        Some(Ok(ip)) if !pool.contains(ip) => return Err(format!("the requested address {ip} is not in the pool {pool}")),
        Some(Ok(ip)) if family.has(ip) && view.answered.contains(&ip) => {
            return Err(format!("another machine answers for the requested address {ip}"));
        }
        Some(Ok(ip)) if family.has(ip) => {
            return elder(ip).map_or(Ok(ip), |(_, name)| Err(format!("the requested address {ip} is the Service {name}'s")));
        }
        Some(Ok(_)) | None => {}
    }
    let kept = own.iter().copied().find(|ip| family.has(*ip) && pool.contains(*ip) && elder(*ip).is_none() && !view.answered.contains(ip));
    let is_taken = |ip: IpAddr| view.taken.contains_key(&ip) || view.answered.contains(&ip);
    let sure = || pool.first_free(family, |ip| is_taken(ip) || view.doubted.contains(&ip));
    let found = kept.or_else(sure).or_else(|| pool.first_free(family, is_taken));
    found.ok_or_else(|| match view.answered.iter().filter(|ip| family.has(**ip) && pool.contains(**ip)).count() {
        0 => format!("all {} addresses of the pool {pool} are taken", family.name()),
        others => format!("all {} addresses of the pool {pool} are taken, {others} of them by other machines that answer for them", family.name()),
    })
}

fn has_class(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_some())
}

/// Somebody else gave it one: two would fight.
fn has_foreign_address(service: &Service) -> bool {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    !is_announced(service) && balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}

fn requested(service: &Service) -> Option<Result<IpAddr, String>> {
    let text = service.spec.as_ref()?.load_balancer_ip.as_ref().filter(|text| !text.is_empty())?;
    Some(text.parse().map_err(|_| text.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::load_balancing::{ANNOUNCED, assigned_here};

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
        View { taken: taken.collect(), ..View::default() }
    }

    #[test]
    fn an_address_that_another_machine_answers_for_is_nobodys() {
        let answered = |ips: &[&str]| View { answered: ips.iter().map(|ip| ip.parse().expect("an address")).collect(), ..others(&[]) };
        let planned = |service: &Service, ips: &[&str]| plan(service, Some(&pool()), || answered(ips));
        assert_eq!(planned(&service("m", json!({})), &["192.0.2.10"]), assign(&["192.0.2.11"]));
        let has = service("m", given("m", "192.0.2.10"));
        assert_eq!(planned(&has, &["192.0.2.11"]), Plan::Keep);
        assert_eq!(planned(&has, &["192.0.2.10"]), assign(&["192.0.2.11"]), "it gets another one");
        let Plan::Withdraw(why) = planned(&has, &["192.0.2.10", "192.0.2.11"]) else { panic!("it has one still") };
        assert_eq!(why, "all IPv4 addresses of the pool 192.0.2.10-192.0.2.11 are taken, 2 of them by other machines that answer for them");
        let asks = service("m", json!({"spec": {"loadBalancerIP": "192.0.2.11"}}));
        let waits = Plan::Refuse("another machine answers for the requested address 192.0.2.11".into());
        assert_eq!(planned(&asks, &["192.0.2.11"]), waits);
    }

    #[test]
    fn an_address_of_which_one_node_says_so_for_long_is_given_last_and_stays_with_who_has_it() {
        let doubted = |taken: &[(&str, &str)]| View { doubted: [[192, 0, 2, 10].into()].into(), ..others(taken) };
        let planned = |service: &Service, taken: &[(&str, &str)]| plan(service, Some(&pool()), || doubted(taken));
        let new = service("m", json!({}));
        assert_eq!(planned(&new, &[]), assign(&["192.0.2.11"]));
        assert_eq!(planned(&new, &[("a", "192.0.2.11")]), assign(&["192.0.2.10"]));
        assert_eq!(planned(&service("m", given("m", "192.0.2.10")), &[]), Plan::Keep);
        assert_eq!(planned(&service("m", json!({"spec": {"loadBalancerIP": "192.0.2.10"}})), &[]), assign(&["192.0.2.10"]));
    }

    fn assign(ips: &[&str]) -> Plan {
        Plan::Assign(ips.iter().map(|ip| ip.parse().expect("an address")).collect())
    }

    #[test]
    fn a_service_gets_an_address_of_each_of_its_families_that_the_pool_has() {
        let both: Pool = "192.0.2.10-192.0.2.11,2001:db8::a-2001:db8::b".parse().expect("a pool");
        let service = |families: &[&str], policy: &str| service("m", json!({"spec": {"ipFamilies": families, "ipFamilyPolicy": policy}}));
        let planned = |service: &Service, pool: &Pool| plan(service, Some(pool), || others(&[("a", "2001:db8::a")]));
        assert_eq!(planned(&service(&["IPv6", "IPv4"], "PreferDualStack"), &both), assign(&["2001:db8::b", "192.0.2.10"]));
        assert_eq!(planned(&service(&["IPv6"], "SingleStack"), &both), assign(&["2001:db8::b"]));
        assert_eq!(planned(&service(&["IPv6", "IPv4"], "PreferDualStack"), &pool()), assign(&["192.0.2.10"]));
        let refused = |families: &[&str], policy: &str| match planned(&service(families, policy), &pool()) {
            Plan::Refuse(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(&["IPv4", "IPv6"], "RequireDualStack").contains("has no IPv6 addresses"));
        assert!(refused(&["IPv6"], "SingleStack").contains("has no IPv6 addresses"));
        let mut other = service(&["IPv4"], "SingleStack");
        other.spec.as_mut().expect("a spec").load_balancer_ip = Some("2001:db8::b".into());
        assert!(matches!(planned(&other, &both), Plan::Refuse(why) if why.contains("none of the Service's families")));
        let mut has = service(&["IPv4", "IPv6"], "RequireDualStack");
        let given = given("m", "192.0.2.10");
        has.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        has.metadata.annotations = serde_json::from_value(given["metadata"]["annotations"].clone()).expect("annotations");
        has.status = serde_json::from_value(given["status"].clone()).expect("a status");
        assert_eq!(planned(&has, &both), assign(&["192.0.2.10", "2001:db8::b"]), "the second family came later");
        has.spec.as_mut().expect("a spec").load_balancer_ip = Some("2001:db8::b".into());
        assert_eq!(planned(&has, &both), assign(&["192.0.2.10", "2001:db8::b"]));
    }

    fn planned(service: &Service, taken: &[(&str, &str)]) -> Plan {
        plan(service, Some(&pool()), || others(taken))
    }

    #[test]
    fn an_address_is_given_once_and_stays() {
        let new = service("m", json!({}));
        assert_eq!(planned(&new, &[("a", "192.0.2.10")]), assign(&["192.0.2.11"]));
        assert_eq!(planned(&service("m", given("m", "192.0.2.11")), &[("a", "192.0.2.10")]), Plan::Keep, "planning again gives nothing");
        let Plan::Refuse(why) = planned(&new, &[("a", "192.0.2.10"), ("b", "192.0.2.11")]) else { panic!("refused") };
        assert!(why.contains("all IPv4 addresses") && why.contains("192.0.2.10-192.0.2.11"));
    }

    #[test]
    fn of_two_with_one_address_the_younger_moves() {
        let mine = service("m", given("m", "192.0.2.10"));
        assert_eq!(planned(&mine, &[("a", "192.0.2.10")]), assign(&["192.0.2.11"]));
        assert_eq!(planned(&mine, &[("z", "192.0.2.10")]), Plan::Keep);
    }

    #[test]
    fn a_requested_address_is_given_or_refused_by_name() {
        let asks = |ip: &str| service("m", json!({"spec": {"loadBalancerIP": ip}}));
        assert_eq!(planned(&asks("192.0.2.11"), &[]), assign(&["192.0.2.11"]));
        let refused = |ip: &str, taken: &[(&str, &str)]| match planned(&asks(ip), taken) {
            Plan::Refuse(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused("192.0.2.11", &[("z", "192.0.2.11")]).contains("Service z's"));
        assert!(refused("192.0.2.99", &[]).contains("not in the pool") && refused("x", &[]).contains("is no address"));
    }

    #[test]
    fn it_is_released_with_the_service_or_its_type_and_others_are_left_alone() {
        let mut going = service("m", given("m", "192.0.2.10"));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-02T00:00:00Z")).expect("a time");
        assert_eq!(planned(&going, &[]), Plan::Release);
        assert_eq!(assigned_here(&going), Vec::<IpAddr>::new());
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
