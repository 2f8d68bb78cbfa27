//! Bootstrap tokens: signing `kube-public/cluster-info` with each of them, and removing those whose time is over.

mod signer;
mod token_cleaner;

pub use self::{signer::BootstrapSigner, token_cleaner::TokenCleaner};

use k8s_openapi::api::core::v1::Secret;
use troupe_api::{
    auth::bootstrap_tokens::{NAMESPACE, SECRET_TYPE},
    meta::FieldSelector,
    service::WatchOptions,
};

use crate::runtime::cache::{Cache, Caches};

/// The cache of the Secrets that are tokens: all others are nobody's business here.
fn tokens(caches: &Caches) -> Cache<Secret> {
    let fields = FieldSelector::parse(&format!("metadata.namespace={NAMESPACE},type={SECRET_TYPE}")).expect("a valid selector");
    caches.selected(" that are bootstrap tokens", WatchOptions { fields, ..WatchOptions::default() })
}
