//! What is to be published, and what no more. Pure.

use std::sync::Arc;

use k8s_openapi::api::certificates::v1beta1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use sha2::{Digest, Sha256};

/// Who signs the API server's serving certificate.
pub const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

/// A step, in this order: what is trusted now stands before what was is gone.
#[derive(Debug, PartialEq)]
pub enum Action {
    Create(ClusterTrustBundle),
    Update(ClusterTrustBundle),
    Delete { name: String, uid: String },
}

/// The name of the bundle that has these anchors: the signer's, and a part of their hash.
pub fn name_of(anchors: &str) -> String {
    let hash = Sha256::digest(anchors.as_bytes());
    format!("{}:{}", SIGNER.replace('/', ":"), hex::encode(&hash[..12]))
}

/// What makes one bundle with these anchors of those that the signer has.
pub fn plan(bundles: &[Arc<ClusterTrustBundle>], anchors: &str) -> Vec<Action> {
    let wanted = name_of(anchors);
    let (ours, others): (Vec<_>, Vec<_>) = bundles.iter().partition(|bundle| bundle.metadata.name.as_deref() == Some(wanted.as_str()));
    let published = match ours.first() {
        None => Some(Action::Create(bundle(wanted, anchors))),
        Some(ours) if ours.spec.trust_bundle != anchors => {
            let mut changed = ClusterTrustBundle::clone(ours);
            changed.spec.trust_bundle = anchors.to_owned();
            Some(Action::Update(changed))
        }
        Some(_) => None,
    };
    let removed = others.into_iter().map(|bundle| Action::Delete {
        name: bundle.metadata.name.clone().unwrap_or_default(),
        uid: bundle.metadata.uid.clone().unwrap_or_default(),
    });
    published.into_iter().chain(removed).collect()
}

fn bundle(name: String, anchors: &str) -> ClusterTrustBundle {
    let spec = ClusterTrustBundleSpec { signer_name: Some(SIGNER.to_owned()), trust_bundle: anchors.to_owned() };
    let mut made = ClusterTrustBundle { spec, ..ClusterTrustBundle::default() };
    made.metadata.name = Some(name);
    made
}
