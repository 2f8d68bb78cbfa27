//! How a pod got its node: what the scheduler remembers of its last decisions. Pure.

use serde_json::Value;

use super::{
    pod::Facts,
    tree::{items, text},
};

/// How the node compared with the others, in lines; none where the scheduler does not know, or somebody else chose.
pub fn lines(facts: &Facts) -> Vec<String> {
    let ranking = &facts.explained["ranking"];
    let node = text(&ranking["node"]);
    if node.is_empty() || node != text(&facts.pod["spec"]["nodeName"]) {
        return Vec::new();
    }
    let number = |field: &str| ranking[field].as_u64().unwrap_or(0);
    if ranking["nominated"] == true {
        return vec![format!("on {node}, which was kept free for it")];
    }
    let (next, looked_at) = (text(&ranking["next"]), nodes(number("lookedAt")));
    if next.is_empty() {
        return vec![format!("on {node}, the only one that would do of {looked_at} that the scheduler looked at")];
    }
    let scores: Vec<(&str, i64, i64)> = items(&ranking["scores"]).map(score).collect();
    let (total, others) = (scores.iter().map(|score| score.1).sum::<i64>(), scores.iter().map(|score| score.2).sum::<i64>());
    let compared = if total == others { format!("as many as {next}") } else { format!("{next} has {others}") };
    let mut lines = vec![format!("on {node} with {total} points ({compared}); of {looked_at} looked at {} would do", number("feasible"))];
    let told = scores.into_iter().filter(|(_, chosen, other)| *chosen != 0 || *other != 0);
    lines.extend(told.map(|(plugin, chosen, other)| format!("{plugin}: {chosen} ({next}: {other})")));
    lines
}

fn score(told: &Value) -> (&str, i64, i64) {
    (text(&told["plugin"]), told["chosen"].as_i64().unwrap_or(0), told["next"].as_i64().unwrap_or(0))
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(ranking: Value) -> Vec<String> {
        let pod = json!({"spec": {"nodeName": "one"}});
        lines(&Facts { pod, explained: json!({"ranking": ranking}), ..Facts::default() })
    }

    #[test]
    fn points_are_compared_with_those_of_the_next_node() {
        let scores = json!([{"plugin": "NodeResourcesFit", "chosen": 90, "next": 45}, {"plugin": "ImageLocality", "chosen": 0, "next": 0}]);
        let ranking = json!({"node": "one", "lookedAt": 5, "feasible": 3, "next": "two", "scores": scores});
        assert_eq!(told(ranking), ["on one with 90 points (two has 45); of 5 nodes looked at 3 would do", "NodeResourcesFit: 90 (two: 45)"]);
        let only = "on one, the only one that would do of 5 nodes that the scheduler looked at";
        assert_eq!(told(json!({"node": "one", "lookedAt": 5, "feasible": 1})), [only]);
        assert_eq!(told(json!({"node": "one", "nominated": true})), ["on one, which was kept free for it"]);
        assert!(told(json!({"node": "two", "lookedAt": 5})).is_empty() && told(json!(null)).is_empty(), "somebody else bound it");
    }
}
