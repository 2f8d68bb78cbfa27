//! Documents that cost far more than they weigh: aliases, depth, and values that are short to write.

use std::time::Duration;

use serde_json::json;

use crate::{
    caller::{Caller, Reply},
    stage,
};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVISIONS: &str = "/apis/apps/v1/namespaces/NS/controllerrevisions";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A program that is not optimized takes this much longer than one that is.
const UNHURRIED: u32 = 40;

/// YAML whose aliases expand to far more than it has bytes.
fn aliases(count: usize) -> String {
    format!("a: &a [{}]\nb: [{}]\n", ["x"; 100].join(","), vec!["*a"; count].join(","))
}

/// The same in levels, each of which names the one before nine times.
fn levels(count: usize) -> String {
    let level = |at: usize| format!("l{at}: &l{at} [{}]\n", vec![format!("*l{}", at - 1); 9].join(", "));
    "l0: &l0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..count).map(level).collect::<String>()
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// About `length` bytes of one item over and over.
fn dense(item: &str, length: usize) -> String {
    format!("[{}0]", item.repeat(length / item.len()))
}

fn revision(data: &str) -> String {
    format!(r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"a"}},"revision":1,"data":{{"x":{data}}}}}"#)
}

fn is_refused(reply: &Reply, among: &[u16]) {
    assert!(among.contains(&reply.status), "{} {}", reply.status, &reply.body[..reply.body.len().min(300)]);
}

#[test]
fn a_strangers_review_costs_little_whatever_it_holds() {
    let stage = stage::shared();
    let room = stage.room("reviews");
    let stranger = stage.stranger(&room.name);
    let plain = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    assert_eq!(stranger.json("POST", REVIEWS, &plain).status, 201);
    let labels = (0..8000).map(|at| format!("\"{at}\":\"\"")).collect::<Vec<_>>().join(",");
    let attacks = [
        (YAML, aliases(900_000)),
        (YAML, aliases(20_000)),
        (YAML, levels(12)),
        (JSON, nested(1 << 20)),
        (JSON, nested(40_000)),
        (JSON, dense(r#"{"a":0},"#, 3 << 20)),
        (JSON, format!(r#"{{"metadata":{{"labels":{{{labels}}}}}}}"#)),
        (JSON, format!(r#"{{"x":{}}}"#, dense(r#"{"a":0},"#, 100_000))),
        (PROTOBUF, "k8s\0".to_owned() + &"\u{12}\u{0}".repeat(1 << 20)),
    ];
    for (content_type, body) in attacks {
        let (reply, toll) = stage.attack_within(16 << 20, || stranger.send("POST", REVIEWS, content_type, &body));
        is_refused(&reply, &[201, 400, 413, 422]);
        assert!(toll.memory < 16 << 20, "{content_type} {}: {toll:?}", &body[..40]);
        assert!(toll.processor < Duration::from_millis(50) * UNHURRIED, "{content_type} {}: {toll:?}", &body[..40]);
    }
}

#[test]
fn aliases_are_refused_wherever_yaml_is_read() {
    let stage = stage::shared();
    let room = stage.room("aliases");
    let administrator = Caller::administrator(&stage);
    let revisions = REVISIONS.replace("NS", &room.name);
    assert_eq!(administrator.send("POST", &revisions, JSON, revision("1")).status, 201);
    let one = format!("{revisions}/a");
    let put = |bomb: &str| format!("apiVersion: apps/v1\nkind: ControllerRevision\nmetadata: {{name: a}}\nrevision: 2\ndata:\n{}", indented(bomb));
    let apply = format!("{one}?fieldManager=me");
    let uses: [(&str, &str, &str); 4] =
        [("POST", &revisions, YAML), ("PUT", &one, YAML), ("PATCH", &apply, "application/apply-patch+yaml"), ("DELETE", &one, YAML)];
    for (method, path, content_type) in uses {
        for bomb in [aliases(300_000), levels(12)] {
            let (reply, toll) = stage.attack_within(96 << 20, || administrator.send(method, path, content_type, put(&bomb)));
            is_refused(&reply, &[400]);
            assert!(reply.message().contains("document contains excessive aliasing"), "{method}: {}", reply.message());
            assert!(toll.memory < 96 << 20, "{method}: {toll:?}");
        }
    }
}

fn indented(yaml: &str) -> String {
    yaml.lines().map(|line| format!("  {line}\n")).collect()
}

#[test]
fn deep_documents_are_refused_in_every_form() {
    let stage = stage::shared();
    let room = stage.room("deep");
    let administrator = Caller::administrator(&stage);
    let revisions = REVISIONS.replace("NS", &room.name);
    assert_eq!(administrator.send("POST", &revisions, JSON, revision("1")).status, 201);
    let one = format!("{revisions}/a");
    let apply = format!("{one}?fieldManager=me&force=true");
    for depth in [120, 20_000, 1 << 20] {
        let deep = revision(&nested(depth));
        let operations = format!(r#"[{{"op":"add","path":"/data/y","value":{}}}]"#, nested(depth));
        let uses = [
            ("POST", &revisions, JSON, &deep),
            ("POST", &revisions, YAML, &deep),
            ("PUT", &one, JSON, &deep),
            ("PATCH", &one, "application/merge-patch+json", &deep),
            ("PATCH", &one, "application/strategic-merge-patch+json", &deep),
            ("PATCH", &one, "application/json-patch+json", &operations),
            ("PATCH", &apply, "application/apply-patch+yaml", &deep),
            ("DELETE", &one, JSON, &deep),
            ("DELETE", &one, YAML, &deep),
        ];
        for (method, path, content_type, body) in uses {
            let (reply, toll) = stage.attack_within(64 << 20, || administrator.send(method, path, content_type, body));
            is_refused(&reply, &[400, 413, 422]);
            assert!(toll.memory < 64 << 20, "{method} {content_type}: {toll:?}");
        }
    }
    assert_eq!(administrator.get(&one).status, 200, "nothing was written or deleted");
}

#[test]
fn many_short_values_are_refused_in_every_form() {
    let stage = stage::shared();
    let room = stage.room("dense");
    let administrator = Caller::administrator(&stage);
    let revisions = REVISIONS.replace("NS", &room.name);
    assert_eq!(administrator.send("POST", &revisions, JSON, revision("1")).status, 201);
    let one = format!("{revisions}/a");
    let pods = format!("/api/v1/namespaces/{}/pods", room.name);
    let containers = format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a"}},"spec":{{"containers":{}}}}}"#, dense("{},", 3_000_000));
    for item in [r#"{"a":0},"#, "[[0]],", "0,"] {
        let body = revision(&dense(item, 3_000_000));
        for (method, path, content_type) in [("POST", &revisions, JSON), ("POST", &revisions, YAML), ("PATCH", &one, "application/merge-patch+json")]
        {
            let (reply, toll) = stage.attack_within(120 << 20, || administrator.send(method, path, content_type, &body));
            is_refused(&reply, &[413]);
            assert!(toll.memory < 120 << 20, "{item} {method} {content_type}: {toll:?}");
        }
    }
    let (reply, toll) = stage.attack_within(120 << 20, || administrator.send("POST", &pods, JSON, &containers));
    is_refused(&reply, &[413]);
    assert!(toll.memory < 120 << 20, "{toll:?}");
    let (reply, toll) = stage.attack_within(96 << 20, || administrator.send("POST", &pods, PROTOBUF, empty_containers(1_400_000)));
    is_refused(&reply, &[413]);
    assert!(toll.memory < 96 << 20, "{toll:?}");
}

/// A pod of `count` containers of which nothing is said: two bytes each.
fn empty_containers(count: usize) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    };
    let pod = field(2, &[0x12, 0x00].repeat(count));
    let kind = [field(1, b"v1"), field(2, b"Pod")].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, &pod)].concat()
}

#[test]
fn faults_by_the_thousand_make_a_short_answer() {
    let stage = stage::shared();
    let room = stage.room("faults");
    let administrator = Caller::administrator(&stage);
    let pods = format!("/api/v1/namespaces/{}/pods?fieldValidation=Warn", room.name);
    let unknown = (0..150_000).map(|at| format!("\"u{at}\":1")).collect::<Vec<_>>().join(",");
    let containers = dense(r#"{"name":"A","image":" "},"#, 600_000).replace(",0]", "]");
    let faulty = format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a"}},{unknown},"spec":{{"containers":{containers}}}}}"#);
    let (reply, toll) = stage.attack_within(192 << 20, || administrator.send("POST", &pods, JSON, &faulty));
    is_refused(&reply, &[413, 422]);
    assert!(reply.head.len() < 16 << 10 && reply.body.len() < 2 << 20, "{} {}", reply.head.len(), reply.body.len());
    assert!(toll.memory < 192 << 20, "{toll:?}");
}
