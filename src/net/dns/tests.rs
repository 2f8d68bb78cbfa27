use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use serde_json::json;

use super::{
    Answer, Zone, answer, truncated,
    view::{Service, Slice},
};

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local").expect("a domain");
    zone.index.add_namespace("default".into());
    let service = |value| serde_json::from_value::<Service>(value).expect("a service");
    zone.index.add_service(service(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
    })));
    zone.index.add_service(service(json!({
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]},
    })));
    zone.index.add_service(service(json!({
        "metadata": {"name": "out", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "example.com"},
    })));
    zone.index.add_service(service(json!({
        "metadata": {"name": "in", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"},
    })));
    zone.index.add_slice(slice(json!([
        {"addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.6"]},
        {"addresses": ["10.244.0.7"], "hostname": "db-2", "conditions": {"ready": false}},
    ])));
    zone
}

fn slice(endpoints: serde_json::Value) -> Slice {
    serde_json::from_value(json!({
        "metadata": {"name": "db-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "sql", "protocol": "TCP", "port": 5432}],
    }))
    .expect("a slice")
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    // Whatever can stand on the wire, not only what people write.
    let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
    message.add_query(Query::query(Name::from_labels(labels).expect("a name"), kind));
    message
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Message {
    match answer(zone, &query(name, kind), 0) {
        Answer::Reply(reply) => Message::from_vec(&reply.to_vec().expect("encodes")).expect("decodes"),
        other => panic!("{other:?}"),
    }
}

fn data(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn a_service_has_its_cluster_address_and_keeps_the_case_of_the_question() {
    let reply = ask(&zone(), "Web.Default.svc.Cluster.Local.", RecordType::A);
    assert_eq!(data(&reply), ["10.96.0.20"]);
    assert_eq!(reply.answers[0].name.to_ascii(), "Web.Default.svc.Cluster.Local.");
    assert!(reply.metadata.authoritative);
    let empty = ask(&zone(), "web.default.svc.cluster.local.", RecordType::AAAA);
    assert_eq!((empty.metadata.response_code, empty.answers.len(), empty.authorities.len()), (ResponseCode::NoError, 0, 1));
}

#[test]
fn a_headless_service_has_its_ready_endpoints_and_their_hostnames() {
    let zone = zone();
    assert_eq!(data(&ask(&zone, "db.default.svc.cluster.local.", RecordType::A)), ["10.244.0.5", "10.244.0.6"]);
    assert_eq!(data(&ask(&zone, "db-0.db.default.svc.cluster.local.", RecordType::A)), ["10.244.0.5"]);
    assert_eq!(data(&ask(&zone, "10-244-0-6.db.default.svc.cluster.local.", RecordType::A)), ["10.244.0.6"]);
    assert_eq!(ask(&zone, "db-2.db.default.svc.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn no_name_leads_whoever_asks_to_itself_or_to_its_link() {
    let mut zone = zone();
    zone.index.add_slice(slice(json!([
        {"addresses": ["127.0.0.1"], "hostname": "me"}, {"addresses": ["169.254.169.254"]}, {"addresses": ["::ffff:127.0.0.1"]}, {"addresses": ["10.244.0.5"]},
    ])));
    assert_eq!(data(&ask(&zone, "db.default.svc.cluster.local.", RecordType::A)), ["10.244.0.5"]);
    assert!(data(&ask(&zone, "db.default.svc.cluster.local.", RecordType::AAAA)).is_empty());
    for name in ["me.db.default.svc", "169-254-169-254.default.pod", "127-0-0-1.default.pod", "0-0-0-0.default.pod", "--1.default.pod"] {
        let reply = ask(&zone, &format!("{name}.cluster.local."), RecordType::ANY);
        assert_eq!((reply.metadata.response_code, data(&reply)), (ResponseCode::NXDomain, Vec::new()), "{name}");
    }
    assert_eq!(data(&ask(&zone, "10-244-0-9.default.pod.cluster.local.", RecordType::A)), ["10.244.0.9"]);
}

#[test]
fn equal_answers_take_turns() {
    let Answer::Reply(reply) = answer(&zone(), &query("db.default.svc.cluster.local.", RecordType::A), 1) else { panic!("a reply") };
    assert_eq!(data(&reply), ["10.244.0.6", "10.244.0.5"]);
}

#[test]
fn srv_records_name_ports_and_bring_addresses_along() {
    let zone = zone();
    let reply = ask(&zone, "_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(data(&reply), ["0 100 80 web.default.svc.cluster.local."]);
    assert_eq!(reply.additionals.len(), 1);
    let reply = ask(&zone, "_sql._tcp.db.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(data(&reply), ["0 100 5432 db-0.db.default.svc.cluster.local.", "0 100 5432 10-244-0-6.db.default.svc.cluster.local."]);
    assert_eq!(ask(&zone, "_no._tcp.web.default.svc.cluster.local.", RecordType::SRV).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_headless_service_without_ports_has_no_srv_records_but_a_name() {
    let mut zone = zone();
    let bare = json!({"metadata": {"name": "bare", "namespace": "default"}, "spec": {"type": "ClusterIP", "clusterIP": "None"}});
    zone.index.add_service(serde_json::from_value(bare).expect("a service"));
    let asked = |zone: &Zone, kind| {
        let reply = ask(zone, "bare.default.svc.cluster.local.", kind);
        (reply.metadata.response_code, data(&reply))
    };
    assert_eq!(asked(&zone, RecordType::SRV), (ResponseCode::NXDomain, Vec::new()), "nobody is there");
    let ends = json!({"metadata": {"name": "bare-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "bare"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.5"]}]});
    zone.index.add_slice(serde_json::from_value(ends).expect("a slice"));
    assert_eq!(asked(&zone, RecordType::A), (ResponseCode::NoError, vec!["10.244.0.5".to_owned()]));
    assert_eq!(asked(&zone, RecordType::SRV), (ResponseCode::NoError, Vec::new()));
}

/// Go writes an empty list as null where it does not leave the field out: the API does so for `endpoints` and `ports` of slices.
#[test]
fn lists_that_are_null_are_empty() {
    let mut zone = zone();
    let bare = json!({"metadata": {"name": "bare", "namespace": "default", "labels": null},
        "spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": null, "externalIPs": null, "ports": null}, "status": {"loadBalancer": {"ingress": null}}});
    zone.index.add_service(serde_json::from_value(bare).expect("a service"));
    let ends = json!({"metadata": {"name": "bare-abc", "namespace": "default", "labels": {"kubernetes.io/service-name": "bare"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.5"], "hostname": "bare-0"}], "ports": null});
    zone.index.add_slice(serde_json::from_value(ends).expect("a slice without ports"));
    assert_eq!(data(&ask(&zone, "bare-0.bare.default.svc.cluster.local.", RecordType::A)), ["10.244.0.5"]);
    let empty = json!({"metadata": {"name": "bare-def", "namespace": "default"}, "addressType": "IPv4", "endpoints": null, "ports": null});
    assert!(serde_json::from_value::<Slice>(empty).expect("a slice without endpoints").endpoints.is_empty());
}

#[test]
fn names_that_only_have_children_exist_without_data() {
    let zone = zone();
    for name in ["cluster.local.", "svc.cluster.local.", "default.svc.cluster.local.", "_tcp.web.default.svc.cluster.local."] {
        assert_eq!(ask(&zone, name, RecordType::A).metadata.response_code, ResponseCode::NoError, "{name}");
    }
    for name in ["nosuch.svc.cluster.local.", "nosuch.default.svc.cluster.local.", "nosuch.cluster.local.", "example.com.default.svc.cluster.local."]
    {
        assert_eq!(ask(&zone, name, RecordType::A).metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn pods_have_names_made_of_their_address() {
    let zone = zone();
    assert_eq!(data(&ask(&zone, "10-244-0-9.default.pod.cluster.local.", RecordType::A)), ["10.244.0.9"]);
    assert_eq!(ask(&zone, "10-244-0-9.nosuch.pod.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(ask(&zone, "web.default.pod.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn aliases_are_followed_inside_and_left_to_upstream_outside() {
    let zone = zone();
    assert_eq!(data(&ask(&zone, "in.default.svc.cluster.local.", RecordType::A)), ["web.default.svc.cluster.local.", "10.96.0.20"]);
    match answer(&zone, &query("out.default.svc.cluster.local.", RecordType::A), 0) {
        Answer::Chase { reply, target, kind } => {
            assert_eq!((target.to_ascii().as_str(), kind), ("example.com.", RecordType::A));
            assert!(matches!(reply.answers[0].data, RData::CNAME(_)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_is_no_name_that_an_alias_could_lead_to() {
    let mut zone = zone();
    let numbers = json!({"metadata": {"name": "numbers", "namespace": "default"}, "spec": {"type": "ExternalName", "externalName": "192.0.2.1"}});
    zone.index.add_service(serde_json::from_value(numbers).expect("a service"));
    assert_eq!(ask(&zone, "numbers.default.svc.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn addresses_lead_back_to_names_and_strangers_go_upstream() {
    let zone = zone();
    assert_eq!(data(&ask(&zone, "20.0.96.10.in-addr.arpa.", RecordType::PTR)), ["web.default.svc.cluster.local."]);
    assert_eq!(data(&ask(&zone, "5.0.244.10.in-addr.arpa.", RecordType::PTR)), ["db-0.db.default.svc.cluster.local."]);
    for name in ["9.9.9.9.in-addr.arpa.", "example.com.", "local."] {
        assert!(matches!(answer(&zone, &query(name, RecordType::PTR), 0), Answer::Forward), "{name}");
    }
}

#[test]
fn the_schema_version_is_published() {
    assert_eq!(data(&ask(&zone(), "dns-version.cluster.local.", RecordType::TXT)), ["1.1.0"]);
}

#[test]
fn a_reply_too_large_for_udp_has_what_fits_and_asks_for_tcp() {
    let mut zone = zone();
    let many = (0..200).map(|n| json!({"addresses": [format!("10.244.1.{n}")]})).collect::<Vec<_>>();
    zone.index.add_slice(slice(json!(many)));
    let question = query("db.default.svc.cluster.local.", RecordType::A);
    let Answer::Reply(reply) = answer(&zone, &question, 0) else { panic!("a reply") };
    assert_eq!(reply.answers.len(), 200);
    let bytes = truncated(&question, &reply).expect("encodes");
    // One more address would take 16 bytes: the name is told once.
    assert!((512 - 16..=512).contains(&bytes.len()), "{}", bytes.len());
    let cut = Message::from_vec(&bytes).expect("decodes");
    assert!(cut.metadata.truncation && cut.answers.len() > 20);
    assert_eq!(cut.answers, reply.answers[..cut.answers.len()]);
}

#[test]
fn an_endpoint_that_leaves_takes_its_names_along() {
    let mut zone = zone();
    zone.index.add_slice(slice(json!([{"addresses": ["10.244.0.6"]}])));
    assert_eq!(data(&ask(&zone, "db.default.svc.cluster.local.", RecordType::A)), ["10.244.0.6"]);
    assert!(matches!(answer(&zone, &query("5.0.244.10.in-addr.arpa.", RecordType::PTR), 0), Answer::Forward));
    zone.index.remove_slice("default", "db-abc");
    assert_eq!(ask(&zone, "db.default.svc.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    zone.index.replace_services(Vec::new());
    assert_eq!(ask(&zone, "web.default.svc.cluster.local.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn no_answer_has_more_records_than_fit() {
    let mut zone = zone();
    let ports: Vec<_> = (1..=1000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let endpoints: Vec<_> = (1..=100).map(|last| json!({"addresses": [format!("10.244.1.{last}")]})).collect();
    for number in 0..200 {
        let name = format!("many{number}");
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": "None", "ports": ports}});
        zone.index.add_service(serde_json::from_value(object).expect("a service"));
        let labels = json!({"kubernetes.io/service-name": name});
        let object = json!({"metadata": {"name": name, "namespace": "default", "labels": labels}, "endpoints": endpoints, "ports": ports});
        zone.index.add_slice(serde_json::from_value(object).expect("a slice"));
    }
    let records = |name: &str, kind| match answer(&zone, &query(name, kind), 0) {
        Answer::Reply(reply) => (reply.answers.len(), reply.additionals.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(records("many0.default.svc.cluster.local.", RecordType::SRV), (4096, 100));
    assert_eq!(records("_p7._tcp.many0.default.svc.cluster.local.", RecordType::SRV), (100, 100));
    assert_eq!(records("many0.default.svc.cluster.local.", RecordType::A), (100, 0));
    assert_eq!(records("1.1.244.10.in-addr.arpa.", RecordType::PTR), (64, 0));
}
