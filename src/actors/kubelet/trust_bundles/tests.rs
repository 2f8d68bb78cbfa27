use serde_json::{Value, json};
use troupe_api::{
    auth::pki::Pki,
    certificates::pem,
    features::FeatureGates,
    meta::{Object, Revision},
    resources::{builtin, enablement::RuntimeConfig, optional},
    stored::StoredObject,
};
use troupe_api_server::store::memory::MemoryStore;

use super::*;
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot, boot_with, eventually},
    },
    runtime::system::{System, SystemOptions},
};

/// Bundles by name, signer, labels and content, as if they were watched.
pub(crate) fn known(bundles: &[(&str, &str, Value, &str)]) -> TrustBundles {
    let stored = bundles.iter().map(|(name, signer, labels, text)| {
        let mut object = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "spec": {"trustBundle": text}});
        object["metadata"] = json!({"name": name, "labels": labels, "resourceVersion": "1"});
        if !signer.is_empty() {
            object["spec"]["signerName"] = (*signer).into();
        }
        let stored = StoredObject::from_object(&Object::from_value(object).expect("an object")).expect("well formed");
        (stored.key.clone(), Arc::new(stored))
    });
    let cache: Cache<v1beta1::ClusterTrustBundle> = by_signer(Cache::default());
    cache.replace_now(stored.collect(), Revision(1));
    TrustBundles { versions: Versions::Beta(cache), seed: 1 }
}

fn asked(mut projection: Value) -> ClusterTrustBundleProjection {
    projection["path"] = "t".into();
    serde_json::from_value(projection).expect("a projection")
}

#[test]
fn a_bundle_is_found_by_its_name_or_by_signer_and_labels() {
    let (one, two) = (pem("CERTIFICATE", b"one"), pem("CERTIFICATE", b"two"));
    let bundles = known(&[
        ("plain", "", json!({"live": "yes"}), &one),
        ("example.com:s:a", "example.com/s", json!({"live": "yes"}), &one),
        ("example.com:s:b", "example.com/s", json!({"live": "no"}), &format!("{two}{one}")),
        ("example.com:t:a", "example.com/t", json!({"live": "yes"}), &two),
    ]);
    let file = |projection: Value| bundles.file(&asked(projection));
    assert_eq!(file(json!({"name": "plain"})), Ok(one.clone()));
    let live = json!({"signerName": "example.com/s", "labelSelector": {"matchLabels": {"live": "yes"}}});
    assert_eq!(file(live), Ok(one.clone()));
    let all = file(json!({"signerName": "example.com/s", "labelSelector": {}})).expect("there are some");
    assert!(all.len() == one.len() + two.len() && all.contains(&one) && all.contains(&two), "{all}");
}

#[test]
fn what_is_missing_is_an_empty_file_where_it_may_be() {
    let bundles = known(&[("example.com:s:a", "example.com/s", json!({}), "")]);
    let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
    for (projection, why) in [
        (json!({"name": "x"}), "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"x\" not found"),
        (json!({"signerName": "example.com/s"}), none),
        (json!({"signerName": "example.com/s", "labelSelector": {"matchLabels": {"a": "b"}}}), none),
        (json!({"signerName": "example.com/t", "labelSelector": {}}), none),
    ] {
        assert_eq!(bundles.file(&asked(projection.clone())), Err(why.to_owned()));
        let mut optional = projection;
        optional["optional"] = true.into();
        assert_eq!(bundles.file(&asked(optional)), Ok(String::new()));
    }
    let neither = bundles.file(&asked(json!({"optional": true}))).expect_err("says nothing");
    assert_eq!(neither, "ClusterTrustBundle projection requires either name or signerName to be set");
}

/// An API server that serves bundles.
async fn serving() -> TestApi {
    let features = FeatureGates::parse(&["ClusterTrustBundle=true".into()]).expect("there is such a feature");
    let said = RuntimeConfig::parse(&["certificates.k8s.io/v1beta1=true".into()]).expect("parses");
    let resources = said.apply(builtin(), optional(|feature| features.is_on(feature))).expect("there is such a version");
    boot_with(ApiServerOptions { resources, features, ..ApiServerOptions::new(Arc::new(MemoryStore::new())) }).await
}

/// The certificate of a new authority.
fn authority() -> String {
    let directory = tempfile::tempdir().expect("a directory");
    Pki::open(directory.path()).expect("opens").ca_pem().to_owned()
}

fn watch(api: &TestApi) -> BundleWatch {
    let system = System::new(SystemOptions::default()).expect("arbiters start");
    BundleWatch::new(Caches::new(system, api.client.clone()), 1)
}

#[actix::test]
async fn bundles_are_seen_as_they_come_change_and_go() {
    let api = serving().await;
    let watch = watch(&api);
    let bundles = watch.bundles().await.expect("they are served");
    let projection = asked(json!({"name": "b"}));
    assert!(bundles.file(&projection).is_err());
    let (one, two) = (authority(), authority());
    let holds = |anchor: &str| bundles.file(&projection) == Ok(anchors::united([anchor].into_iter(), 1));
    let spec = json!({"trustBundle": one});
    let bundle = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": {"name": "b"}, "spec": spec});
    let mut made = api.create(bundle).await;
    eventually("it is seen", async || holds(&one)).await;
    made.set(&["spec", "trustBundle"], two.as_str());
    api.try_update(made.into_value()).await.expect("changes");
    eventually("its change is seen", async || holds(&two)).await;
    api.delete("clustertrustbundles.certificates.k8s.io", "", "b", Default::default()).await.expect("deleted");
    eventually("it is gone", async || bundles.file(&projection).is_err()).await;
}

#[actix::test]
async fn where_nobody_serves_bundles_pods_are_told_so() {
    let api = boot().await;
    let refused = watch(&api).bundles().await.expect_err("are not served");
    assert_eq!(refused.message, NOT_SERVED);
}

#[test]
fn only_volumes_that_project_bundles_ask_for_them() {
    let volume = |sources: Value| -> Volume { serde_json::from_value(json!({"name": "v", "projected": {"sources": sources}})).expect("a volume") };
    assert!(is_asked_for(&volume(json!([{"secret": {"name": "s"}}, {"clusterTrustBundle": {"path": "t"}}]))));
    assert!(!is_asked_for(&volume(json!([{"secret": {"name": "s"}}]))));
    assert!(!is_asked_for(&Volume::default()));
}
