use serde_json::json;
use troupe_api::{
    auth::pki::Pki,
    features::FeatureGates,
    resources::{builtin, optional},
};
use troupe_api_server::store::memory::MemoryStore;

use super::{plan::name_of, *};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with, eventually},
    },
    runtime::{
        controller::start,
        system::{System, SystemOptions},
    },
};

const BUNDLES: &str = "clustertrustbundles.certificates.k8s.io";

fn made(actions: &[Action]) -> Vec<Arc<ClusterTrustBundle>> {
    let made = actions.iter().filter_map(|action| match action {
        Action::Create(bundle) | Action::Update(bundle) => Some(Arc::new(bundle.clone())),
        Action::Delete { .. } => None,
    });
    made.collect()
}

#[test]
fn one_bundle_is_published_and_what_was_before_goes() {
    let first = plan(&[], "one");
    let [Action::Create(bundle)] = &first[..] else { panic!("must be created: {first:?}") };
    assert_eq!(bundle.metadata.name.as_deref(), Some("kubernetes.io:kube-apiserver-serving:7692c3ad3540bb803c020b3a"));
    assert_eq!((bundle.spec.signer_name.as_deref(), bundle.spec.trust_bundle.as_str()), (Some(SIGNER), "one"));
    let published = made(&first);
    assert_eq!(plan(&published, "one"), vec![]);
    let next = plan(&published, "two");
    assert!(matches!(&next[..], [Action::Create(_), Action::Delete { name, .. }] if *name == name_of("one")), "{next:?}");
    let mut changed = published;
    Arc::make_mut(&mut changed[0]).spec.trust_bundle = "other".into();
    let right = plan(&changed, "one");
    assert!(matches!(&right[..], [Action::Update(_)]), "{right:?}");
    assert_eq!(plan(&made(&right), "one"), vec![]);
}

fn authority() -> String {
    let directory = tempfile::tempdir().expect("a directory");
    Pki::open(directory.path()).expect("opens").ca_pem().to_owned()
}

/// A server that serves bundles, on which the publisher runs for an authority.
async fn publishing(ca_pem: &str) -> (TestApi, Caches) {
    let system = System::new(SystemOptions::default()).expect("arbiters start");
    let features = FeatureGates::parse(&["ClusterTrustBundle=true".into()]).expect("there is such a feature");
    let resources = builtin().into_iter().chain(optional(|feature| features.is_on(feature))).collect();
    let options = ApiServerOptions { system: system.clone(), resources, features, ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    let api = boot_with(options).await;
    let caches = Caches::new(system.clone(), api.client.clone());
    start(&system, &caches, api.client.clone(), TrustBundlePublisher::new(&caches, ca_pem));
    (api, caches)
}

async fn is_published(api: &TestApi, ca: &str) -> bool {
    api.get(BUNDLES, "", &name_of(ca)).await.is_ok_and(|bundle| bundle.str(&["spec", "trustBundle"]) == ca)
}

#[actix::test]
async fn the_bundle_is_there_and_comes_back_and_others_of_the_signer_do_not_stay() {
    let (ca, older) = (authority(), authority());
    let (api, _caches) = publishing(&ca).await;
    let name = name_of(&ca);
    eventually("it is published", async || is_published(&api, &ca).await).await;
    api.delete(BUNDLES, "", &name, DeleteOptions::default()).await.expect("deleted");
    eventually("it is published again", async || is_published(&api, &ca).await).await;
    let bundle = |name: &str, signer: &str| {
        let spec = json!({"signerName": signer, "trustBundle": older});
        json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": {"name": name}, "spec": spec})
    };
    api.create(bundle("example.com:s:a", "example.com/s")).await;
    api.create(bundle("kubernetes.io:kube-apiserver-serving:old", SIGNER)).await;
    let left = ["example.com:s:a".to_owned(), name.clone()];
    eventually("what others published for the signer goes", async || api.names(BUNDLES, "").await == left).await;
}
