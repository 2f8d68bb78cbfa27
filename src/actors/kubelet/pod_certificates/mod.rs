//! Certificates of pods (KEP-4317): for each source `podCertificate` of a projected volume the kubelet makes a key, asks a signer for a
//! certificate for it by a `PodCertificateRequest`, and has another one made before it ends.
//!
//! [`plan`] says what comes next for a projection, the unit `kubelet/pod-certificates` (`pod_certificate_manager.rs`) does it and keeps here what
//! pods' workers write into volumes. [`keys`] makes keys aside, in turns ([`queue`]). Keys are in memory and in pods' volumes (which are in memory,
//! too), and nowhere else: a kubelet that starts anew asks anew.

pub mod keys;
pub mod metrics;
pub mod plan;
pub mod queue;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCertificateProjection};
use parking_lot::Mutex;

use self::plan::State;

/// Each has a key, which takes a processor up to seconds to make.
const MOST_CERTIFICATES: usize = 64;

/// A key with the certificates for it, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    pub key: String,
    pub chain: String,
}

impl fmt::Debug for Bundle {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Which source of which volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Projection {
    pub uid: String,
    pub volume: String,
    /// Its place in the list of the volume's sources.
    pub source: usize,
}

/// The bundles of a pod by volume and place, or why there is none.
pub type Bundles = BTreeMap<(String, usize), Result<Arc<Bundle>, String>>;

/// The sources of a pod's volumes that want a certificate.
///
/// # Errors
/// When they are more than one pod gets.
pub fn projections(pod: &Pod) -> Result<Vec<(Projection, &PodCertificateProjection)>, String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut found = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for (source, projection) in sources.enumerate() {
            if let Some(wanted) = &projection.pod_certificate {
                found.push((Projection { uid: uid.clone(), volume: volume.name.clone(), source }, wanted));
            }
        }
    }
    if found.len() > MOST_CERTIFICATES {
        return Err(format!("the pod asks for {} certificates, this node gets {MOST_CERTIFICATES} at most", found.len()));
    }
    Ok(found)
}

/// What is known of one projection.
#[derive(Clone, Debug)]
struct Record {
    /// Namespace and name of the pod.
    pod: (String, String),
    signer: String,
    state: State,
}

/// What the projections of this node's pods have: the manager writes it, pods' workers read it.
#[derive(Debug, Default)]
pub struct PodCertificates {
    is_on: bool,
    known: Mutex<BTreeMap<Projection, Record>>,
}

impl PodCertificates {
    /// With certificates for pods, or without.
    pub fn new(is_on: bool) -> Self {
        PodCertificates { is_on, known: Mutex::default() }
    }

    /// What a pod's volumes are written of.
    ///
    /// # Errors
    /// When they want more than one pod gets.
    pub fn bundles(&self, pod: &Pod) -> Result<Bundles, String> {
        let known = self.known.lock();
        let of = |projection: &Projection| match known.get(projection) {
            _ if !self.is_on => Err("certificates of pods are switched off on this node (PodCertificateRequest)".to_owned()),
            Some(record) => record.state.bundle(),
            None => Err("no credentials yet".to_owned()),
        };
        let all = projections(pod)?.into_iter();
        Ok(all.map(|(projection, _)| ((projection.volume.clone(), projection.source), of(&projection))).collect())
    }

    /// How many projections there are by signer and state, as metrics name it.
    pub fn states(&self, now: Timestamp) -> BTreeMap<(String, &'static str), usize> {
        let mut states = BTreeMap::new();
        for record in self.known.lock().values() {
            *states.entry((record.signer.clone(), record.state.label(now))).or_default() += 1;
        }
        states
    }

    /// How far a projection is.
    pub fn state(&self, projection: &Projection) -> State {
        self.known.lock().get(projection).map_or(State::Initial, |record| record.state.clone())
    }

    /// Notes how far a projection of a pod (namespace and name) is.
    pub fn set(&self, projection: &Projection, (namespace, name): (&str, &str), signer: &str, state: State) {
        let record = Record { pod: (namespace.to_owned(), name.to_owned()), signer: signer.to_owned(), state };
        self.known.lock().insert(projection.clone(), record);
    }

    /// Forgets the keys of those who have this name, but for the pod with this uid.
    pub fn forget(&self, (namespace, name): (&str, &str), but: Option<&str>) {
        let is_gone = |projection: &Projection, record: &Record| {
            (record.pod.0.as_str(), record.pod.1.as_str()) == (namespace, name) && Some(projection.uid.as_str()) != but
        };
        self.known.lock().retain(|projection, record| !is_gone(projection, record));
    }
}
