//! Bundles of trust anchors (KEP-3257), which projected volumes show to pods.
//!
//! In: the projections of volumes, and ClusterTrustBundles, which are watched from the first time on that a pod asks for some. Out: the file of a
//! projection. Volumes are made anew every now and then; what changed meanwhile is in them then.

mod anchors;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{
    certificates::{v1alpha1, v1beta1},
    core::v1::{ClusterTrustBundleProjection, Volume},
};
use tokio::sync::OnceCell;
use troupe_api::{
    Status,
    meta::{LabelSelector, ObjectKey},
    service::ListOptions,
    stored::KubeObject,
};
use troupe_api_client::Client;

use crate::runtime::cache::{Cache, Caches};

/// Files each bundle under its signer, and those that have none under nothing.
const BY_SIGNER: &str = "signer";
/// How long the first pod waits for the watch to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Upstream's words.
const NOT_SERVED: &str = "ClusterTrustBundle projection is not supported in static kubelet mode";

/// A bundle in one of the API's versions.
trait Bundle: KubeObject {
    fn signer(&self) -> Option<&str>;
    fn text(&self) -> &str;
}

impl Bundle for v1beta1::ClusterTrustBundle {
    fn signer(&self) -> Option<&str> {
        self.spec.signer_name.as_deref()
    }

    fn text(&self) -> &str {
        &self.spec.trust_bundle
    }
}

impl Bundle for v1alpha1::ClusterTrustBundle {
    fn signer(&self) -> Option<&str> {
        self.spec.signer_name.as_deref()
    }

    fn text(&self) -> &str {
        &self.spec.trust_bundle
    }
}

/// Finds out whether bundles are served, in which version, and watches them.
pub struct BundleWatch {
    caches: Caches,
    seed: u64,
    found: OnceCell<TrustBundles>,
}

impl BundleWatch {
    /// `seed` decides in which order anchors stand.
    pub fn new(caches: Caches, seed: u64) -> Self {
        BundleWatch { caches, seed, found: OnceCell::new() }
    }

    /// The bundles that there are.
    ///
    /// # Errors
    /// When they are not served, or the API server cannot say whether they are, or they are not known after ten seconds.
    pub async fn bundles(&self) -> Result<TrustBundles, Status> {
        let found = self.found.get_or_try_init(|| self.find()).await?;
        let late = |_| Status::unavailable("ClusterTrustBundle informer has not yet synced");
        tokio::time::timeout(PATIENCE, found.synced()).await.map_err(late)?;
        Ok(found.clone())
    }

    async fn find(&self) -> Result<TrustBundles, Status> {
        let client = self.caches.client();
        let versions = if serves::<v1beta1::ClusterTrustBundle>(client).await? {
            Versions::Beta(self.watched())
        } else if serves::<v1alpha1::ClusterTrustBundle>(client).await? {
            Versions::Alpha(self.watched())
        } else {
            return Err(TrustBundles::not_served());
        };
        Ok(TrustBundles { versions, seed: self.seed })
    }

    fn watched<K: Bundle>(&self) -> Cache<K> {
        by_signer(self.caches.cache())
    }
}

fn by_signer<K: Bundle>(cache: Cache<K>) -> Cache<K> {
    cache.add_index(BY_SIGNER, |bundle: &K| vec![bundle.signer().unwrap_or_default().into()]);
    cache
}

async fn serves<K: Bundle>(client: &Client) -> Result<bool, Status> {
    match client.all::<K>().list(ListOptions { limit: 1, ..ListOptions::default() }).await {
        Ok(_) => Ok(true),
        Err(status) if status.is_not_found() => Ok(false),
        Err(status) => Err(status),
    }
}

/// The bundles that this node knows. Cheap to clone.
#[derive(Clone)]
pub struct TrustBundles {
    versions: Versions,
    seed: u64,
}

#[derive(Clone)]
enum Versions {
    Beta(Cache<v1beta1::ClusterTrustBundle>),
    Alpha(Cache<v1alpha1::ClusterTrustBundle>),
}

impl fmt::Debug for TrustBundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustBundles")
    }
}

impl TrustBundles {
    /// What pods are told where nobody serves bundles.
    pub fn not_served() -> Status {
        Status::unavailable(NOT_SERVED)
    }

    /// The file that a projection asks for.
    ///
    /// # Errors
    /// In upstream's words, when what it selects is not there and must be.
    pub fn file(&self, projection: &ClusterTrustBundleProjection) -> Result<String, String> {
        match &self.versions {
            Versions::Beta(cache) => file(cache, projection, self.seed),
            Versions::Alpha(cache) => file(cache, projection, self.seed),
        }
    }

    async fn synced(&self) {
        match &self.versions {
            Versions::Beta(cache) => cache.synced().await,
            Versions::Alpha(cache) => cache.synced().await,
        }
    }
}

fn file<K: Bundle>(cache: &Cache<K>, projection: &ClusterTrustBundleProjection, seed: u64) -> Result<String, String> {
    let selected = selected(cache, projection)?;
    Ok(anchors::united(selected.iter().map(|bundle| bundle.text()), seed))
}

/// The bundles that a projection selects. Without a label selector it selects nothing by a signer, with an empty one all of that signer.
fn selected<K: Bundle>(cache: &Cache<K>, projection: &ClusterTrustBundleProjection) -> Result<Vec<Arc<K>>, String> {
    let is_optional = projection.optional == Some(true);
    if let Some(name) = projection.name.as_deref() {
        return match cache.get(&ObjectKey::cluster(name)) {
            Some(found) => Ok(vec![found.object]),
            None if is_optional => Ok(Vec::new()),
            None => Err(format!("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found")),
        };
    }
    let Some(signer) = projection.signer_name.as_deref() else {
        return Err("ClusterTrustBundle projection requires either name or signerName to be set".into());
    };
    let selector = LabelSelector::from(projection.label_selector.as_ref());
    let stored = cache.by_index_stored(BY_SIGNER, signer, |meta| selector.matches_projection(&meta.labels));
    if stored.is_empty() && !is_optional {
        return Err("combination of signerName and labelSelector matched zero ClusterTrustBundles".into());
    }
    Ok(stored.iter().filter_map(Cache::<K>::decode).collect())
}

/// Whether a volume projects any.
pub fn is_asked_for(volume: &Volume) -> bool {
    let mut sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.any(|source| source.cluster_trust_bundle.is_some())
}

#[cfg(test)]
pub(crate) use self::tests::known;
