//! Allocations that were decided and that the API does not show yet: nobody else gets these devices meanwhile.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::resource::v1::AllocationResult;
use parking_lot::Mutex;
use troupe_api::meta::ObjectKey;

/// See the module. The plugins of all profiles share it.
#[derive(Default)]
pub struct Assumed(Mutex<HashMap<ObjectKey, Choice>>);

/// What was decided for a pod: allocations by the claims' UIDs.
pub type Choice = Arc<HashMap<String, AllocationResult>>;

impl Assumed {
    /// A pod's claims will get these.
    pub fn assume(&self, pod: ObjectKey, choice: Choice) {
        self.0.lock().insert(pod, choice);
    }

    pub fn forget(&self, pod: &ObjectKey) {
        self.0.lock().remove(pod);
    }

    /// What a pod's claims will get.
    pub fn choice(&self, pod: &ObjectKey) -> Option<Choice> {
        self.0.lock().get(pod).cloned()
    }

    /// Whether a claim is being allocated.
    pub fn is_in_flight(&self, claim: &str) -> bool {
        self.0.lock().values().any(|choice| choice.contains_key(claim))
    }

    /// All allocations, by the claims' UIDs.
    pub fn all(&self) -> HashMap<String, AllocationResult> {
        self.0.lock().values().flat_map(|choice| choice.iter().map(|(uid, result)| (uid.clone(), result.clone()))).collect()
    }
}
