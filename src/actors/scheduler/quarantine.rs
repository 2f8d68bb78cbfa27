//! Pods on which the scheduler panicked: after a few times they are left aside, so that the others get their turn. Pure.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use troupe_api::meta::ObjectKey;

use crate::runtime::fingerprint::Fingerprint;

/// Panics in a row after which a pod is set aside.
const PANICS: u32 = 3;
/// Pause between attempts then.
pub const PAUSE: Duration = Duration::from_secs(300);
/// A pod in whose hands processes died waits for a change. It is looked at again, not tried, after this time.
pub const LONG_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// What becomes of a pod after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineDecision {
    /// Another try soon.
    Retry,
    /// It was set aside just now.
    Quarantine,
    /// It had been before.
    StillQuarantined,
}

struct Suspect {
    panics: u32,
    tried: Fingerprint,
    error: String,
}

/// The pods that made the scheduler panic.
#[derive(Default)]
pub struct Quarantine {
    suspects: BTreeMap<ObjectKey, Suspect>,
}

impl Quarantine {
    /// An attempt on this version of a pod panicked.
    pub fn panicked(&mut self, key: &ObjectKey, pod: &Pod, error: String) -> QuarantineDecision {
        let tried = Fingerprint::of(pod);
        let suspect = self.suspects.entry(key.clone()).or_insert(Suspect { panics: 0, tried, error: String::new() });
        suspect.panics += 1;
        (suspect.tried, suspect.error) = (tried, error);
        match suspect.panics {
            ..PANICS => QuarantineDecision::Retry,
            PANICS => QuarantineDecision::Quarantine,
            _ => QuarantineDecision::StillQuarantined,
        }
    }

    /// Processes before this one died in attempts on this version of a pod: it is set aside without another.
    pub fn died(&mut self, key: &ObjectKey, pod: &Pod, error: String) {
        self.suspects.insert(key.clone(), Suspect { panics: PANICS, tried: Fingerprint::of(pod), error });
    }

    /// Whether anything is known of the pod.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        self.suspects.contains_key(key)
    }

    /// The pod was seen; `true` if it was aside and is not what it was at the last attempt.
    pub fn is_released_by(&mut self, key: &ObjectKey, pod: &Pod) -> bool {
        let released = self.suspects.get(key).is_some_and(|suspect| suspect.panics >= PANICS && suspect.tried != Fingerprint::of(pod));
        if released {
            self.suspects.remove(key);
        }
        released
    }

    /// An attempt on the pod ended well, or the pod is gone.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.suspects.remove(key);
    }

    /// The pods that are aside, and why.
    pub fn list(&self) -> BTreeMap<String, &str> {
        let aside = self.suspects.iter().filter(|(_, suspect)| suspect.panics >= PANICS);
        aside.map(|(key, suspect)| (key.to_string(), suspect.error.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_panic_sets_a_pod_aside_until_it_changes() {
        let (mut quarantine, key, mut pod) = (Quarantine::default(), ObjectKey::new("default", "bad"), Pod::default());
        let mut panics = |pod: &Pod| quarantine.panicked(&key, pod, "why".into());
        assert_eq!(
            [panics(&pod), panics(&pod), panics(&pod)],
            [QuarantineDecision::Retry, QuarantineDecision::Retry, QuarantineDecision::Quarantine]
        );
        assert_eq!(panics(&pod), QuarantineDecision::StillQuarantined);
        assert_eq!(quarantine.list(), BTreeMap::from([("default/bad".to_owned(), "why")]));
        assert!(!quarantine.is_released_by(&key, &pod), "a status of our own changes nothing");
        pod.metadata.labels = Some([("fixed".to_owned(), "yes".to_owned())].into());
        assert!(quarantine.is_released_by(&key, &pod));
        assert_eq!(quarantine.panicked(&key, &pod, "why".into()), QuarantineDecision::Retry, "it begins anew");
    }

    #[test]
    fn a_pod_in_whose_hands_processes_died_is_aside_at_once() {
        let (mut quarantine, key, mut pod) = (Quarantine::default(), ObjectKey::new("default", "bad"), Pod::default());
        quarantine.died(&key, &pod, "why".into());
        assert_eq!(quarantine.list(), BTreeMap::from([("default/bad".to_owned(), "why")]));
        assert!(!quarantine.is_released_by(&key, &pod));
        pod.metadata.labels = Some([("fixed".to_owned(), "yes".to_owned())].into());
        assert!(quarantine.is_released_by(&key, &pod));
    }
}
