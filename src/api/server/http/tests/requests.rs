//! Single requests: what comes back, in which form, and how refusals read.

use std::{io::Read, sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    features::FeatureGates,
    service::{EventType, FieldValidation, Operation, PatchType, Propagation},
};

use super::{
    client::Door,
    fake::{FakeService, config_map, text},
};
use crate::http::{ExtraRoute, HealthCheck, HealthGroups};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn door() -> Door {
    Door::open(FakeService::new(), |_| {})
}

fn fill(door: &Door, count: usize, size: usize) {
    let target = door.service.target("configmaps", "default", "");
    for at in 0..count {
        door.service.put(&target, &config_map(&format!("m{at:05}"), size), EventType::Added);
    }
}

#[actix_web::test]
async fn an_object_made_can_be_read_listed_and_deleted() {
    let door = door();
    let mut admin = door.connect(true).await;
    let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
    let made = admin.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &[("user-agent", "kubectl/v1")], body).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("warning"), "299 - \"a \\\"quoted\\\" warning\"");
    assert_eq!(made.header("cache-control"), "no-cache, private");
    assert!(!made.header("audit-id").is_empty());
    let read = admin.get(&format!("{MAPS}/a")).await;
    assert_eq!(read.json()["data"]["k"], "v");
    assert_eq!(read.json()["metadata"]["resourceVersion"], "2");
    let list = admin.get(MAPS).await.json();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("ConfigMapList"), &json!("a")));
    assert_eq!(list["metadata"], json!({"resourceVersion": "2"}));
    let deleted = admin.send("DELETE", &format!("{MAPS}/a"), &[], r#"{"propagationPolicy":"Foreground"}"#).await;
    assert_eq!(deleted.json()["status"], "Success");
    assert_eq!(admin.get(&format!("{MAPS}/a")).await.json()["message"], "configmaps \"a\" not found");
    let calls = door.service.calls.lock().expect("no panic holds it");
    let Operation::Create { options, .. } = &calls[0].operation else { panic!("a create came first") };
    assert_eq!((options.field_manager.as_str(), options.field_validation), ("kubectl", FieldValidation::Strict));
    let Operation::Delete(options) = &calls[3].operation else { panic!("a delete came fourth") };
    assert_eq!(options.propagation, Some(Propagation::Foreground));
    assert_eq!(calls[0].user.name, "cert");
}

#[actix_web::test]
async fn yaml_goes_in_and_out() {
    let door = door();
    let mut admin = door.connect(true).await;
    let made = admin.send("POST", MAPS, &[("content-type", "application/yaml")], "metadata:\n  name: y\ndata:\n  k: v\n").await;
    assert_eq!(made.status, 201);
    let read = admin.send("GET", &format!("{MAPS}/y"), &[("accept", "application/yaml")], "").await;
    assert_eq!(read.header("content-type"), "application/yaml");
    assert!(String::from_utf8_lossy(&read.body).contains("  k: v\n"));
}

#[actix_web::test]
async fn bodies_of_other_kinds_or_sizes_are_refused() {
    let door = door();
    let mut admin = door.connect(true).await;
    let cbor = admin.send("POST", MAPS, &[("content-type", "application/cbor")], "x").await;
    assert_eq!(cbor.status, 415);
    assert_eq!(
        cbor.json()["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let patch = admin.send("PATCH", &format!("{MAPS}/a"), &[("content-type", "application/json")], "{}").await;
    assert_eq!(patch.status, 415);
    let big = admin.send("POST", MAPS, &[], vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!((big.status.as_u16(), big.json()["reason"].clone()), (413, json!("RequestEntityTooLarge")));
}

#[actix_web::test]
async fn patches_arrive_with_their_type() {
    let door = door();
    fill(&door, 1, 1);
    let mut admin = door.connect(true).await;
    let path = format!("{MAPS}/m00000?fieldManager=me&force=true");
    let reply = admin.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], "data: {}").await;
    assert_eq!(reply.status, 200);
    let calls = door.service.calls.lock().expect("no panic holds it");
    let Operation::Patch { patch_type, options, .. } = &calls[0].operation else { panic!("a patch") };
    assert_eq!((*patch_type, options.force), (PatchType::Apply, true));
}

#[actix_web::test]
async fn paths_and_methods_that_are_not_served_are_refused_as_upstream_does() {
    let door = door();
    let mut admin = door.connect(true).await;
    let cases = [
        ("GET", "/api/v1/nonsense", 404, "the server could not find the requested resource"),
        ("GET", "/apis/apps/v9/deployments", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/pods/p/nonsense", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/pods/p", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/x/nodes", 404, "the server could not find the requested resource"),
        ("POST", "/api/v1/pods", 405, "the server does not allow this method on the requested resource"),
        ("DELETE", "/api/v1/configmaps", 405, "the server does not allow this method on the requested resource"),
        ("POST", "/api/v1/namespaces/default/configmaps/a", 405, "the server does not allow this method on the requested resource"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews", 405, "the server does not allow this method on the requested resource"),
        ("GET", "/apis/authentication.k8s.io/v1/tokenreviews/a", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/bindings", 404, "the server could not find the requested resource"),
        ("POST", "/api/v1/bindings", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/bindings", 405, "the server does not allow this method on the requested resource"),
        ("GET", "/healthz/", 404, "the server could not find the requested resource"),
        ("GET", "/nonsense", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/configmaps/%2e%2e", 400, "Name parameter invalid: \"..\": may not be '..'"),
        ("PATCH", "/api/v1/namespaces/default/configmaps/a%25b", 400, "Name parameter invalid: \"a%b\": may not contain '%'"),
        ("GET", "/api/v1/namespaces/default/configmaps/a%2Fb", 404, "the server could not find the requested resource"),
    ];
    for (method, path, code, message) in cases {
        let reply = admin.send(method, path, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.json()["message"].as_str()), (code, Some(message)), "{method} {path}");
    }
}

#[actix_web::test]
async fn bad_options_are_named_in_upstreams_words() {
    let door = door();
    let mut admin = door.connect(true).await;
    let cases = [
        ("limit=abc", 400, "strconv.ParseInt: parsing \"abc\": invalid syntax"),
        (
            "resourceVersionMatch=Exact",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        ("fieldSelector=spec.x%3Dy", 400, "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        ("timeoutSeconds=abc", 400, "strconv.ParseInt: parsing \"abc\": invalid syntax"),
        (
            "labelSelector=a%3Eb",
            400,
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("timeout=nonsense", 400, "invalid timeout specified in the request URL - time: invalid duration \"nonsense\""),
        ("timeout=5", 400, "invalid timeout specified in the request URL - time: missing unit in duration \"5\""),
        ("timeout=5d", 400, "invalid timeout specified in the request URL - time: unknown unit \"d\" in duration \"5d\""),
        ("timeoutSeconds=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "resourceVersion=x",
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
    ];
    for (query, code, message) in cases {
        let reply = admin.get(&format!("{MAPS}?{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.json()["message"].as_str()), (code, Some(message)), "{query}");
    }
    assert_eq!(admin.get(&format!("{MAPS}?labelSelector=a+in+(")).await.status, 400);
    // What upstream's lists refuse themselves, its watches and reads leave to the store.
    for path in [format!("{MAPS}?watch=true&resourceVersion=abc"), format!("{MAPS}/a?resourceVersion=abc")] {
        let reply = admin.get(&path).await.json();
        let why = "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax";
        assert_eq!((&reply["code"], reply.get("reason"), &reply["message"]), (&json!(500), None, &json!(why)), "{path}");
    }
    for timeout in ["", "0", "-5s", "3m", "1h30m", "2.5s", "9223372036s"] {
        assert_eq!(admin.get(&format!("{MAPS}?timeout={timeout}")).await.status, 200, "{timeout}");
    }
}

#[actix_web::test]
async fn who_is_nobody_or_not_allowed_is_told_so() {
    let door = door();
    let mut plain = door.connect(false).await;
    let wrong = plain.send("GET", MAPS, &[("authorization", "Bearer nonsense")], "").await;
    assert_eq!((wrong.status.as_u16(), wrong.json()["reason"].clone()), (401, json!("Unauthorized")));
    assert_eq!(plain.get("/version").await.json()["gitVersion"], "v1.36.0+troupe.0.0.1");
    let anonymous = plain.get("/metrics").await;
    assert_eq!(anonymous.json()["message"], "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"");
    let bob = plain.send("GET", "/api/v1/nonsense", &[("authorization", "Bearer bob")], "").await;
    assert_eq!(bob.status, 403, "what is not served is not told to those who may not ask");
}

#[actix_web::test]
async fn only_those_who_may_impersonate_do() {
    let door = door();
    let mut plain = door.connect(false).await;
    let refused = plain.send("GET", MAPS, &[("authorization", "Bearer bob"), ("impersonate-user", "alice")], "").await;
    assert_eq!(
        refused.json()["message"],
        "configmaps is forbidden: User \"bob\" cannot impersonate-on:user-info:list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let allowed = plain.send("GET", MAPS, &[("authorization", "Bearer admin"), ("impersonate-user", "alice")], "").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(door.service.calls.lock().expect("no panic holds it")[0].user.name, "alice");
    let nobody = plain.send("GET", MAPS, &[("authorization", "Bearer admin"), ("impersonate-user", "")], "").await;
    assert_eq!(nobody.status, 200, "an empty name asks for nothing");
}

#[actix_web::test]
async fn tables_and_partial_metadata_are_made_on_demand() {
    let door = door();
    fill(&door, 2, 10);
    let mut admin = door.connect(true).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let reply = admin.send("GET", MAPS, &[("accept", table)], "").await.json();
    assert_eq!((&reply["kind"], &reply["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(reply["columnDefinitions"][0]["name"], "Name");
    assert_eq!(reply["rows"][1]["cells"][0], "m00001");
    assert_eq!(reply["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let none = admin.send("GET", &format!("{MAPS}?includeObject=None"), &[("accept", table)], "").await.json();
    assert_eq!(none["rows"][0]["object"], Value::Null);
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let reply = admin.send("GET", MAPS, &[("accept", partial)], "").await.json();
    assert_eq!(reply["kind"], "PartialObjectMetadataList");
    assert_eq!(reply["items"][0]["metadata"]["labels"]["app"], "web");
    assert!(reply["items"][0].get("data").is_none());
}

#[actix_web::test]
async fn long_lists_stream_and_compress() {
    let door = door();
    fill(&door, 300, 1000);
    let mut admin = door.connect(true).await;
    let plain = admin.get(MAPS).await;
    assert_eq!(plain.json()["items"].as_array().map(Vec::len), Some(300));
    assert_eq!(plain.header("transfer-encoding"), "chunked");
    let packed = admin.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);
    let pretty = admin.get(&format!("{MAPS}?pretty=true")).await;
    assert!(pretty.body.starts_with(b"{\n  \"kind\": \"ConfigMapList\""));
    assert_eq!(pretty.json(), plain.json());
}

#[actix_web::test]
async fn nothing_is_compressed_where_that_is_off() {
    let features = FeatureGates::parse(&["APIResponseCompression=false".to_owned()]).expect("it can be off");
    let door = Door::open(FakeService::new(), |options| options.features = features);
    fill(&door, 300, 1000);
    let shown = door.connect(true).await.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!((shown.header("content-encoding"), shown.json()["items"].as_array().map(Vec::len)), ("", Some(300)));
}

#[actix_web::test]
async fn health_is_told_whole_and_check_by_check() {
    let door = Door::open(FakeService::new(), |options| {
        options.health = vec![
            HealthCheck::new("store", HealthGroups::ALL, || std::future::ready(Ok(()))),
            HealthCheck::new("caches", HealthGroups::READY_ONLY, || std::future::ready(Err("not yet".into()))),
        ];
        let acting = ExtraRoute { acts: true, ..ExtraRoute::document("/debug/do", "text/plain", text("done\n")) };
        options.routes = vec![ExtraRoute::document("/metrics", "text/plain", text("up 1\n")), acting];
    });
    let mut admin = door.connect(true).await;
    assert_eq!(admin.get("/livez").await.body, "ok");
    assert_eq!(admin.get("/livez?verbose").await.body, "[+]ping ok\n[+]store ok\nlivez check passed\n");
    let ready = admin.get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), ready.body),
        (500, "[+]ping ok\n[+]store ok\n[-]caches failed: reason withheld\nreadyz check failed\n".into())
    );
    assert_eq!(admin.get("/readyz/store").await.body, "ok");
    assert_eq!(admin.get("/readyz/ping").await.body, "ok");
    let caches = admin.get("/readyz/caches").await;
    assert_eq!((caches.status.as_u16(), caches.body), (500, "internal server error: not yet\n".into()));
    assert_eq!(admin.get("/livez/caches").await.status, 404, "it is no check of liveness");
    assert_eq!(admin.get("/readyz?exclude=caches").await.body, "ok");
    assert_eq!(
        admin.get("/readyz?verbose&exclude=caches&exclude=b&exclude=a").await.body,
        "[+]ping ok\n[+]store ok\n[+]caches excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n"
    );
    assert_eq!(admin.get("/metrics").await.body, "up 1\n");
    assert_eq!(admin.send("POST", "/metrics", &[], "").await.status, 405);
    assert_eq!(admin.get("/debug/do").await.status, 405, "what acts is not there for those who may only look");
    assert_eq!(admin.send("POST", "/debug/do", &[], "").await.body, "done\n");
}

#[actix_web::test]
async fn panics_and_long_waits_become_statuses() {
    let door = Door::open(FakeService::new(), |options| options.request_timeout = Duration::from_millis(50));
    let mut admin = door.connect(true).await;
    let panic = admin.get(&format!("{MAPS}/panic")).await;
    assert_eq!((panic.status.as_u16(), panic.json()["reason"].clone()), (500, json!("InternalError")));
    let slow = admin.get(&format!("{MAPS}/slow")).await;
    assert_eq!((slow.status.as_u16(), slow.json()["reason"].clone()), (504, json!("Timeout")));
    assert_eq!(admin.get(MAPS).await.status, 200, "the connection lives on");
}

#[actix_web::test]
async fn more_requests_than_allowed_are_told_to_come_back() {
    let door = Door::open(FakeService::new(), |options| {
        options.max_in_flight = 1;
        options.request_timeout = Duration::from_secs(5);
    });
    let mut first = door.connect(true).await;
    let slow = format!("{MAPS}/slow");
    let held = first.get(&slow);
    let mut second = door.connect(true).await;
    let refused = async {
        for _ in 0..100 {
            let reply = second.get(MAPS).await;
            if reply.status == 429 {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never refused");
    };
    tokio::select! {
        _ = held => panic!("the slow request ended"),
        reply = refused => assert_eq!(reply.header("retry-after"), "1"),
    }
}

#[actix_web::test]
async fn replies_tell_the_flow_schema_and_administrators_are_never_held_back() {
    use crate::flow;
    use troupe_api::{meta::GroupResource, service::Listers, stored::StoredObject};

    struct Fixed(Vec<Arc<StoredObject>>);
    impl Listers for Fixed {
        fn get(&self, _: &GroupResource, _: &troupe_api::meta::ObjectKey) -> Option<Arc<StoredObject>> {
            None
        }
        fn list(&self, resource: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
            let plural = |object: &StoredObject| format!("{}s", object.to_object().kind().to_lowercase());
            self.0.iter().filter(|object| plural(object) == *resource.resource).cloned().collect()
        }
    }
    let objects = troupe_api::resources::flow_bootstrap::objects().into_iter().map(|mut object| {
        let uid = format!("uid-of-{}", object.name());
        object.set(&["metadata", "uid"], uid);
        Arc::new(StoredObject::from_object(&object).expect("well formed"))
    });
    let listers = Arc::new(Fixed(objects.collect()));
    let door = Door::open(FakeService::new(), |options| {
        options.flow = Some(Arc::new(flow::Classifier::new(listers, 1)));
        options.max_in_flight = 1;
    });
    let bob = [("authorization", "Bearer bob")];
    let mut waiting = Vec::new();
    // The seat of bob's level and those that other levels lend.
    for _ in 0..6 {
        let mut slow = door.connect(false).await;
        waiting.push(tokio::spawn(async move { slow.send("GET", &format!("{MAPS}/slow?timeout=20s"), &bob, "").await }));
    }
    let mut other = door.connect(false).await;
    let refused = loop {
        let reply = other.send("GET", &format!("{MAPS}/a"), &bob, "").await;
        if reply.status == 429 {
            break reply;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((refused.header("retry-after"), refused.header("x-kubernetes-pf-flowschema-uid")), ("1", "uid-of-global-default"));
    let mut admin = door.connect(true).await;
    let reply = admin.get(MAPS).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-kubernetes-pf-prioritylevel-uid")), (200, "uid-of-exempt"));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
