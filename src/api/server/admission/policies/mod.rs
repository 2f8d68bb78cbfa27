//! Admission policies: `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy` with their bindings
//! (`k8s.io/apiserver/pkg/admission/plugin/policy`).
//!
//! In comes a request on its way through the pipeline; out goes the object as policies changed it, or a refusal. Which policies there are
//! is compiled when they change (`index`); whom a request concerns and with which parameters (`invocation`) waits for namespaces at
//! most; what the policies say (`verdict`, `mutating`) is computed without waiting for anybody.

mod index;
mod invocation;
pub mod metrics;
mod mutating;
mod params;
mod patches;
mod policy;
pub mod types;
mod validating;
mod verdict;

use std::sync::Arc;

use troupe_api::status::Status;

use self::index::{Hook, Index};
use super::Attributes;

pub use mutating::MutatingPolicies;
pub use validating::ValidatingPolicies;

/// The group of policies and their bindings, which no policy is asked about.
const GROUP: &str = "admissionregistration.k8s.io";
const EXEMPT: [&str; 4] =
    ["validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
/// Reviews, without which nobody could do anything.
const REVIEWS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// The policies that may concern a request; none for what is exempt.
///
/// # Errors
/// 503 when a policy or binding cannot be read: it may refuse the request.
async fn hooks(index: &Index, request: &Attributes<'_>) -> Result<Arc<[Arc<Hook>]>, Status> {
    if is_exempt(request) {
        return Ok(Arc::default());
    }
    index.hooks(request.reads, &request.target.resource).await
}

fn is_exempt(request: &Attributes<'_>) -> bool {
    let resource = &request.target.resource;
    *resource.group == *GROUP && EXEMPT.contains(&&*resource.plural) || REVIEWS.contains(&&*resource.group)
}
