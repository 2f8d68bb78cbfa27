//! Dynamic admission: webhooks that `MutatingWebhookConfiguration` and `ValidatingWebhookConfiguration` name.
//!
//! In comes a request on its way through the pipeline; out goes the object as webhooks changed it, or a refusal. Which webhooks
//! there are is compiled when configurations change ([`index`]); who is asked ([`invocation`]), what is asked ([`review`]) and what an
//! answer means ([`response`]) are pure; [`crate::webhook_client`] calls. Nothing is held while a webhook thinks: the caller's task waits, and a
//! write that loses its race asks again, as upstream.

mod annotations;
mod ask;
mod configuration;
mod failure;
mod index;
mod invocation;
pub mod metrics;
mod mutating;
mod refusals;
mod response;
mod review;
#[cfg(test)]
mod tests;
mod validating;

use std::sync::Arc;

use troupe_api::status::Status;

use self::{configuration::Hook, index::Index};
use super::Attributes;
use crate::webhook_client::Client;

pub use mutating::{MutatingWebhooks, restore_owners};
pub use refusals::Refusals;
pub use validating::ValidatingWebhooks;

/// The group of the configurations, which no webhook is asked about.
const GROUP: &str = "admissionregistration.k8s.io";
/// The group of the reviews that they are asked with.
const REVIEWS: &str = "admission.k8s.io";
/// The kinds of that group that say who is asked: a webhook that refused them could not be taken away any more.
const EXEMPT: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// What the fuzzer asks.
#[doc(hidden)]
pub mod fuzzing {
    use super::response::read;
    use crate::webhook_client::ReviewVersion;

    /// Reads an answer of a mutating or validating webhook to the question `u`, in the newer and in the older form: how long the
    /// patch is that it has, if it is an answer.
    pub fn patch_lengths(body: &[u8], mutating: bool) -> [Option<usize>; 2] {
        [ReviewVersion::V1, ReviewVersion::V1Beta1].map(|version| read(body, version, "u", mutating).ok().map(|verdict| verdict.patch.len()))
    }
}

/// The webhooks of one kind of configuration, and the connections to them.
struct Webhooks {
    index: Index,
    client: Arc<Client>,
    refusals: Arc<Refusals>,
    configuration_kind: &'static str,
}

/// The plugins that ask webhooks through `client` and note in `refusals` what fails by them.
pub fn webhooks(client: Arc<Client>, refusals: Arc<Refusals>) -> (MutatingWebhooks, ValidatingWebhooks) {
    let of = |plural: &str, configuration_kind, kind| Webhooks {
        index: Index::new(plural, kind),
        client: client.clone(),
        refusals: refusals.clone(),
        configuration_kind,
    };
    let mutating = of("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", mutating::KIND);
    let validating = of("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", validating::KIND);
    (MutatingWebhooks(mutating), ValidatingWebhooks(validating))
}

impl Webhooks {
    /// The webhooks in the order in which they are asked; none for what is exempt.
    ///
    /// # Errors
    /// 503 when a configuration cannot be read: it may ask for a webhook that would refuse.
    fn hooks(&self, request: &Attributes<'_>) -> Result<Arc<[Arc<Hook>]>, Status> {
        if is_exempt(request) { Ok(Arc::default()) } else { self.index.hooks(request.reads.listers()) }
    }
}

fn is_exempt(request: &Attributes<'_>) -> bool {
    let resource = &request.target.resource;
    *resource.group == *GROUP && EXEMPT.contains(&&*resource.kind)
}
