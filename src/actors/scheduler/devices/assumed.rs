//! Allocations that were decided and that the API does not show yet: nobody else gets these devices meanwhile.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::resource::v1::AllocationResult;
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;

use super::extended::Requests;

/// See the module. The plugins of all profiles share it.
#[derive(Default)]
pub struct Assumed(Mutex<HashMap<ObjectKey, Arc<Choice>>>);

/// What was decided for a pod.
#[derive(Debug, Default)]
pub struct Choice {
    /// Allocations by the claims' UIDs.
    pub results: HashMap<String, AllocationResult>,
    /// What it gets for its extended resources: that claim is yet to be made.
    pub extended: Option<(Requests, AllocationResult)>,
}

impl Assumed {
    /// A pod's claims will get these.
    pub fn assume(&self, pod: ObjectKey, choice: Choice) {
        self.0.lock().insert(pod, Arc::new(choice));
    }

    pub fn forget(&self, pod: &ObjectKey) {
        self.0.lock().remove(pod);
    }

    /// What a pod's claims will get.
    pub fn choice(&self, pod: &ObjectKey) -> Option<Arc<Choice>> {
        self.0.lock().get(pod).cloned()
    }

    /// Whether a claim is being allocated.
    pub fn is_in_flight(&self, claim: &str) -> bool {
        self.0.lock().values().any(|choice| choice.results.contains_key(claim))
    }

    /// All allocations, by the claims' UIDs; those without a claim yet by something that is no UID.
    pub fn all(&self) -> HashMap<String, AllocationResult> {
        let all = self.0.lock();
        let results = all.values().flat_map(|choice| choice.results.iter().map(|(uid, result)| (uid.clone(), result.clone())));
        let extended = all.iter().filter_map(|(pod, choice)| Some((format!("extended resources of {pod}"), choice.extended.as_ref()?.1.clone())));
        results.chain(extended).collect()
    }
}
