//! What the controller of EndpointSlices counts, under upstream's names.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use parking_lot::Mutex;
use troupe_api::{
    meta::ObjectKey,
    metrics::{Collect, Family, Gauge, Histogram, exponential},
};

use super::{
    hints::asked_by,
    plan::{Action, MAX_ENDPOINTS, identity, slice_ports},
};

const ENDPOINTS: [f64; 15] = exponential(2.0, 2.0);

static ADDED: Family<Histogram> =
    Family::histogram("endpoint_slice_controller_endpoints_added_per_sync", "Number of endpoints added on each Service sync", &[], &ENDPOINTS);
static REMOVED: Family<Histogram> =
    Family::histogram("endpoint_slice_controller_endpoints_removed_per_sync", "Number of endpoints removed on each Service sync", &[], &ENDPOINTS);
static DESIRED: Family<Gauge> = Family::new("endpoint_slice_controller_endpoints_desired", "Number of endpoints desired", &[]);
static SLICES: Family<Gauge> = Family::new("endpoint_slice_controller_num_endpoint_slices", "Number of EndpointSlices", &[]);
static DESIRED_SLICES: Family<Gauge> = Family::new(
    "endpoint_slice_controller_desired_endpoint_slices",
    "Number of EndpointSlices that would exist with perfect endpoint allocation",
    &[],
);
static DISTRIBUTIONS: Family<Gauge> = Family::new(
    "endpoint_slice_controller_services_count_by_traffic_distribution",
    "Number of Services using some specific trafficDistribution",
    &["traffic_distribution"],
);

/// What the controller of EndpointSlices counts.
pub static COLLECTORS: [&dyn Collect; 6] = [&DESIRED_SLICES, &ADDED, &DESIRED, &REMOVED, &SLICES, &DISTRIBUTIONS];

/// What all Services together have. A controller that begins knows of none.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<ObjectKey, Counted>>);

/// What is counted of one Service.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    totals: Totals,
    /// The value by which it asks for hints.
    distribution: Option<&'static str>,
}

/// What one Service has once its plan is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    endpoints: usize,
    slices: usize,
    /// Slices that would do.
    desired: usize,
}

impl Tally {
    /// A Service has these slices, and this is to be done about them.
    pub fn planned(&self, service: &Service, key: &ObjectKey, slices: &[Arc<EndpointSlice>], actions: &[Action]) {
        let (added, removed) = moved(slices, actions);
        ADDED.with(&[]).observe(float(added));
        REMOVED.with(&[]).observe(float(removed));
        self.set(key, Some(Counted { totals: totals(slices, actions), distribution: asked_by(service) }));
    }

    /// A Service is gone, or its slices are not ours.
    pub fn forget(&self, service: &ObjectKey) {
        self.set(service, None);
    }

    fn set(&self, service: &ObjectKey, counted: Option<Counted>) {
        let mut services = self.0.lock();
        let before = match counted {
            Some(counted) => services.insert(service.clone(), counted),
            None => services.remove(service),
        };
        let (before, after) = (before.unwrap_or_default(), counted.unwrap_or_default());
        for (distribution, one) in [(before.distribution, -1.0), (after.distribution, 1.0)] {
            if let Some(distribution) = distribution {
                DISTRIBUTIONS.with(&[distribution]).add(one);
            }
        }
        let (before, after) = (before.totals, after.totals);
        for (family, before, after) in
            [(&DESIRED, before.endpoints, after.endpoints), (&SLICES, before.slices, after.slices), (&DESIRED_SLICES, before.desired, after.desired)]
        {
            family.with(&[]).add(float(after) - float(before));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let services: Vec<ObjectKey> = self.0.get_mut().keys().cloned().collect();
        services.iter().for_each(|service| self.forget(service));
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn written(action: &Action) -> Option<&EndpointSlice> {
    match action {
        Action::Create(slice) | Action::Update(slice) => Some(slice),
        Action::Delete { .. } => None,
    }
}

fn touched_by(action: &Action) -> Option<&str> {
    match action {
        Action::Create(_) => None,
        Action::Update(slice) => slice.metadata.name.as_deref(),
        Action::Delete { name, .. } => Some(name),
    }
}

/// The names of existing slices that actions change or take away.
fn touched(actions: &[Action]) -> HashSet<&str> {
    actions.iter().filter_map(touched_by).collect()
}

fn is_touched(slice: &EndpointSlice, touched: &HashSet<&str>) -> bool {
    slice.metadata.name.as_deref().is_some_and(|name| touched.contains(name))
}

/// How many endpoints come and go; those that only change their slice do neither.
fn moved(slices: &[Arc<EndpointSlice>], actions: &[Action]) -> (usize, usize) {
    let touched = touched(actions);
    let old = slices.iter().filter(|slice| is_touched(slice, &touched)).flat_map(|slice| slice.endpoints.iter().flatten());
    let before: HashSet<(&str, &str)> = old.map(identity).collect();
    let new = actions.iter().filter_map(written).flat_map(|slice| slice.endpoints.iter().flatten());
    let after: HashSet<(&str, &str)> = new.map(identity).collect();
    (after.difference(&before).count(), before.difference(&after).count())
}

fn totals(slices: &[Arc<EndpointSlice>], actions: &[Action]) -> Totals {
    let touched = touched(actions);
    let kept = slices.iter().map(|slice| &**slice).filter(|slice| !is_touched(slice, &touched));
    let (mut totals, mut groups) = (Totals::default(), BTreeMap::new());
    for slice in kept.chain(actions.iter().filter_map(written)) {
        let endpoints = slice.endpoints.as_ref().map_or(0, Vec::len);
        totals.endpoints += endpoints;
        totals.slices += 1;
        *groups.entry((slice.address_type.as_str(), slice_ports(slice))).or_insert(0_usize) += endpoints;
    }
    totals.desired = groups.values().map(|endpoints| endpoints.div_ceil(MAX_ENDPOINTS).max(1)).sum();
    totals
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;

    fn slice(name: &str, hosts: std::ops::Range<usize>) -> EndpointSlice {
        let endpoint = |host: usize| json!({"addresses": [format!("10.0.{}.{}", host / 250, host % 250)], "targetRef": {"kind": "Pod", "uid": format!("u{host}")}});
        let endpoints: Vec<_> = hosts.map(endpoint).collect();
        let ports = json!([{"name": "", "protocol": "TCP", "port": 80}]);
        serde_json::from_value(json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports})).expect("a slice")
    }

    #[test]
    fn endpoints_that_change_their_slice_neither_come_nor_go() {
        let there = [Arc::new(slice("a", 0..60)), Arc::new(slice("b", 60..70)), Arc::new(slice("c", 100..160))];
        let actions = [
            Action::Update(Box::new(slice("a", 5..65))),
            Action::Delete { name: "b".into(), uid: "b".into() },
            Action::Create(Box::new(slice("", 200..203))),
        ];
        assert_eq!(moved(&there, &actions), (3, 10), "three come; five of either of the two slices go");
        assert_eq!(totals(&there, &actions), Totals { endpoints: 123, slices: 3, desired: 2 });
        assert_eq!(totals(&[], &[Action::Create(Box::new(slice("", 0..0)))]), Totals { endpoints: 0, slices: 1, desired: 1 });
    }

    #[test]
    fn a_page_tells_what_all_services_have() {
        let tally = Tally::default();
        let service = ObjectKey::new("n", "counted");
        let spec = json!({"trafficDistribution": "PreferSameZone"});
        let near: Service = serde_json::from_value(json!({"metadata": {"name": "counted"}, "spec": spec})).expect("a service");
        let asks = |value: &str| {
            let page = render(&COLLECTORS);
            let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
            samples.value("endpoint_slice_controller_services_count_by_traffic_distribution", &[("traffic_distribution", value)])
        };
        // No other test asks by this value. Twice, as when something of it changes.
        for _ in 0..2 {
            tally.planned(&near, &service, &[], &[Action::Create(Box::new(slice("", 0..3)))]);
        }
        assert_eq!(asks("PreferSameZone"), Some(1.0));
        tally.planned(&Service::default(), &service, &[], &[Action::Create(Box::new(slice("", 0..3)))]);
        assert_eq!(asks("PreferSameZone"), Some(0.0), "it asks no more");
        let page = render(&COLLECTORS);
        let page = std::str::from_utf8(&page).expect("text");
        assert!(page.contains("endpoint_slice_controller_endpoints_added_per_sync_bucket{le=\"32768\"} "), "{page}");
        for family in ["endpoints_desired", "num_endpoint_slices", "desired_endpoint_slices"] {
            assert!(page.contains(&format!("# TYPE endpoint_slice_controller_{family} gauge\n")), "{page}");
        }
        tally.forget(&service);
        assert!(tally.0.lock().is_empty());
    }
}
