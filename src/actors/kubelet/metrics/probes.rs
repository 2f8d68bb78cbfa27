//! `/metrics/probes`: how probes went, for each container as long as its pod is here.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use troupe_api::metrics::{Text, render};
use troupe_cri::names::PodIdentity;

use crate::kubelet::probes::{ProbeKind, ProbeOutcome};

/// One probe of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Probed {
    pod: (String, String, String),
    container: String,
    kind: &'static str,
}

/// Successes, failures, and probes that could not be run.
type Counts = [u64; 3];

static COUNTS: Mutex<BTreeMap<Probed, Counts>> = Mutex::new(BTreeMap::new());

fn names(pod: &PodIdentity) -> (String, String, String) {
    (pod.namespace.clone(), pod.name.clone(), pod.uid.clone())
}

/// A probe was run.
pub fn probed(pod: &PodIdentity, container: &str, kind: ProbeKind, outcome: &ProbeOutcome) {
    let key = Probed { pod: names(pod), container: container.to_owned(), kind: kind.name() };
    let at = match outcome {
        ProbeOutcome::Success | ProbeOutcome::Warning(_) => 0,
        ProbeOutcome::Failure(_) => 1,
        ProbeOutcome::Unknown(_) => 2,
    };
    COUNTS.lock().entry(key).or_default()[at] += 1;
}

/// A pod is gone.
pub fn forget(pod: &PodIdentity) {
    let gone = names(pod);
    COUNTS.lock().retain(|probed, _| probed.pod != gone);
}

/// The whole page.
pub fn page() -> Bytes {
    let counts = COUNTS.lock().clone();
    let write = |text: &mut Text| {
        let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
        text.family("prober_probe_total", help, "counter");
        for (probed, counts) in &counts {
            let (namespace, name, uid) = &probed.pod;
            for (result, count) in ["successful", "failed", "unknown"].iter().zip(counts).filter(|(_, count)| **count > 0) {
                let labels = [
                    ("container", probed.container.as_str()),
                    ("namespace", namespace),
                    ("pod", name),
                    ("pod_uid", uid),
                    ("probe_type", probed.kind),
                    ("result", result),
                ];
                text.count("prober_probe_total", &labels, *count);
            }
        }
    };
    render(&[&write])
}

#[cfg(test)]
mod tests {
    use troupe_api::metrics::parse::Samples;

    use super::*;

    #[test]
    fn probes_are_counted_until_their_pod_is_gone() {
        let pod = PodIdentity { namespace: "n".into(), name: "probed".into(), uid: "u".into() };
        probed(&pod, "c", ProbeKind::Readiness, &ProbeOutcome::Success);
        probed(&pod, "c", ProbeKind::Readiness, &ProbeOutcome::Failure("503".into()));
        probed(&pod, "c", ProbeKind::Readiness, &ProbeOutcome::Failure("503".into()));
        let failed = || {
            let page = page();
            let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
            samples.value("prober_probe_total", &[("pod", "probed"), ("probe_type", "Readiness"), ("result", "failed")])
        };
        assert_eq!(failed(), Some(2.0));
        forget(&pod);
        assert_eq!(failed(), None);
    }
}
