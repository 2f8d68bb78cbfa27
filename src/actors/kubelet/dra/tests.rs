use std::{collections::HashMap, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use serde_json::{Value, from_value, json};
use tonic::Status;

use super::{proto::*, *};
use crate::{
    apiserver::testing::{TestApi, boot},
    kubelet::{
        plugin_testing::{self, Served, unary},
        plugins::{Handler, Plugin},
    },
};

const DRIVER: &str = "gpu.example.com";

/// What a driver was asked, and what it says.
#[derive(Default)]
struct Script {
    calls: Mutex<Vec<String>>,
    error: Mutex<String>,
}

fn driver(socket: &Path, script: &Arc<Script>) -> Served {
    let said = script.clone();
    let prepare = unary(move |request: PrepareRequest| {
        let mut claims = HashMap::new();
        for claim in request.claims {
            said.calls.lock().push(format!("prepare {}", claim.name));
            let device = |request: &str, number: u32| Device {
                request_names: vec![request.into()],
                pool_name: "n1".into(),
                device_name: format!("gpu-{number}"),
                cdi_device_ids: vec![format!("example.com/gpu={number}")],
                share_id: None,
            };
            claims.insert(claim.uid, Prepared { devices: vec![device("a", 0), device("b", 1)], error: said.error.lock().clone() });
        }
        Ok::<_, Status>(PrepareResponse { claims })
    });
    let said = script.clone();
    let unprepare = unary(move |request: UnprepareRequest| {
        let names = request.claims.iter().map(|claim| format!("unprepare {}", claim.name));
        said.calls.lock().extend(names);
        let error = said.error.lock().clone();
        Ok::<_, Status>(UnprepareResponse {
            claims: request.claims.into_iter().map(|claim| (claim.uid, Unprepared { error: error.clone() })).collect(),
        })
    });
    let methods = vec![
        ("/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources", prepare),
        ("/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodeUnprepareResources", unprepare),
    ];
    plugin_testing::serve(socket, methods)
}

fn plugin(socket: &Path, versions: &[&str]) -> Plugin {
    let versions = versions.iter().map(|version| (*version).to_owned()).collect();
    Plugin { kind: KIND.into(), name: DRIVER.into(), endpoint: socket.to_owned(), versions }
}

/// A claim that a pod may use.
async fn claim(api: &TestApi, users: &[&str]) {
    let metadata = json!({"name": "c", "namespace": "default"});
    let requests = json!([{"name": "a", "exactly": {"deviceClassName": "gpu"}}, {"name": "b", "exactly": {"deviceClassName": "gpu"}}]);
    let object =
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": {"requests": requests}}});
    api.ensure(object).await;
    let result = |request: &str, device: &str| json!({"request": request, "driver": DRIVER, "pool": "n1", "device": device});
    let users: Vec<Value> = users.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
    let results = json!([result("a", "gpu-0"), result("b", "gpu-1")]);
    let status = json!({"status": {"allocation": {"devices": {"results": results}}, "reservedFor": users}});
    let target = api.subresource("resourceclaims.resource.k8s.io", "default", "c", "status");
    api.patch(target, troupe_api::service::PatchType::Merge, status).await.expect("allocated");
}

fn pod(uid: &str) -> Pod {
    let spec = json!({"containers": [{"name": "c"}], "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]});
    from_value(json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": spec})).expect("a pod")
}

fn container(request: &str) -> Container {
    let claim = if request.is_empty() { json!({"name": "gpu"}) } else { json!({"name": "gpu", "request": request}) };
    from_value(json!({"name": "c", "resources": {"claims": [claim]}})).expect("a container")
}

#[actix::test]
async fn claims_are_made_ready_once_and_taken_back_with_their_last_pod_over_a_restart() {
    let (api, place) = (boot().await, tempfile::tempdir().expect("a directory"));
    let dra = Arc::new(Dra::new(place.path(), "n1".into(), Some(api.client.clone())));
    claim(&api, &["one", "two"]).await;
    let absent = Err("prepare dynamic resources: DRA driver gpu.example.com is not registered".to_owned());
    assert_eq!(dra.prepare(&pod("one")).await, absent);
    assert!(dra.users().is_empty(), "a pod that never had anything can go at once");
    let foreign = dra.prepare(&pod("foreign")).await.expect_err("it is not entered");
    assert!(foreign.contains("pod foreign (foreign) is not allowed to use ResourceClaim c ("), "{foreign}");

    let (socket, script) = (place.path().join("dra.sock"), Arc::new(Script::default()));
    let _driver = driver(&socket, &script);
    dra.register(&plugin(&socket, &["v1.DRAPlugin"])).await.expect("registers");
    *script.error.lock() = "no such luck".into();
    let why = Err("prepare dynamic resources: NodePrepareResources failed for ResourceClaim c: no such luck".to_owned());
    assert_eq!(dra.prepare(&pod("one")).await, why);
    assert_eq!(dra.users(), ["one"], "the driver was asked and has to be asked to take it back");
    script.error.lock().clear();
    dra.prepare(&pod("one")).await.expect("is ready");
    dra.prepare(&pod("two")).await.expect("is ready");
    assert_eq!(*script.calls.lock(), ["prepare c", "prepare c"], "one that is ready is not made ready again");
    let devices = |dra: &Dra, request: &str| dra.cdi_devices(&pod("one"), &container(request));
    assert_eq!(devices(&dra, ""), Ok(vec!["example.com/gpu=0".into(), "example.com/gpu=1".into()]));
    assert_eq!(devices(&dra, "b"), Ok(vec!["example.com/gpu=1".into()]));

    // Another process knows it.
    let dra = Arc::new(Dra::new(place.path(), "n1".into(), Some(api.client.clone())));
    assert_eq!((dra.users(), devices(&dra, "b")), (vec!["one".to_owned(), "two".into()], Ok(vec!["example.com/gpu=1".into()])));
    dra.unprepare("one").await.expect("others use it");
    assert_eq!(dra.unprepare("two").await, Err("unprepare dynamic resources: DRA driver gpu.example.com is not registered".into()));
    dra.register(&plugin(&socket, &["v1.DRAPlugin"])).await.expect("registers");
    *script.error.lock() = "busy".into();
    assert_eq!(dra.unprepare("two").await, Err("unprepare dynamic resources: NodeUnprepareResources failed for ResourceClaim c: busy".into()));
    script.error.lock().clear();
    dra.unprepare("two").await.expect("taken back");
    dra.unprepare("two").await.expect("again is fine");
    assert_eq!(script.calls.lock()[2..], ["unprepare c", "unprepare c"]);
    assert!(dra.users().is_empty());
}

#[actix::test]
async fn while_a_driver_is_updated_the_newest_instance_that_is_there_is_asked() {
    let place = tempfile::tempdir().expect("a directory");
    let dra = Dra::new(place.path(), "n1".into(), None);
    let [old, new] = ["old", "new"].map(|name| place.path().join(name));
    let scripts = [(); 2].map(|()| Arc::new(Script::default()));
    let ask = || {
        let claim = Claim { namespace: "default".into(), uid: "u".into(), name: "c".into() };
        let driver = dra.drivers.get(DRIVER).expect("is registered");
        async move { driver.prepare(PrepareRequest { claims: vec![claim] }).await }
    };
    let asked = || scripts.each_ref().map(|script| script.calls.lock().len());
    let _old = driver(&old, &scripts[0]);
    for socket in [&old, &new] {
        dra.register(&plugin(socket, &["v1.DRAPlugin"])).await.expect("registers");
    }
    ask().await.expect("the new one is not there yet");
    assert_eq!(asked(), [1, 0]);
    let _new = driver(&new, &scripts[1]);
    ask().await.expect("both are there");
    assert_eq!(asked(), [1, 1]);
    *scripts[1].error.lock() = "no such luck".into();
    ask().await.expect("the answer tells of claims");
    assert_eq!(asked(), [1, 2], "what is refused is not asked of another");
    dra.deregister(DRIVER, &new).await;
    ask().await.expect("the old one is there");
    assert_eq!(asked(), [2, 2]);
}

#[actix::test]
async fn a_driver_speaks_a_version_that_is_known() {
    let place = tempfile::tempdir().expect("a directory");
    let dra = Dra::new(place.path(), "n1".into(), None);
    let socket = place.path().join("s");
    let odd = dra.validate(&plugin(&socket, &["v7.DRAPlugin"])).expect_err("it is not known");
    assert!(
        odd.ends_with(
            "none of services supported by the plugin ([\"v7.DRAPlugin\"]) are supported by the kubelet ([\"v1.DRAPlugin\" \"v1beta1.DRAPlugin\"])"
        ),
        "{odd}"
    );
    assert_eq!(dra.validate(&plugin(&socket, &["v1beta1.DRAPlugin", "v1.DRAPlugin"])), Ok(()));
    dra.register(&plugin(&socket, &["v1.DRAPlugin"])).await.expect("registers");
    assert!(dra.register(&plugin(&socket, &["v1.DRAPlugin"])).await.expect_err("twice").contains("already registered"));
    dra.deregister(DRIVER, &socket).await;
    dra.register(&plugin(&socket, &["v1.DRAPlugin"])).await.expect("it is back");
}

#[test]
fn what_is_kept_is_what_upstream_keeps() {
    let text = r#"{"kind":"DRACheckpoint","apiVersion":"checkpoint.dra.kubelet.k8s.io/v1","ClaimInfoStateList":[{"ClaimUID":"u","ClaimName":"c","Namespace":"n","PodUIDs":{"p":{}},"DriverState":{"d":{"Devices":[{"PoolName":"pool","DeviceName":"dev","ShareID":null,"RequestNames":["r"],"CDIDeviceIDs":["x/y=z"]}]}}}]}"#;
    let kept: Kept = serde_json::from_str(text).expect("readable");
    let claims = ClaimInfos::from(kept);
    assert_eq!(claims.get("n", "c").map(|claim| claim.cdi_devices("r")), Some(vec!["x/y=z".to_owned()]));
    assert_eq!(serde_json::to_string(&Kept::from(&claims)).expect("writable"), text);
}
