//! Webhooks that hang, lie, loop, say too much or die: each holds up what it is asked about and nothing else, `troupe why` of what it
//! holds up names it, and an administrator takes it away.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    cluster::eventually,
    hostile_webhook::HostileWebhook,
    stage,
};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
/// A question may take one second, or two; the rest is ours and the machine's. Who did not end it would wait for ever.
const BOUND: Duration = Duration::from_secs(8);

fn collection(kind: &str) -> String {
    format!("{GROUP}/{}webhookconfigurations", kind.to_lowercase())
}

fn maps() -> Value {
    json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "scope": "*"})
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// Puts a webhook in place and waits until it is asked; gives the first request that it keeps from happening.
fn first_refused(caller: &Caller, path: &str, name: &str) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = caller.json("POST", path, &map(name));
        if reply.status >= 400 || Instant::now() > deadline {
            return reply;
        }
        caller.send("DELETE", &format!("{path}/{name}"), "application/json", "");
    }
}

#[test]
fn a_webhook_that_hangs_lies_says_too_much_or_dies_is_told_of_and_taken_away() {
    let stage = stage::shared();
    let room = stage.room("hostile-webhooks");
    let (hook, caller) = (HostileWebhook::beside(&stage), Caller::administrator(&stage));
    let path = format!("/api/v1/namespaces/{}/configmaps", room.name);
    let deeds = [
        ("Validating", "hang", "context deadline exceeded"),
        ("Mutating", "drip", "context deadline exceeded"),
        ("Validating", "uid", "expected response.uid="),
        ("Mutating", "nopatch", "received undecodable patch in webhook response"),
        ("Mutating", "spoil", "Internal error occurred"),
        ("Mutating", "rename", "the namespace of the provided object does not match the namespace sent on the request"),
        ("Validating", "html", "couldn't get version/kind; json parse error: "),
        ("Validating", "long", "failed to call webhook"),
        ("Mutating", "die", "failed to call webhook"),
    ];
    let (_, toll) = stage.attack(|| {
        for (kind, deed, says) in deeds {
            let configuration = hook.configuration(kind, deed, &room.name, &maps(), 1);
            assert_eq!(caller.json("POST", &collection(kind), &configuration).status, 201, "{deed}");
            let name = format!("by-{deed}");
            let refused = first_refused(&caller, &path, &name);
            assert!(refused.status >= 400 && refused.message().contains(says) && refused.took < BOUND, "{deed}: {refused:?}");
            if deed != "rename" {
                let why = stage.troupe_text(&["why", &format!("configmap/{name}"), "-n", &room.name]);
                for wanted in [&format!("{deed}.example.com"), &format!("{kind}WebhookConfiguration hostile-{deed}"), "its creation", says] {
                    assert!(why.contains(wanted), "{wanted} is missing in:\n{why}");
                }
            }
            let removed = caller.send("DELETE", &format!("{}/hostile-{deed}", collection(kind)), "application/json", "");
            assert!(removed.status == 200 && removed.took < BOUND, "{removed:?}");
            eventually("what was refused is made", || caller.json("POST", &path, &map(&name)).status == 201);
        }
    });
    assert!(toll.memory < 256 << 20, "{toll:?}");
}

#[test]
fn a_webhook_that_refuses_everything_everywhere_is_taken_away_and_owners_learn_of_it() {
    let stage = stage::shared();
    let room = stage.room("refusing-webhook");
    let (hook, caller) = (HostileWebhook::beside(&stage), Caller::administrator(&stage));
    let everything = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "scope": "*"});
    for kind in ["Mutating", "Validating"] {
        let mut configuration = hook.configuration(kind, "refuse", &room.name, &everything, 1);
        // Pods of its own namespace, and what lies in none: it is asked about itself too if it can be.
        configuration["webhooks"][0].as_object_mut().expect("an object").remove("namespaceSelector");
        stage.kubectl(&format!("-n {} create deployment web-{} --image=busybox:1.35 -- sleep infinity", room.name, kind.to_lowercase()));
        stage.kubectl(&format!("-n {} create configmap kept-{}", room.name, kind.to_lowercase()));
        assert_eq!(caller.json("POST", &collection(kind), &configuration).status, 201);
        let kept = format!("/api/v1/namespaces/{}/configmaps/kept-{}", room.name, kind.to_lowercase());
        let refused = caller.send("DELETE", &kept, "application/json", "");
        assert!(refused.status >= 400 && refused.message().contains("nobody may do anything"), "{refused:?}");
        let why = stage.troupe_text(&["why", &format!("configmap/kept-{}", kind.to_lowercase()), "-n", &room.name]);
        assert!(why.contains("its deletion") && why.contains("nobody may do anything"), "{why}");
        let again = json!({"metadata": {"labels": {"changed": "yes"}}}).to_string();
        let deployment = format!("/apis/apps/v1/namespaces/{}/deployments/web-{}", room.name, kind.to_lowercase());
        let refused = caller.send("PATCH", &deployment, "application/merge-patch+json", again);
        assert!(refused.status >= 400, "{refused:?}");
        let why = stage.troupe_text(&["why", &format!("deployment/web-{}", kind.to_lowercase()), "-n", &room.name]);
        assert!(why.contains("refuse.example.com") && why.contains(&format!("kubectl delete {}webhookconfiguration", kind.to_lowercase())), "{why}");
        // A change of it is nobody's business but the administrator's, and so is its end.
        let relax = json!({"metadata": {"labels": {"seen": "yes"}}}).to_string();
        let own = format!("{}/hostile-refuse", collection(kind));
        assert_eq!(caller.send("PATCH", &own, "application/merge-patch+json", relax).status, 200);
        assert_eq!(caller.send("DELETE", &own, "application/json", "").status, 200);
        eventually("all goes on", || caller.send("DELETE", &kept, "application/json", "").status == 200);
    }
}

#[test]
fn a_webhook_that_calls_what_it_guards_is_bounded_and_ends_with_its_configuration() {
    let stage = stage::shared();
    let room = stage.room("looping-webhook");
    let (hook, caller) = (HostileWebhook::beside(&stage), Caller::administrator(&stage));
    let path = format!("/api/v1/namespaces/{}/configmaps", room.name);
    let configuration = hook.configuration("Validating", "loop", &room.name, &maps(), 2);
    let (refused, toll) = stage.attack(|| {
        assert_eq!(caller.json("POST", &collection("Validating"), &configuration).status, 201);
        let refused = first_refused(&caller, &path, "looped");
        let mut most = 0;
        for _ in 0..30 {
            most = most.max(hook.waiting.load(Relaxed));
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(most <= 1100, "{most} questions wait");
        let why = stage.troupe_text(&["why", "configmap/looped", "-n", &room.name]);
        assert!(why.contains("loop.example.com of ValidatingWebhookConfiguration hostile-loop prevented its creation"), "{why}");
        let removed = caller.send("DELETE", &format!("{}/hostile-loop", collection("Validating")), "application/json", "");
        assert!(removed.status == 200 && removed.took < BOUND, "{removed:?}");
        refused
    });
    assert!(hook.asked.load(Relaxed) > 1, "it does loop");
    assert!(refused.status >= 400 && refused.took < BOUND, "{refused:?}");
    assert!(toll.memory < 512 << 20, "{toll:?}");
    eventually("the loop ends", || {
        let before = hook.asked.load(Relaxed);
        std::thread::sleep(Duration::from_millis(500));
        hook.asked.load(Relaxed) == before && hook.waiting.load(Relaxed) == 0
    });
}
