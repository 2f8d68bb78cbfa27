use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::{
    ExtenderSettings, Extenders, Opinion, ask, ask_preemption, bind,
    decide::{Begun, begin, finish},
    testing::serve,
    wire::field,
};
use crate::scheduler::{
    decide::{Decision, SchedulingContext},
    framework::{Candidate, Profile},
    object_lookup::NoObjects,
    placed_pod::PlacedPod,
    plugins::default_profile,
    pod_info::PodInfo,
    snapshot::Snapshot,
};

fn node(name: &str) -> Arc<Node> {
    let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod(name: &str, resource: &str) -> Arc<Pod> {
    let resources = json!({"requests": {"cpu": "1"}, "limits": {resource: "1"}});
    let spec = json!({"containers": [{"name": "c", "resources": resources}]});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": spec})).expect("a pod"))
}

fn settings(url: &str, more: &Value) -> ExtenderSettings {
    let mut extender = json!({"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 2});
    for (key, value) in more.as_object().into_iter().flatten() {
        extender[key] = value.clone();
    }
    ExtenderSettings::read(&extender).expect("usable")
}

async fn asked(extenders: Vec<ExtenderSettings>, nodes: &[&str]) -> Result<Opinion, String> {
    let (extenders, pod) = (Extenders::new(extenders), pod("p", "example.com/gpu"));
    ask(&extenders.of_nodes(&pod), &pod, nodes.iter().map(|name| node(name)).collect()).await
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn an_extender_filters_and_scores_by_names() {
    let url = serve(|verb, args| {
        assert_eq!(args["Pod"]["metadata"]["name"], "p");
        assert!(args["Nodes"].is_null());
        match verb {
            "filter" => (200, json!({"NodeNames": ["b", "c"], "FailedNodes": {"a": "too hot"}, "FailedAndUnresolvableNodes": {"d": "too far"}})),
            "prioritize" => (200, json!(names(&args["NodeNames"]).iter().map(|name| json!({"host": name, "score": 3})).collect::<Vec<_>>())),
            verb => panic!("{verb}"),
        }
    })
    .await;
    let opinion = asked(vec![settings(&url, &json!({"nodeCacheCapable": true}))], &["a", "b", "c", "d"]).await.expect("it answers");
    assert_eq!(opinion.nodes, ["b".to_owned(), "c".to_owned()].into());
    assert_eq!(opinion.failed["a"], ("too hot".to_owned(), false));
    assert_eq!(opinion.failed["d"], ("too far".to_owned(), true));
    assert_eq!(opinion.scores, [("b".to_owned(), 60), ("c".to_owned(), 60)].into(), "three of ten points, twice");
}

#[tokio::test]
async fn an_extender_without_a_cache_is_told_whole_nodes() {
    let url = serve(|_, args| {
        assert!(args["NodeNames"].is_null());
        let kept: Vec<Value> =
            args["Nodes"]["items"].as_array().expect("nodes").iter().filter(|node| node["metadata"]["name"] != "a").cloned().collect();
        assert_eq!(kept[0]["status"]["allocatable"]["cpu"], "4");
        (200, json!({"nodes": {"items": kept}}))
    })
    .await;
    let opinion = asked(vec![settings(&url, &json!({"prioritizeVerb": ""}))], &["a", "b"]).await.expect("it answers");
    assert_eq!(opinion.nodes, ["b".to_owned()].into());
}

#[tokio::test]
async fn one_that_fails_is_told_or_ignored_as_it_is_set() {
    let broken = serve(|_, _| (500, json!({}))).await;
    let failed = asked(vec![settings(&broken, &json!({}))], &["a"]).await.expect_err("it fails");
    assert_eq!(failed, format!("failed filter with extender at URL {}/filter, code 500", broken.trim_end_matches('/')));
    let ignored = asked(vec![settings(&broken, &json!({"ignorable": true}))], &["a"]).await.expect("it is ignored");
    assert_eq!(ignored.nodes, ["a".to_owned()].into());
    let slow = "http://192.0.2.1:1";
    let late = asked(vec![settings(slow, &json!({"httpTimeout": "50ms"}))], &["a"]).await.expect_err("nobody answers");
    assert!(late.starts_with("Post \"http://192.0.2.1:1/filter\": "), "{late}");
    let lying = serve(|_, _| (200, json!({"NodeNames": ["z"]}))).await;
    let odd = asked(vec![settings(&lying, &json!({"nodeCacheCapable": true}))], &["a"]).await.expect_err("there is no such node");
    assert!(odd.ends_with("claims a filtered node \"z\" which is not found in the input node list"), "{odd}");
}

#[tokio::test]
async fn one_that_manages_resources_is_asked_about_pods_that_want_them() {
    let managed = settings("http://127.0.0.1:1", &json!({"managedResources": [{"name": "example.com/gpu", "ignoredByScheduler": true}]}));
    assert_eq!(managed.ignored, ["example.com/gpu"]);
    let extenders = Extenders::new([managed]);
    assert_eq!(extenders.of_nodes(&pod("p", "example.com/gpu")).len(), 1);
    assert!(extenders.of_nodes(&pod("p", "example.com/disk")).is_empty());
}

#[tokio::test]
async fn an_extender_binds_and_leaves_victims() {
    let url = serve(|verb, args| match verb {
        "bind" if args["Node"] == "a" => {
            assert_eq!((&args["PodName"], &args["PodNamespace"], &args["PodUID"]), (&json!("p"), &json!("n"), &json!("p")));
            (200, json!({"Error": ""}))
        }
        "bind" => (200, json!({"error": "no"})),
        _ => {
            assert_eq!(field(&args["NodeNameToMetaVictims"]["a"]["Pods"][0], "uid"), "v");
            (200, json!({"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}}}))
        }
    })
    .await;
    let pod = pod("p", "example.com/gpu");
    let extenders = Extenders::new([settings(&url, &json!({"bindVerb": "bind", "preemptVerb": "preempt", "nodeCacheCapable": true}))]);
    assert_eq!(bind(&extenders.of_binding(&pod), &pod, "a").await, Ok(true));
    assert_eq!(bind(&extenders.of_binding(&pod), &pod, "b").await, Err("no".into()));
    assert_eq!(bind(&[], &pod, "a").await, Ok(false));
    let victim = Arc::new(PlacedPod::of(&super::tests::pod("v", "example.com/gpu")));
    let candidate = |node: &str| Candidate { node: node.into(), victims: vec![victim.clone()], broken_budgets: 0 };
    let find = |_: &str, left: &super::LeftVictims| Ok(left.keys().map(|node| candidate(node)).collect());
    let left = ask_preemption(&extenders.of_preemption(&pod), &pod, vec![candidate("a"), candidate("b")], find, |_| Vec::new()).await;
    assert_eq!(left, Ok(vec![candidate("a")]));
}

fn context<'a>(profile: &'a Profile, cluster: &'a Snapshot) -> SchedulingContext<'a> {
    SchedulingContext { profile, cluster, start: 0, chance: 0, budgets: &Vec::new, ranked: &|_| () }
}

#[test]
fn what_extenders_say_is_compared_with_the_cluster_as_it_is() {
    let (profile, mut cluster) = (default_profile(), Snapshot::default());
    ["a", "b", "c"].into_iter().for_each(|name| cluster.set_node(node(name)));
    let info = PodInfo::new(pod("p", "cpu"), &NoObjects);
    let Begun::Ask { nodes, .. } = begin(&info, &context(&profile, &cluster), false) else { panic!("all are feasible") };
    assert_eq!(nodes.len(), 3);
    let opinion = |nodes: &[&str], scores: &[(&str, i64)]| Opinion {
        nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
        failed: [("a".to_owned(), ("too hot".to_owned(), false))].into(),
        scores: scores.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect(),
    };
    let decided = |cluster: &Snapshot, opinion: &Opinion| match finish(&info, &context(&profile, cluster), opinion) {
        Decision::Bind { node } => node.to_string(),
        Decision::Failed(why) => why,
        Decision::Unschedulable(unschedulable) => {
            assert!(unschedulable.rejected_by.contains(&"Extender"));
            unschedulable.message
        }
    };
    assert_eq!(decided(&cluster, &opinion(&["b", "c"], &[("c", 100)])), "c");
    assert_eq!(decided(&cluster, &opinion(&["b", "c"], &[("b", 100)])), "b");
    let message = decided(&cluster, &opinion(&[], &[]));
    assert!(message.starts_with("0/3 nodes are available: 1 too hot."), "{message}");
    cluster.remove_node("c");
    assert_eq!(decided(&cluster, &opinion(&["b", "c"], &[("c", 100)])), "b", "the other one is gone");
}
