//! Roles and bindings as large as they may be: whoever they bind pays for them, and nobody else.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    stage::{self, Stage},
    stalls::Stalls,
};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// Roles of one rule with very many names, each bound to the strangers' groups and 500 others.
fn burden(stage: &Stage, room: &str, roles: usize) {
    let administrator = Caller::administrator(stage);
    let path = RBAC.replace("NS", room);
    let others = (0..500).map(|at| json!({"kind": "User", "name": format!("other-{at}"), "apiGroup": "rbac.authorization.k8s.io"}));
    let group = json!({"kind": "Group", "name": format!("system:serviceaccounts:{room}"), "apiGroup": "rbac.authorization.k8s.io"});
    let subjects: Vec<Value> = others.chain([group]).collect();
    for at in 0..roles {
        let names: Vec<String> = (0..9_500).map(|name| format!("{}-{at}-{name}", "a".repeat(80))).collect();
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": names});
        let role = json!({"metadata": {"name": format!("r{at}")}, "rules": [rule]});
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": format!("r{at}")});
        let binding = json!({"metadata": {"name": format!("r{at}")}, "roleRef": reference, "subjects": subjects});
        assert_eq!(administrator.json("POST", &format!("{path}/roles"), &role).status, 201);
        assert_eq!(administrator.json("POST", &format!("{path}/rolebindings"), &binding).status, 201);
    }
}

/// What `callers` get who all ask the same a few times over.
fn all_at_once(caller: &Caller, callers: usize, ask: impl Fn(&Caller) -> Reply + Sync) -> Vec<Reply> {
    thread::scope(|scope| {
        let asking: Vec<_> = (0..callers).map(|_| scope.spawn(|| (0..3).map(|_| ask(caller)).collect::<Vec<_>>())).collect();
        asking.into_iter().flat_map(|asking| asking.join().expect("does not panic")).collect()
    })
}

#[test]
fn rules_by_the_hundred_thousand_hold_nobody_else_up() {
    let stage = stage::shared();
    let room = stage.room("burdened");
    let stranger = stage.stranger(&room.name);
    burden(&stage, &room.name, 40);
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": room.name}});
    let (replies, toll) = stage.attack(|| all_at_once(&stranger, 8, |caller| caller.json("POST", RULES, &rules)));
    println!("reviews of rules: {toll:?}");
    for reply in &replies {
        let status = &reply.json()["status"];
        assert!(matches!(reply.status, 201 | 429), "{} {}", reply.status, reply.message());
        if reply.status == 201 {
            assert!(status["incomplete"] == true && reply.body.len() < 2 << 20, "{} bytes: {}", reply.body.len(), status["evaluationError"]);
        }
    }
    assert!(replies.iter().any(|reply| reply.status == 201));
    let held = format!("/api/v1/namespaces/{}/pods/{}-39-9499", room.name, "a".repeat(80));
    let stalls = Stalls::on(stage.dir());
    let (replies, toll) = stage.attack(|| all_at_once(&stranger, 8, |caller| caller.send("GET", &held, "application/json", "")));
    println!("requests that a rule allows: {toll:?}");
    assert!(replies.iter().all(|reply| reply.status == 404), "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    let (slowest, stalled) = (replies.iter().map(|reply| reply.took).max(), stalls.longest());
    assert!(slowest < Some(Duration::from_secs(2) + stalled), "{slowest:?}, of which the machine took {stalled:?}");
    let attributes = json!({"namespace": room.name, "verb": "get", "resource": "secrets", "name": "s"});
    let access = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}});
    let (replies, toll) = stage.attack(|| all_at_once(&stranger, 8, |caller| caller.json("POST", ACCESS, &access)));
    println!("reviews of access: {toll:?}");
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.json()["status"]["allowed"] == false), "{replies:?}");
}
