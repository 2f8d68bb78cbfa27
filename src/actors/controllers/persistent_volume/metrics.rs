//! What the controllers of volumes count, under upstream's names: volumes and claims as they are at the time of a scrape, and how long others
//! take to provision and to delete volumes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use parking_lot::Mutex;
use troupe_api::{
    meta::ObjectKey,
    metrics::{Collect, Text},
    projection::MetaProjection,
};

use crate::{
    runtime::cache::{Cache, Digest, Digests},
    storage::{claim_phase, class_of_claim, class_of_volume, operations, volume_phase},
};

/// The caches of the controllers that live in this process.
static COUNTED: Mutex<Vec<Weak<Counted>>> = Mutex::new(Vec::new());

/// What the controllers of volumes count.
pub static COLLECTORS: [&dyn Collect; 1] = [&Counts];

/// What is counted of a volume.
pub(super) struct CountedVolume {
    plugin: Box<str>,
    mode: Box<str>,
    class: Box<str>,
    is_bound: bool,
}

impl Digest<PersistentVolume> for CountedVolume {
    fn of(_: &Arc<MetaProjection>, volume: &PersistentVolume) -> Self {
        let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
        CountedVolume {
            plugin: operations::plugin_of(volume).into(),
            mode: mode.unwrap_or("Filesystem").into(),
            class: class_of_volume(volume).into(),
            is_bound: volume_phase(volume) == "Bound",
        }
    }
}

/// What is counted of a claim.
pub(super) struct CountedClaim {
    class: Box<str>,
    attributes_class: Box<str>,
    is_bound: bool,
}

impl Digest<PersistentVolumeClaim> for CountedClaim {
    fn of(_: &Arc<MetaProjection>, claim: &PersistentVolumeClaim) -> Self {
        let attributes_class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        CountedClaim {
            class: class_of_claim(claim).into(),
            attributes_class: attributes_class.unwrap_or_default().into(),
            is_bound: claim_phase(claim) == "Bound",
        }
    }
}

/// Volumes and claims that are counted for as long as this lives.
pub(super) struct Counted {
    volumes: Cache<PersistentVolume>,
    of_volumes: Digests<PersistentVolume, CountedVolume>,
    claims: Cache<PersistentVolumeClaim>,
    of_claims: Digests<PersistentVolumeClaim, CountedClaim>,
}

impl Counted {
    pub(super) fn begin(volumes: &Cache<PersistentVolume>, claims: &Cache<PersistentVolumeClaim>) -> Arc<Self> {
        let counted =
            Arc::new(Counted { of_volumes: volumes.digests(), volumes: volumes.clone(), of_claims: claims.digests(), claims: claims.clone() });
        let mut all = COUNTED.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&counted));
        counted
    }

    fn add_to(&self, tally: &mut Tally) {
        for stored in self.volumes.select_stored("", |_| true) {
            if let Some(volume) = self.of_volumes.of(&stored) {
                tally.add_volume(&volume);
            }
        }
        for stored in self.claims.select_stored("", |_| true) {
            if let Some(claim) = self.of_claims.of(&stored) {
                tally.add_claim(&stored.key.namespace, &claim);
            }
        }
    }
}

/// Samples of one family, by the values of its labels.
type Samples = BTreeMap<Vec<String>, u64>;

/// All of them together.
#[derive(Debug, Default)]
struct Tally {
    total: Samples,
    /// Unbound ones, and bound ones.
    volumes: [Samples; 2],
    claims: [Samples; 2],
}

fn count(samples: &mut Samples, values: &[&str]) {
    *samples.entry(values.iter().map(|value| (*value).to_owned()).collect()).or_default() += 1;
}

impl Tally {
    fn add_volume(&mut self, volume: &CountedVolume) {
        count(&mut self.total, &[&volume.plugin, &volume.mode]);
        count(&mut self.volumes[usize::from(volume.is_bound)], &[&volume.class]);
    }

    fn add_claim(&mut self, namespace: &str, claim: &CountedClaim) {
        count(&mut self.claims[usize::from(claim.is_bound)], &[namespace, &claim.class, &claim.attributes_class]);
    }

    fn write(&self, text: &mut Text) {
        const OF_VOLUMES: &[&str] = &["storage_class"];
        const OF_CLAIMS: &[&str] = &["namespace", "storage_class", "volume_attributes_class"];
        let [unbound, bound] = &self.volumes;
        let [unbound_claims, bound_claims] = &self.claims;
        let total = "Gauge measuring total number of persistent volumes";
        family(text, "total_pv_count", total, &["plugin_name", "volume_mode"], &self.total);
        family(text, "bound_pv_count", "Gauge measuring number of persistent volume currently bound", OF_VOLUMES, bound);
        family(text, "unbound_pv_count", "Gauge measuring number of persistent volume currently unbound", OF_VOLUMES, unbound);
        family(text, "bound_pvc_count", "Gauge measuring number of persistent volume claim currently bound", OF_CLAIMS, bound_claims);
        family(text, "unbound_pvc_count", "Gauge measuring number of persistent volume claim currently unbound", OF_CLAIMS, unbound_claims);
    }
}

fn family(text: &mut Text, name: &str, help: &str, labels: &[&str], samples: &Samples) {
    if samples.is_empty() {
        return;
    }
    let name = format!("pv_collector_{name}");
    text.family(&name, help, "gauge");
    for (values, count) in samples {
        let labels: Vec<(&str, &str)> = labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
        text.count(&name, &labels, *count);
    }
}

/// Reads the caches at the time of a scrape.
struct Counts;

impl Collect for Counts {
    fn collect(&self, text: &mut Text) {
        let living: Vec<Arc<Counted>> = COUNTED.lock().iter().filter_map(Weak::upgrade).collect();
        let mut tally = Tally::default();
        living.iter().for_each(|counted| counted.add_to(&mut tally));
        tally.write(text);
    }
}

/// Operations of one kind that others carry out, by what they are about, each with who does and since when.
pub(super) struct UnderWay {
    operation: &'static str,
    begun: Mutex<BTreeMap<ObjectKey, (String, Instant)>>,
}

impl UnderWay {
    pub(super) fn new(operation: &'static str) -> Self {
        UnderWay { operation, begun: Mutex::default() }
    }

    /// Somebody is asked to, by now.
    pub(super) fn begin(&self, key: &ObjectKey, plugin: impl FnOnce() -> String, now: Instant) {
        self.begun.lock().entry(key.clone()).or_insert_with(|| (plugin(), now));
    }

    /// What stood in the way is told, if it is under way.
    pub(super) fn failed(&self, key: &ObjectKey) {
        if let Some((plugin, _)) = self.begun.lock().get(key) {
            operations::failed(plugin, self.operation);
        }
    }

    /// It is done; gives what it took, if it was under way.
    pub(super) fn end(&self, key: &ObjectKey, now: Instant) -> Option<Duration> {
        let (plugin, since) = self.begun.lock().remove(key)?;
        let took = now.saturating_duration_since(since);
        operations::done(&plugin, self.operation, took);
        Some(took)
    }

    /// Nobody needs it any more.
    pub(super) fn forget(&self, key: &ObjectKey) {
        self.begun.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use troupe_api::metrics::{parse, render};

    use super::*;

    fn volume(spec: Value, phase: &str) -> CountedVolume {
        let volume = json!({"metadata": {"name": "v"}, "spec": spec, "status": {"phase": phase}});
        CountedVolume::of(&Arc::default(), &serde_json::from_value(volume).expect("a volume"))
    }

    fn claim(spec: Value, phase: &str) -> CountedClaim {
        let claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec, "status": {"phase": phase}});
        CountedClaim::of(&Arc::default(), &serde_json::from_value(claim).expect("a claim"))
    }

    #[test]
    fn volumes_and_claims_count_by_class_and_by_whether_they_are_bound() {
        let mut tally = Tally::default();
        let csi = json!({"csi": {"driver": "d", "volumeHandle": "h"}, "storageClassName": "fast", "volumeMode": "Block"});
        for phase in ["Bound", "Bound", "Released"] {
            tally.add_volume(&volume(csi.clone(), phase));
        }
        tally.add_volume(&volume(json!({"local": {"path": "/d"}}), "Available"));
        tally.add_claim("n", &claim(json!({"storageClassName": "fast", "volumeAttributesClassName": "gold"}), "Bound"));
        tally.add_claim("n", &claim(json!({}), "Pending"));
        tally.add_claim("n", &claim(json!({}), "Lost"));
        let page = render(&[&|text: &mut Text| tally.write(text)]);
        let samples = parse::Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let value = |name: &str, labels: &[(&str, &str)]| samples.value(&format!("pv_collector_{name}"), labels);
        assert_eq!(value("total_pv_count", &[("plugin_name", "kubernetes.io/csi:d"), ("volume_mode", "Block")]), Some(3.0));
        assert_eq!(value("total_pv_count", &[("plugin_name", "kubernetes.io/local-volume"), ("volume_mode", "Filesystem")]), Some(1.0));
        assert_eq!(value("bound_pv_count", &[("storage_class", "fast")]), Some(2.0));
        assert_eq!(["fast", ""].map(|class| value("unbound_pv_count", &[("storage_class", class)])), [Some(1.0); 2]);
        let of = |class, attributes| [("namespace", "n"), ("storage_class", class), ("volume_attributes_class", attributes)];
        assert_eq!(value("bound_pvc_count", &of("fast", "gold")), Some(1.0));
        assert_eq!(value("unbound_pvc_count", &of("", "")), Some(2.0));
    }

    #[test]
    fn what_others_do_is_timed_from_when_they_were_first_asked() {
        let (under_way, now, key) = (UnderWay::new("provision"), Instant::now(), ObjectKey::new("n", "c"));
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(under_way.end(&key, now), None, "nobody was asked");
        under_way.begin(&key, || "example.com/timed".into(), now);
        under_way.begin(&key, || "example.com/other".into(), after(2));
        under_way.failed(&key);
        assert_eq!(under_way.end(&key, after(7)), Some(Duration::from_secs(7)));
        assert_eq!(under_way.end(&key, after(8)), None);
        under_way.failed(&key);
        under_way.begin(&key, || "example.com/timed".into(), now);
        under_way.forget(&key);
        assert_eq!(under_way.end(&key, after(8)), None);
        let page = render(&operations::COLLECTORS);
        let samples = parse::Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let labels = [("plugin_name", "example.com/timed"), ("operation_name", "provision")];
        assert_eq!(samples.value("volume_operation_errors_total", &labels), Some(1.0));
        assert_eq!(samples.value("volume_operation_total_seconds_sum", &labels), Some(7.0));
    }
}
