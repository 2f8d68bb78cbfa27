//! Bundles of trust anchors: two versions, selected by signer, written by who may attest for it.

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    ApiService,
    auth::{
        chain::{AuthorizerChain, PrivilegedGroups},
        pki::Pki,
        rbac::Rbac,
    },
    features::FeatureGates,
    meta::{Cause, Object},
    notices::Notices,
    resources::{builtin, optional},
    service::{ApiCall, Body, Operation, UserInfo, WriteOptions},
    status::Status,
};
use troupe_api_server::store::memory::MemoryStore;

use super::edge::door::Door;
use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

const BUNDLES: &str = "clustertrustbundles.certificates.k8s.io";

async fn server() -> TestApi {
    let features = FeatureGates::parse(&["ClusterTrustBundle=true".into()]).expect("there is such a feature");
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.resources = builtin().into_iter().chain(optional(|feature| features.is_on(feature))).collect();
    options.features = features;
    options.authorizer = Some(Box::new(|listers| Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(Rbac::new(listers))]))));
    boot_with(options).await
}

fn anchor() -> String {
    let directory = tempfile::tempdir().expect("a directory");
    Pki::open(directory.path()).expect("opens").ca_pem().to_owned()
}

fn bundle(name: &str, signer: &str, anchor: &str) -> Value {
    let mut bundle = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": {"name": name}});
    bundle["spec"] = json!({"trustBundle": anchor});
    if !signer.is_empty() {
        bundle["spec"]["signerName"] = signer.into();
    }
    bundle
}

#[actix::test]
async fn a_bundle_is_read_in_both_versions_and_selected_by_its_signer() {
    let mut door = Door::open_to(server().await).await;
    let group = "/apis/certificates.k8s.io";
    let versions = door.get(group).await.json()["versions"].as_array().expect("versions").clone();
    assert_eq!(versions.iter().map(|version| version["version"].clone()).collect::<Vec<_>>(), ["v1", "v1beta1", "v1alpha1"]);
    let (beta, alpha) = (format!("{group}/v1beta1/clustertrustbundles"), format!("{group}/v1alpha1/clustertrustbundles"));
    let anchor = anchor();
    let made = door.post(&beta, &bundle("example.com:s:a", "example.com/s", &anchor)).await;
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec![]), "{:?}", made.body);
    let mut plain = bundle("plain", "", &anchor);
    plain["apiVersion"] = "certificates.k8s.io/v1alpha1".into();
    let made = door.post(&alpha, &plain).await;
    assert_eq!((made.status.as_u16(), &made.json()["apiVersion"]), (201, &json!("certificates.k8s.io/v1alpha1")), "{:?}", made.body);
    assert_eq!(made.warnings(), ["certificates.k8s.io/v1alpha1 ClusterTrustBundle is deprecated in v1.34+, unavailable in v1.37+"]);
    let read = door.get(&format!("{beta}/plain")).await.json();
    assert_eq!((&read["apiVersion"], &read["spec"]), (&json!("certificates.k8s.io/v1beta1"), &json!({"trustBundle": anchor})));
    assert_eq!(read["metadata"]["generation"], Value::Null);
    let read = door.get(&format!("{alpha}/example.com:s:a")).await.json();
    assert_eq!((&read["apiVersion"], &read["spec"]["signerName"]), (&json!("certificates.k8s.io/v1alpha1"), &json!("example.com/s")));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = door.send("GET", &format!("{beta}?fieldSelector=spec.signerName%3Dexample.com%2Fs"), &accept, "").await.json();
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| row["cells"].clone()).collect::<Vec<_>>(), [json!(["example.com:s:a", "example.com/s"])]);
    let unknown = door.get(&format!("{beta}?fieldSelector=spec.trustBundle%3Da")).await;
    assert_eq!(unknown.refusal(), (400, "field label not supported: spec.trustBundle".to_owned()));
    door.close().await;
}

#[actix::test]
async fn what_is_no_bundle_is_refused_and_what_is_one_keeps_its_signer() {
    let api = server().await;
    let refused = api.try_create(bundle("b", "example.com/s", "none")).await.expect_err("is wrong").message;
    let name = "metadata.name: Invalid value: \"b\": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:";
    let anchors = "spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided";
    assert_eq!(refused, format!("ClusterTrustBundle.certificates.k8s.io \"b\" is invalid: [{name}, {anchors}]"));
    let mut made = api.create(bundle("b", "", &anchor())).await;
    made.set(&["spec", "signerName"], "example.com/s");
    let refused = api.try_update(made.clone().into_value()).await.expect_err("is another signer").message;
    assert!(refused.contains("spec.signerName: Invalid value: \"example.com/s\": field is immutable"), "{refused}");
    made.remove(&["spec", "signerName"]);
    made.remove(&["metadata", "resourceVersion"]);
    let refused = api.try_update(made.into_value()).await.expect_err("names no version").message;
    assert!(refused.contains("metadata.resourceVersion: Invalid value"), "{refused}");
}

async fn as_jane(api: &TestApi, name: &str, operation: Operation) -> Result<Object, Status> {
    let user = Arc::new(UserInfo { name: "jane".into(), ..UserInfo::default() });
    let call = ApiCall { user, target: api.target(BUNDLES, "", name), operation, cause: Cause::root(), notices: Notices::default() };
    api.server.call(call).await?.into_tree()
}

async fn create(api: &TestApi, name: &str, signer: &str) -> Result<Object, Status> {
    let body = Body::Json(bundle(name, signer, &anchor()).to_string().into());
    as_jane(api, "", Operation::Create { body, options: WriteOptions::default() }).await
}

async fn update(api: &TestApi, object: &Object) -> Result<Object, Status> {
    as_jane(api, object.name(), Operation::Update { body: Body::Tree(object.clone()), options: WriteOptions::default() }).await
}

#[actix::test]
async fn only_who_may_attest_for_a_signer_says_whom_it_is_trusted_by() {
    let api = server().await;
    let rbac = "rbac.authorization.k8s.io";
    let writes = json!({"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"], "verbs": ["*"]});
    let attests = |names: Value| json!({"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names, "verbs": ["attest"]});
    let rules = json!([writes, attests(json!(["example.com/s", "example.org/*"]))]);
    let version = format!("{rbac}/v1");
    api.create(json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "publisher"}, "rules": rules})).await;
    let subjects = json!([{"kind": "User", "apiGroup": rbac, "name": "jane"}]);
    let role = json!({"kind": "ClusterRole", "apiGroup": rbac, "name": "publisher"});
    api.create(
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "publisher"}, "subjects": subjects, "roleRef": role}),
    )
    .await;
    for (name, signer) in [("plain", ""), ("example.com:s:a", "example.com/s"), ("example.org:any:a", "example.org/any")] {
        create(&api, name, signer).await.unwrap_or_else(|status| panic!("{name}: {}", status.message));
    }
    let refused = create(&api, "example.com:t:a", "example.com/t").await.expect_err("may not attest for it").message;
    let why = "user not permitted to attest for signerName \"example.com/t\"";
    assert_eq!(refused, format!("clustertrustbundles.certificates.k8s.io \"example.com:t:a\" is forbidden: {why}"));
    let mut others = api.create(bundle("example.com:t:a", "example.com/t", &anchor())).await;
    others.set(&["metadata", "finalizers"], json!(["example.com/f"]));
    let mut others = update(&api, &others).await.expect("finalizers are the collector's");
    others.set(&["metadata", "labels"], json!({"a": "b"}));
    assert!(update(&api, &others).await.expect_err("labels select").message.ends_with(why));
}
