//! Admission policies: `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy` with their bindings
//! (`k8s.io/apiserver/pkg/admission/plugin/policy`).
//!
//! In comes a request on its way through the pipeline; out goes the object as policies changed it, or a refusal. Which policies there are
//! is compiled when they change ([`index`]); whom a request concerns and with which parameters ([`invocation`]) waits for namespaces at
//! most; what the policies say ([`validating`], [`mutating`]) is computed without waiting for anybody.

mod index;
mod invocation;
pub mod metrics;
mod mutating;
mod params;
mod patches;
mod policy;
mod rounds;
#[cfg(test)]
mod tests;
pub mod types;
mod validating;
mod verdict;

use std::sync::Arc;

use self::index::{Hook, Index};
pub(super) use self::rounds::Rounds;
use super::{Operation, Request};
use crate::status::Status;

/// The group of policies and their bindings, which no policy is asked about.
const GROUP: &str = "admissionregistration.k8s.io";
const EXEMPT: [&str; 4] =
    ["validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
/// Reviews, without which nobody could do anything.
const REVIEWS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// All policies of a cluster.
pub struct Policies {
    validating: Index,
    mutating: Index,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            validating: Index::new("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
            mutating: Index::new("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
        }
    }
}

impl Policies {
    async fn hooks(&self, index: &Index, request: &Request<'_>) -> Arc<[Arc<Hook>]> {
        if is_exempt(request) {
            return Arc::default();
        }
        index.hooks(request.reads.listers(), &request.reads.registry(), &request.target.resource).await
    }

    /// Lets policies change the object.
    ///
    /// # Errors
    /// When one fails and that counts.
    pub(super) async fn mutate(&self, request: &mut Request<'_>, rounds: &mut Rounds) -> Result<(), Status> {
        // Nothing is left to change of what is deleted.
        if request.operation == Operation::Delete {
            return Ok(());
        }
        let hooks = self.hooks(&self.mutating, request).await;
        if hooks.is_empty() { Ok(()) } else { mutating::mutate(&hooks, request, rounds).await }
    }

    /// Lets policies refuse the object.
    ///
    /// # Errors
    /// When one refuses, or fails and that counts.
    pub(super) async fn validate(&self, request: &Request<'_>) -> Result<(), Status> {
        let hooks = self.hooks(&self.validating, request).await;
        if hooks.is_empty() { Ok(()) } else { validating::validate(&hooks, request).await }
    }
}

fn is_exempt(request: &Request<'_>) -> bool {
    let resource = &request.target.resource;
    *resource.group == *GROUP && EXEMPT.contains(&&*resource.plural) || REVIEWS.contains(&&*resource.group)
}
