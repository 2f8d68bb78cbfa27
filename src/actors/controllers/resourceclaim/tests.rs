use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use serde_json::{Value, from_value, json};

use super::plan::*;
use crate::devices::claims_of;

fn pod(status: Value) -> Pod {
    let spec = json!({"containers": [], "nodeName": "n1", "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]});
    from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "spec": spec, "status": status})).expect("a pod")
}

fn template() -> Arc<ResourceClaimTemplate> {
    let spec = json!({"metadata": {"labels": {"app": "web"}, "annotations": {"note": "x"}}, "spec": {"devices": {}}});
    Arc::new(from_value(json!({"metadata": {"name": "t", "namespace": "n"}, "spec": spec})).expect("a template"))
}

fn made_for(uid: &str, status: Value) -> Arc<ResourceClaim> {
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid, "controller": true}]);
    let annotations = json!({"resource.kubernetes.io/pod-claim-name": "gpu"});
    let metadata = json!({"name": "web-gpu-x", "namespace": "n", "ownerReferences": owner, "annotations": annotations});
    Arc::new(from_value(json!({"metadata": metadata, "spec": {}, "status": status})).expect("a claim"))
}

fn lacks(pod: &Pod, claim: Option<Arc<ResourceClaim>>, owned: &[Arc<ResourceClaim>]) -> Result<Lacking, String> {
    lacking(pod, &claims_of(pod)[0], &|_| claim.clone(), owned, &|_| Some(template()))
}

#[test]
fn a_claim_is_made_of_its_template_once() {
    let new = pod(json!({}));
    let Ok(Lacking::Claim(claim)) = lacks(&new, None, &[]) else { panic!("it has to be made") };
    assert_eq!(claim.metadata.generate_name.as_deref(), Some("web-gpu-"));
    let annotations = claim.metadata.annotations.as_ref().expect("annotations");
    assert_eq!((annotations["note"].as_str(), annotations["resource.kubernetes.io/pod-claim-name"].as_str()), ("x", "gpu"));
    assert_eq!(claim.metadata.labels.as_ref().expect("labels")["app"], "web");
    assert_eq!(owned_by(&claim).map(|owner| owner.uid.as_str()), Some("u"));
    // The controller may have died before the pod said so.
    assert_eq!(lacks(&new, None, &[made_for("u", json!({}))]), Ok(Lacking::Name("web-gpu-x".into())));
    let told = pod(json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "web-gpu-x"}]}));
    assert_eq!(lacks(&told, Some(made_for("u", json!({}))), &[]), Ok(Lacking::Nothing));
    assert!(matches!(lacks(&told, Some(made_for("other", json!({}))), &[]), Ok(Lacking::Claim(_))), "it is somebody else's by now");
    assert!(matches!(lacks(&told, None, &[]), Ok(Lacking::Claim(_))), "it was deleted by mistake");
}

#[test]
fn what_is_missing_is_said() {
    let why = lacking(&pod(json!({})), &claims_of(&pod(json!({})))[0], &|_| None, &[], &|_| None);
    assert_eq!(why, Err("resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found".into()));
}

#[test]
fn long_names_are_cut_by_the_same_share() {
    let mut long = pod(json!({}));
    long.metadata.name = Some("p".repeat(80));
    let Ok(Lacking::Claim(claim)) = lacks(&long, None, &[]) else { panic!("it has to be made") };
    let base = claim.metadata.generate_name.clone().expect("a base");
    assert!(base.len() <= 57 && base.ends_with("-gp"), "{base}");
}

#[test]
fn a_pod_past_the_scheduler_is_entered_in_its_claims() {
    let placed = pod(json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "web-gpu-x"}]}));
    let reserved = |claim: Arc<ResourceClaim>| reservations_of(&placed, &|_| Some(claim.clone())).len();
    assert_eq!(reserved(made_for("u", json!({"allocation": {}}))), 1);
    assert_eq!(reserved(made_for("u", json!({}))), 0, "there is nothing to use");
    assert_eq!(reserved(made_for("u", json!({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "web", "uid": "u"}]}))), 0);
    assert_eq!(reserved(made_for("other", json!({"allocation": {}}))), 0);
}

#[test]
fn pods_that_never_run_need_no_claims() {
    let mut pod = pod(json!({}));
    assert!(!is_done(&pod));
    pod.metadata.deletion_timestamp = from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    assert!(!is_done(&pod), "its containers still run");
    pod.spec.get_or_insert_default().node_name = None;
    assert!(is_done(&pod));
    pod.metadata.deletion_timestamp = None;
    pod.status.get_or_insert_default().phase = Some("Succeeded".into());
    assert!(is_done(&pod));
}
