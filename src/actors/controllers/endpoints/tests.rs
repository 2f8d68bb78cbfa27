use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use serde_json::json;

use super::plan::{Action, plan};
use crate::{
    controllers::endpointslice::{pods::EndpointPod, trigger_times::LAST_CHANGE},
    runtime::cache::digest_of,
};

fn service() -> Service {
    let spec = json!({"clusterIP": "10.96.0.5", "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "labels": {"team": "a"}}, "spec": spec})).expect("a service")
}

fn pod(ip: &str, ready: bool) -> Arc<EndpointPod> {
    let object = json!({
        "metadata": {"name": ip, "namespace": "n", "uid": ip},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    digest_of(&serde_json::from_value::<Pod>(object).expect("a pod"))
}

#[test]
fn ready_and_unready_addresses_stand_apart_in_order() {
    let pods = [pod("10.0.0.3", true), pod("10.0.0.1", true), pod("10.0.0.2", false)];
    let Some(Action::Create(endpoints)) = plan(&service(), &pods, None, None) else { panic!("must be created") };
    let subset = &endpoints.subsets.as_ref().expect("one")[0];
    let ips = |list: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| list.iter().flatten().map(|a| a.ip.clone()).collect::<Vec<_>>();
    assert_eq!((ips(&subset.addresses), ips(&subset.not_ready_addresses)), (vec!["10.0.0.1".into(), "10.0.0.3".into()], vec!["10.0.0.2".into()]));
    assert_eq!(subset.ports.as_ref().expect("set")[0].port, 8080);
    assert_eq!(plan(&service(), &pods, Some(&endpoints), None), None);
}

#[test]
fn the_object_follows_its_services_labels() {
    let Some(Action::Create(endpoints)) = plan(&service(), &[], None, None) else { panic!("must be created") };
    assert_eq!(endpoints.metadata.labels.as_ref().expect("set")["team"], "a");
    assert_eq!(endpoints.subsets, None);
}

#[test]
fn a_port_that_all_pods_serve_stands_apart_from_those_that_some_do() {
    let ports = json!([{"name": "web", "port": 80, "protocol": "TCP", "targetPort": "web"}, {"name": "debug", "port": 81, "protocol": "TCP", "targetPort": 8081}]);
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"clusterIP": "10.96.0.5", "ports": ports}}))
            .expect("a service");
    let serving = |ip: &str, port: i32| -> Arc<EndpointPod> {
        let ports = json!([{"name": "web", "containerPort": port, "protocol": "TCP"}]);
        let object = json!({"metadata": {"name": ip, "namespace": "n", "uid": ip}, "spec": {"containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}});
        digest_of(&serde_json::from_value::<Pod>(object).expect("a pod"))
    };
    let pods = [serving("10.0.0.1", 8080), serving("10.0.0.2", 9090), serving("10.0.0.3", 8080)];
    let Some(Action::Create(endpoints)) = plan(&service, &pods, None, None) else { panic!("must be created") };
    let mut found: Vec<(Vec<i32>, Vec<String>)> = endpoints
        .subsets
        .iter()
        .flatten()
        .map(|subset| {
            let ports = subset.ports.iter().flatten().map(|port| port.port).collect();
            (ports, subset.addresses.iter().flatten().map(|address| address.ip.clone()).collect())
        })
        .collect();
    found.sort();
    let at = |ips: &[&str]| ips.iter().map(|ip| format!("10.0.0.{ip}")).collect::<Vec<_>>();
    assert_eq!(found, [(vec![8080], at(&["1", "3"])), (vec![8081], at(&["1", "2", "3"])), (vec![9090], at(&["2"]))]);
    assert_eq!(plan(&service, &pods, Some(&endpoints), None), None);
}

#[test]
fn the_object_tells_when_the_change_was_made_and_is_not_written_for_that() {
    let triggered = |second: i64| Some(Timestamp::from_second(second).expect("a time"));
    let told = |endpoints: &Endpoints| endpoints.metadata.annotations.as_ref().and_then(|told| told.get(LAST_CHANGE)).cloned();
    let pods = [pod("10.0.0.1", true)];
    let Some(Action::Create(made)) = plan(&service(), &pods, None, triggered(1)) else { panic!("must be created") };
    assert_eq!(told(&made).as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(plan(&service(), &pods, Some(&made), triggered(2)), None, "nothing else changed");
    assert_eq!(plan(&service(), &pods, Some(&made), None), None);
    let Some(Action::Update(changed)) = plan(&service(), &[], Some(&made), triggered(3)) else { panic!("must be updated") };
    assert_eq!(told(&changed).as_deref(), Some("1970-01-01T00:00:03Z"));
    let Some(Action::Update(untold)) = plan(&service(), &[], Some(&made), None) else { panic!("must be updated") };
    assert_eq!(untold.metadata.annotations, None, "of this change no time is known");
}
