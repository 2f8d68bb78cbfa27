use serde_json::{Value, json};
use troupe_api::{
    meta::{FieldSelector, Object},
    service::ListOptions,
};

use crate::apiserver::testing::{TestApi, boot};

fn lease(name: &str, renewed: jiff::Timestamp) -> Value {
    let spec = json!({"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": format!("{renewed:.6}")});
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec})
}

fn condition(object: &Object) -> (String, String) {
    let condition = &object.list(&["conditions"])[0];
    assert_eq!(condition["type"], "Healthy");
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

async fn selected(api: &TestApi, fields: &str) -> Result<Vec<String>, u16> {
    let options = ListOptions { fields: FieldSelector::parse(fields).expect("parses"), ..ListOptions::default() };
    let list = api.list("componentstatuses", "", options).await.map_err(|status| status.code)?;
    Ok(list.items.iter().map(|object| object.key.name.to_string()).collect())
}

#[actix::test]
async fn components_are_as_their_leaders_leases_and_the_store_say() {
    let api = boot().await;
    let now = jiff::Timestamp::now();
    api.create(lease("kube-scheduler", now)).await;
    api.create(lease("kube-controller-manager", now - jiff::SignedDuration::from_mins(1))).await;
    assert_eq!(api.names("componentstatuses", "").await, ["controller-manager", "etcd-0", "scheduler"]);
    for well in ["etcd-0", "scheduler"] {
        let object = api.get("componentstatuses", "", well).await.expect("is there");
        assert_eq!((object.kind(), condition(&object)), ("ComponentStatus", ("True".into(), "ok".into())), "{well}");
    }
    let (status, message) = condition(&api.get("componentstatuses", "", "controller-manager").await.expect("is there"));
    assert_eq!(status, "False");
    assert!(message.starts_with("one holds the lease kube-system/kube-controller-manager, but renewed it 6"), "{message}");
    let missing = api.get("componentstatuses", "", "x").await.expect_err("is not there");
    assert_eq!((missing.code, missing.message.as_str()), (404, "componentstatus \"x\" not found"));
}

#[actix::test]
async fn components_are_selected_as_other_objects_are() {
    let api = boot().await;
    assert_eq!(selected(&api, "metadata.name=etcd-0").await, Ok(vec!["etcd-0".into()]));
    assert_eq!(selected(&api, "spec.x=y").await, Err(400));
}
