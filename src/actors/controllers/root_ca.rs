//! Root CA publisher: every active namespace has the ConfigMap `kube-root-ca.crt`, from which pods trust the API server.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use troupe_api::{
    meta::{FieldSelector, ObjectKey},
    service::WatchOptions,
};

use super::{namespace::is_active, writes::is_namespace_terminating};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const NAME: &str = "kube-root-ca.crt";
const ANNOTATION: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal \
                           service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// See the module. Keys are namespaces.
pub struct RootCaPublisher {
    namespaces: Cache<Namespace>,
    maps: Cache<ConfigMap>,
    ca_pem: Arc<str>,
}

impl RootCaPublisher {
    pub fn new(caches: &Caches, ca_pem: impl Into<Arc<str>>) -> Self {
        // Others' maps are many and large, and nothing to this controller.
        let fields = FieldSelector::parse(&format!("metadata.name={NAME}")).expect("a valid selector");
        let maps = caches.selected(" of the root CA", WatchOptions { fields, ..WatchOptions::default() });
        RootCaPublisher { namespaces: caches.cache(), maps, ca_pem: ca_pem.into() }
    }
}

/// What to do about a namespace's map.
#[derive(Debug, PartialEq)]
enum Action {
    Create(ConfigMap),
    Update(ConfigMap),
}

fn plan(namespace: &Namespace, current: Option<&ConfigMap>, ca_pem: &str) -> Option<Action> {
    if !is_active(namespace) {
        return None;
    }
    let data = Some(BTreeMap::from([("ca.crt".to_owned(), ca_pem.to_owned())]));
    let Some(current) = current else {
        let mut made = ConfigMap { data, ..ConfigMap::default() };
        made.metadata.name = Some(NAME.into());
        made.metadata.namespace = namespace.metadata.name.clone();
        made.metadata.annotations = Some(BTreeMap::from([(ANNOTATION.to_owned(), DESCRIPTION.to_owned())]));
        return Some(Action::Create(made));
    };
    (current.data != data).then(|| Action::Update(ConfigMap { data, ..current.clone() }))
}

impl Controller for RootCaPublisher {
    const NAME: &'static str = "root-ca-certificate-publisher";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Namespace>();
        watches.map_of(&self.maps, |change| {
            let ours = &*change.key.name == NAME;
            ours.then(|| ObjectKey::cluster(change.key.namespace.clone())).into_iter().collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(Outcome::Done) };
        let current = self.maps.get(&ObjectKey::new(key.name.clone(), NAME));
        let api = cx.client().namespaced::<ConfigMap>(key.name.clone());
        let written = match plan(&namespace.object, current.as_ref().map(|cached| &*cached.object), &self.ca_pem) {
            None => return Ok(Outcome::Done),
            Some(Action::Create(map)) => api.create(&map).await,
            Some(Action::Update(map)) => api.update(&map).await,
        };
        match written {
            Ok(written) => cx.wrote(&self.maps, &*written),
            Err(status) if status.is_already_exists() || status.is_not_found() => {}
            // The namespace began to terminate in between.
            Err(status) if is_namespace_terminating(&status) => {}
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_map_is_put_right_and_a_right_one_left_alone() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("n".into());
        namespace.status.get_or_insert_default().phase = Some("Active".into());
        let Some(Action::Create(mut map)) = plan(&namespace, None, "CA") else { panic!("must be created") };
        assert_eq!(plan(&namespace, Some(&map), "CA"), None);
        map.data = None;
        assert!(matches!(plan(&namespace, Some(&map), "CA"), Some(Action::Update(_))));
    }
}
