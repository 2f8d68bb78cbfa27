//! Why a pod is still there although it was deleted. Pure.

use serde_json::Value;

use super::{
    pod::Facts,
    report::Reason,
    tree::{age, items, listed, span, text},
};

/// How it stands, and what is waited for.
pub fn explain(facts: &Facts) -> (String, Vec<Reason>) {
    let pod = &facts.pod;
    let meta = &pod["metadata"];
    let grace = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    // The deletion time is when the grace ends.
    let over = age(&meta["deletionTimestamp"], facts.now).unwrap_or(0);
    let since = over.saturating_add(grace).max(0);
    let state = format!("Terminating for {} (grace period {})", span(since), span(grace));
    let mut reasons = Vec::new();
    reasons.extend(finalizers(meta));
    if text(&pod["spec"]["nodeName"]).is_empty() {
        return (state, reasons);
    }
    reasons.extend(node(facts));
    reasons.extend(running(facts, over));
    if reasons.is_empty() {
        let waits =
            if facts.worker.is_null() { "its kubelet still has to remove sandbox, volumes and the pod itself" } else { "the kubelet takes it down" };
        reasons.push(Reason::new(waits).details(facts.worker_says()));
    }
    (state, reasons)
}

fn finalizers(meta: &Value) -> Option<Reason> {
    let names: Vec<&str> = items(&meta["finalizers"]).map(text).collect();
    (!names.is_empty()).then(|| {
        Reason::new(format!("finalizers hold it: {}", listed(&names))).hint(
            "whoever set them removes them when done; if that controller is gone: kubectl patch pod … -p '{\"metadata\":{\"finalizers\":null}}'",
        )
    })
}

fn node(facts: &Facts) -> Option<Reason> {
    let name = text(&facts.pod["spec"]["nodeName"]);
    if facts.node.is_null() {
        return Some(
            Reason::new(format!("its node {name} does not exist any more"))
                .hint("the pod garbage collector removes it; at once: kubectl delete pod … --force"),
        );
    }
    (!super::tree::is_true(&facts.node, "Ready")).then(|| {
        Reason::new(format!("its node {name} is not Ready: nobody there can confirm that the containers ended"))
            .hint("it goes when the node comes back; if the node is dead for good: kubectl delete node …, or delete the pod with --force")
    })
}

fn running(facts: &Facts, over: i64) -> Option<Reason> {
    let pod = &facts.pod;
    let statuses = items(&pod["status"]["containerStatuses"]).chain(items(&pod["status"]["initContainerStatuses"]));
    let running: Vec<&str> = statuses.filter(|status| status["state"]["running"].is_object()).map(|status| text(&status["name"])).collect();
    if running.is_empty() {
        return None;
    }
    let hooks: Vec<&str> = items(&pod["spec"]["containers"])
        .filter(|container| running.contains(&text(&container["name"])) && container["lifecycle"]["preStop"].is_object())
        .map(|container| text(&container["name"]))
        .collect();
    let until = if over < 0 { format!("killed in {}", span(-over)) } else { format!("past the grace period by {}", span(over)) };
    let mut reason = Reason::new(format!("still running: {} ({until})", listed(&running))).details(facts.worker_says());
    if !hooks.is_empty() {
        reason = reason.details([format!("with a preStop hook that runs first: {}", listed(&hooks))]);
    }
    Some(if over < 0 { reason.hint("a program that ignores SIGTERM uses up its whole grace period") } else { reason })
}
