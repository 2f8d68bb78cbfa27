//! What domain names led to and counts no more: addresses whose time is over, and names that no policy has. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use troupe_net::dns::domain_names::{PEERS_LABEL, UNTIL_ANNOTATION};

use crate::controllers::endpointslice::plan::Action;

/// What ends within so many seconds is looked at together.
const TOGETHER: i64 = 15;

/// Slices of names that no policy has stay for so many seconds after they were made: who wrote them may know of a policy that is not seen here yet.
const YOUNG: i64 = 20;

/// What is to be done now, and when to look again.
#[derive(Debug, PartialEq)]
pub struct Expiry {
    pub actions: Vec<Action>,
    pub next: Option<Duration>,
}

/// Takes away what counts no more; `names` are the ids of the names that policies have.
pub fn plan(names: &BTreeSet<Arc<str>>, slices: &[Arc<EndpointSlice>], now: Timestamp) -> Expiry {
    let now = now.as_second();
    let (mut actions, mut first) = (Vec::new(), None::<i64>);
    for slice in slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()) {
        let id = slice.metadata.labels.as_ref().and_then(|labels| labels.get(PEERS_LABEL));
        let mut until = until_of(slice);
        until.retain(|_, until| *until > now);
        let is_named = id.is_some_and(|id| names.contains(id.as_str()));
        let old_at = slice.metadata.creation_timestamp.as_ref().map_or(now, |made| made.0.as_second().saturating_add(YOUNG));
        if until.is_empty() || !is_named && old_at <= now {
            let (name, uid) = (slice.metadata.name.clone().unwrap_or_default(), slice.metadata.uid.clone().unwrap_or_default());
            actions.push(Action::Delete { name, uid });
            continue;
        }
        first = first.into_iter().chain(until.values().copied()).chain((!is_named).then_some(old_at)).min();
        let updated = without_others(slice, &until);
        if updated != **slice {
            actions.push(Action::Update(Box::new(updated)));
        }
    }
    let next = first.map(|first| Duration::from_secs(u64::try_from(first - now + TOGETHER).unwrap_or_default()));
    Expiry { actions, next }
}

/// Until when addresses count, by address; what nobody can read counts no more.
fn until_of(slice: &EndpointSlice) -> BTreeMap<String, i64> {
    let text = slice.metadata.annotations.as_ref().and_then(|annotations| annotations.get(UNTIL_ANNOTATION));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The slice with these addresses alone.
fn without_others(slice: &EndpointSlice, until: &BTreeMap<String, i64>) -> EndpointSlice {
    let mut slice = slice.clone();
    let counts = |addresses: &[String]| addresses.iter().all(|address| until.contains_key(address));
    slice.endpoints.iter_mut().for_each(|endpoints| endpoints.retain(|endpoint| counts(&endpoint.addresses)));
    if until_of(&slice) != *until {
        let text = serde_json::to_string(until).expect("numbers by text can be written");
        slice.metadata.annotations.get_or_insert_default().insert(UNTIL_ANNOTATION.to_owned(), text);
    }
    slice
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, id: &str, until: &[(&str, i64)]) -> Arc<EndpointSlice> {
        let endpoints: Vec<_> = until.iter().map(|(ip, _)| json!({"addresses": [ip]})).collect();
        let until: BTreeMap<&str, i64> = until.iter().copied().collect();
        let annotations = json!({UNTIL_ANNOTATION: serde_json::to_string(&until).expect("is text")});
        let slice = json!({
            "metadata": {"name": name, "uid": name, "labels": {PEERS_LABEL: id}, "annotations": annotations},
            "addressType": "IPv4", "endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(slice).expect("a slice"))
    }

    #[test]
    fn addresses_go_when_their_time_is_over_and_names_with_their_policies() {
        let names = BTreeSet::from([Arc::from("A")]);
        let (now, all) = (Timestamp::from_second(1000).expect("a time"), [("203.0.113.1", 900), ("203.0.113.2", 1100)]);
        let slices = [slice("one", "A", &all), slice("other", "B", &all), slice("over", "A", &all[..1])];
        let expiry = plan(&names, &slices, now);
        assert_eq!(expiry.next, Some(Duration::from_secs(115)));
        let kept = slice("one", "A", &all[1..]);
        let gone = |name: &str| Action::Delete { name: name.into(), uid: name.into() };
        assert_eq!(expiry.actions, [Action::Update(Box::new(EndpointSlice::clone(&kept))), gone("other"), gone("over")]);
        assert!(plan(&names, &[kept], now).actions.is_empty(), "nothing is left to do");
    }

    #[test]
    fn a_slice_that_was_made_just_now_may_be_of_a_policy_that_is_not_seen_yet() {
        let mut young = EndpointSlice::clone(&slice("one", "A", &[("203.0.113.1", 2000)]));
        young.metadata.creation_timestamp = serde_json::from_value(json!("1970-01-01T00:16:30Z")).expect("a time");
        let at = |second: i64, names: &[&str]| {
            let names = names.iter().map(|name| Arc::from(*name)).collect();
            plan(&names, &[Arc::new(young.clone())], Timestamp::from_second(second).expect("a time"))
        };
        assert_eq!(at(1000, &[]), Expiry { actions: Vec::new(), next: Some(Duration::from_secs(25)) });
        assert_eq!(at(1000, &["A"]), Expiry { actions: Vec::new(), next: Some(Duration::from_secs(1015)) });
        assert_eq!(at(1050, &[]).actions, [Action::Delete { name: "one".into(), uid: "one".into() }]);
    }

    #[test]
    fn what_says_of_no_time_counts_no_more() {
        let names = BTreeSet::from([Arc::from("A")]);
        let mut odd = EndpointSlice::clone(&slice("one", "A", &[("203.0.113.1", 1100)]));
        odd.endpoints = serde_json::from_value(json!([{"addresses": ["203.0.113.1"]}, {"addresses": ["203.0.113.9"]}])).expect("endpoints");
        let expiry = plan(&names, &[Arc::new(odd.clone())], Timestamp::from_second(1000).expect("a time"));
        assert_eq!(expiry.actions, [Action::Update(Box::new(EndpointSlice::clone(&slice("one", "A", &[("203.0.113.1", 1100)]))))]);
        odd.metadata.annotations = None;
        let expiry = plan(&names, &[Arc::new(odd)], Timestamp::from_second(1000).expect("a time"));
        assert_eq!(expiry, Expiry { actions: vec![Action::Delete { name: "one".into(), uid: "one".into() }], next: None });
    }
}
