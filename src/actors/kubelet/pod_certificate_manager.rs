//! Certificates of this node's pods (see `pod_certificates`): carries out what is planned for each.
//!
//! In: pods of this node, and what becomes of their requests. Out: requests, events, and the bundles that pods' workers write into volumes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestSpec},
        core::v1::{Pod, PodCertificateProjection},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use rand::Rng;
use troupe_api::{
    certificates::ProvenKey,
    meta::{FieldSelector, ObjectKey},
    service::WatchOptions,
};
use troupe_api_client::Client;

use super::{
    context::NodeContext,
    manifests::is_mirror,
    pod_certificates::{
        PodCertificates,
        keys::Keys,
        metrics,
        plan::{LONGEST_JITTER, Plan, plan},
        projections,
        queue::Order,
    },
};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{self, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// How often a pod with certificates is looked at, and how much later at most.
const LOOK: Duration = Duration::from_secs(60);

/// See the module. Keys are pods of this node.
pub struct PodCertificateManager {
    context: Arc<NodeContext>,
    store: Arc<PodCertificates>,
    keys: Arc<Keys>,
    pods: Cache<Pod>,
    requests: Cache<PodCertificateRequest>,
}

impl PodCertificateManager {
    /// Starts the unit `kubelet/pod-certificates`, which looks after the `pods` of this node; `client` acts as the node.
    pub fn start(caches: &Caches, client: &Client, context: &Arc<NodeContext>, pods: Cache<Pod>) {
        let fields = FieldSelector::parse(&format!("spec.nodeName={}", context.node_name)).expect("a node's name is a valid field value");
        let requests = caches.selected("-of-node", WatchOptions { fields, ..WatchOptions::default() });
        let (context, store) = (context.clone(), context.pod_certificates.clone());
        let manager = PodCertificateManager { context, store, keys: Arc::default(), pods, requests };
        controller::start_below("kubelet", caches.system(), caches, client.clone(), manager);
    }

    /// Asks for a certificate for a key: what the pod, its account and this node are is told the signer, and checked by the API server.
    async fn ask(
        &self,
        pod: &Pod,
        wanted: &PodCertificateProjection,
        key: &ProvenKey,
        cx: &ReconcileContext,
    ) -> Result<Arc<PodCertificateRequest>, ReconcileError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
        let known = self.context.cluster.service_account(namespace, account).await?;
        let account_uid = known.and_then(|known| known.metadata.uid.clone());
        let account_uid = account_uid.ok_or_else(|| ReconcileError::Other(format!("service account {namespace}/{account} is not there")))?;
        let node = self.context.cluster.node(&self.context.node_name).await?;
        let node_uid = node.and_then(|node| node.metadata.uid.clone());
        let node_uid = node_uid.ok_or_else(|| ReconcileError::Other("the node is not there yet".into()))?;
        let spec = PodCertificateRequestSpec {
            signer_name: wanted.signer_name.clone(),
            pod_name: pod.metadata.name.clone().unwrap_or_default(),
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            service_account_name: account.to_owned(),
            service_account_uid: account_uid,
            node_name: self.context.node_name.to_string(),
            node_uid,
            max_expiration_seconds: wanted.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(key.request.clone()),
            unverified_user_annotations: wanted.user_annotations.clone(),
            ..PodCertificateRequestSpec::default()
        };
        let request = PodCertificateRequest { metadata: metadata(pod), spec, status: None };
        Ok(cx.client().namespaced::<PodCertificateRequest>(namespace).create(&request).await?)
    }
}

/// A request belongs to its pod, with which it goes.
fn metadata(pod: &Pod) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    ObjectMeta {
        namespace: pod.metadata.namespace.clone(),
        generate_name: Some("req-".into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Whether the pod uses what it has, or will: mirrors of static pods get nothing.
fn is_served(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    !is_mirror(pod) && !matches!(phase, "Succeeded" | "Failed")
}

fn jitter(cx: &ReconcileContext) -> SignedDuration {
    SignedDuration::from_millis(cx.system().rng().random_range(0..i64::try_from(LONGEST_JITTER.as_millis()).unwrap_or(1)))
}

impl Controller for PodCertificateManager {
    const NAME: &'static str = "pod-certificates";
    const EVENT_SOURCE: Option<&'static str> = Some("kubelet");

    fn watches(&self, watches: &mut Watches<'_>) {
        self.keys.wake_by(watches.waker());
        watches.map_of(&self.pods, |change| vec![change.key.clone()]);
        watches.map_of(&self.requests, |change| {
            let pod = |request: &Arc<PodCertificateRequest>| ObjectKey::new(change.key.namespace.clone(), request.spec.pod_name.as_str());
            change.after().or(change.before()).map(pod).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let pod = self.pods.get(key).map(|cached| cached.object).filter(|pod| is_served(pod));
        let name = (&*key.namespace, &*key.name);
        let uid = pod.as_ref().and_then(|pod| pod.metadata.uid.as_deref());
        self.store.forget(name, uid);
        self.keys.forget(key, uid);
        let Some(pod) = pod else {
            metrics::seen(self.store.states(cx.now()));
            return Ok(Outcome::Done);
        };
        // The worker tells of a pod that wants too many.
        let wanted: BTreeMap<_, _> = projections(&pod).unwrap_or_default().into_iter().collect();
        if wanted.is_empty() {
            return Ok(Outcome::Done);
        }
        let mut failure = None;
        for (projection, source) in wanted {
            let state = self.store.state(&projection);
            let request = state.request().and_then(|name| self.requests.get(&ObjectKey::new(key.namespace.clone(), name)));
            let planned = plan(state, request.as_ref().map(|cached| &*cached.object), cx.now(), jitter(cx));
            let Plan { notes, state, asks } = planned;
            notes.into_iter().for_each(|note| self.context.events.pod(&pod, note));
            self.store.set(&projection, name, &source.signer_name, state.clone());
            if !asks {
                continue;
            }
            let order = Order { pod: key.clone(), projection: projection.clone(), key_type: source.key_type.clone() };
            let made = match self.keys.take(&order) {
                // It wakes the pod when it is there.
                None => continue,
                Some(Ok(made)) => made,
                Some(Err(error)) => {
                    failure = failure.or(Some(ReconcileError::Other(error)));
                    continue;
                }
            };
            let asked = self.ask(&pod, source, &made, cx).await;
            match asked {
                Ok(request) => {
                    cx.wrote(&self.requests, &*request);
                    let at = request.metadata.creation_timestamp.as_ref().map_or_else(|| cx.now(), |time| time.0);
                    let named = request.metadata.name.clone().unwrap_or_default();
                    self.store.set(&projection, name, &source.signer_name, state.asked(made.key_pem.into(), named, at, jitter(cx)));
                }
                Err(error) => {
                    self.keys.put_back(&order, made);
                    failure = failure.or(Some(error));
                }
            }
        }
        metrics::seen(self.store.states(cx.now()));
        let later = LOOK.mul_f64(1.0 + cx.system().rng().random_range(0.0..1.0));
        failure.map_or(Ok(Outcome::RequeueAfter(later)), Err)
    }
}
