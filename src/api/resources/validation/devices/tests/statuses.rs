use serde_json::{Value, json};

use super::{super::*, many, object, set, texts};

const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn result() -> Value {
    json!({"request": "gpu", "driver": "example.com", "pool": "node-1/a", "device": "gpu-0"})
}

fn allocation() -> Value {
    let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]});
    json!({"devices": {"results": [result()]}, "nodeSelector": {"nodeSelectorTerms": [term]}})
}

fn consumer(uid: &str) -> Value {
    json!({"resource": "pods", "name": "p", "uid": uid})
}

fn device() -> Value {
    json!({"driver": "example.com", "pool": "node-1/a", "device": "gpu-0", "networkData": {"ips": ["10.0.0.1/24"]}})
}

fn claim(status: Value) -> Value {
    let requests = json!([{"name": "gpu", "exactly": {"deviceClassName": "a", "allocationMode": "All"}}]);
    json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}, "status": status})
}

fn full() -> Value {
    claim(json!({"allocation": allocation(), "reservedFor": [consumer("1")], "devices": [device()]}))
}

fn after(old: Value, new: Value) -> Vec<String> {
    texts(&claim_status_update(&object(new), &object(old)))
}

fn refused(rows: Vec<(&str, Value, &[&str])>) {
    super::refused(|new| claim_status_update(new, &object(claim(json!({})))), &full(), rows);
}

#[test]
fn consumers_are_known_and_few() {
    refused(vec![
        (
            "/status/reservedFor/0",
            json!({}),
            &[
                "status.reservedFor[0].resource: Required value",
                "status.reservedFor[0].name: Required value",
                "status.reservedFor[0].uid: Required value",
            ],
        ),
        ("/status/reservedFor", json!([consumer("1"), consumer("1")]), &["status.reservedFor[1]: Duplicate value: \"1\""]),
        ("/status/reservedFor", many(257, |at| consumer(&at.to_string())), &["status.reservedFor: Too many: 257: must have at most 256 items"]),
    ]);
    let unallocated = claim(json!({"reservedFor": [consumer("1")]}));
    assert_eq!(after(claim(json!({})), unallocated), ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]);
}

#[test]
fn a_claim_that_goes_gets_no_new_consumers() {
    let (mut old, mut new) = (full(), full());
    for claim in [&mut old, &mut new] {
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    assert!(after(old.clone(), new.clone()).is_empty());
    set(&mut new, "/status/reservedFor", json!([consumer("1"), consumer("2")]));
    assert_eq!(
        after(old.clone(), new.clone()),
        ["status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"]
    );
    set(&mut new, "/status/reservedFor", Value::Null);
    assert!(after(old, new).is_empty());
}

#[test]
fn a_new_allocation_names_what_there_is() {
    let results = "/status/allocation/devices/results";
    let at = "status.allocation.devices.results[0]";
    let with = |field: &str, value: Value| {
        let mut result = result();
        result[field] = value;
        json!([result, self::result()])
    };
    let unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    refused(vec![
        (results, with("request", json!("x")), &[&format!("{at}.request: Invalid value: \"x\": {unknown}")]),
        (results, with("driver", json!("")), &[&format!("{at}.driver: Required value")]),
        (results, with("pool", json!("")), &[&format!("{at}.pool: Required value")]),
        (results, with("pool", json!("a//b")), &[&format!("{at}.pool: Invalid value: \"\": a lowercase RFC 1123 subdomain")]),
        (
            results,
            with("pool", json!("a".repeat(254))),
            &[
                &format!("{at}.pool: Too long: may not be more than 253 bytes"),
                &format!("{at}.pool: Invalid value: \"{}\": must be no more than 253 characters", "a".repeat(254)),
            ],
        ),
        (results, with("device", json!("../sda")), &[&format!("{at}.device: Invalid value: \"../sda\": a lowercase RFC 1123 label")]),
        (results, with("shareID", json!("1")), &[&format!("{at}.shareID: Invalid value: \"1\": error validating uid: invalid UUID length: 1")]),
        (
            results,
            with("bindingConditions", json!(["a"])),
            &[&format!("{at}.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions")],
        ),
        (
            "/status/allocation/nodeSelector",
            json!({}),
            &["status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term"],
        ),
        (
            "/status/allocation/devices/config",
            json!([{"source": "FromNowhere", "requests": ["x"], "opaque": {"driver": "a", "parameters": {}}}]),
            &[
                "status.allocation.devices.config[0].source: Unsupported value: \"FromNowhere\": supported values: \"FromClaim\", \"FromClass\"",
                &format!("status.allocation.devices.config[0].requests[0]: Invalid value: \"x\": {unknown}"),
            ],
        ),
        (
            "/status/allocation/devices/config",
            many(65, |_| json!({})),
            &["status.allocation.devices.config: Too many: 65: must have at most 64 items"],
        ),
    ]);
}

#[test]
fn results_are_few() {
    let mut new = claim(json!({"allocation": allocation()}));
    set(&mut new, "/status/allocation/devices/results", many(33, |_| result()));
    assert_eq!(after(claim(json!({})), new), ["status.allocation.devices.results: Too many: 33: must have at most 32 items"]);
}

#[test]
fn an_allocation_stays_until_it_is_taken_away() {
    let mut other = full();
    set(&mut other, "/status/allocation/nodeSelector", Value::Null);
    let errors = after(full(), other);
    assert!(errors.len() == 1 && errors[0].starts_with("status.allocation: Invalid value: {"), "{errors:?}");
    assert!(errors[0].ends_with(": field is immutable"), "{errors:?}");
    assert!(after(full(), full()).is_empty());
    assert!(after(full(), claim(json!({}))).is_empty());
}

#[test]
fn drivers_tell_about_devices_of_the_claim_only() {
    let at = "status.devices[0]";
    let key = |device: &str| format!(r#"{{"Driver":"example.com","Pool":"node-1/a","Device":"{device}","ShareID":""}}"#);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "A", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    refused(vec![
        ("/status/devices/0/device", json!("gpu-1"), &[&format!("{at}: Invalid value: {}: must be an allocated device in the claim", key("gpu-1"))]),
        ("/status/devices", json!([device(), device()]), &[&format!("status.devices[1]: Duplicate value: {}", key("gpu-0"))]),
        (
            "/status/devices/0/shareID",
            json!(UID.to_uppercase()),
            &[
                &format!("{at}.shareID: Invalid value: \"{}\": uid must be in RFC 4122 normalized form", UID.to_uppercase()),
                &format!("{at}: Invalid value: "),
            ],
        ),
        ("/status/devices/0/conditions", json!([condition("A"), condition("A")]), &[&format!("{at}.conditions[1].type: Duplicate value: \"A\"")]),
        (
            "/status/devices/0/conditions",
            many(9, |at| condition(&format!("A{at}"))),
            &[&format!("{at}.conditions: Too many: 9: must have at most 8 items")],
        ),
        ("/status/devices/0/data", json!("x"), &[&format!("{at}.data: Invalid value: \"<value omitted>\": must be a valid JSON object")]),
        ("/status/devices/0/data", json!({"a": "x".repeat(10 * 1024)}), &[&format!("{at}.data: Too long: may not be more than 10240 bytes")]),
    ]);
}

#[test]
fn network_data_is_short_and_its_addresses_are_addresses() {
    let network = "/status/devices/0/networkData";
    let at = "status.devices[0].networkData";
    refused(vec![
        (network, json!({"interfaceName": "x".repeat(257)}), &[&format!("{at}.interfaceName: Too long: may not be more than 256 bytes")]),
        (network, json!({"hardwareAddress": "x".repeat(129)}), &[&format!("{at}.hardwareAddress: Too long: may not be more than 128 bytes")]),
        (
            network,
            json!({"ips": ["10.0.0.1 -j ACCEPT"]}),
            &[&format!(
                "{at}.ips[0]: Invalid value: \"10.0.0.1 -j ACCEPT\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
            )],
        ),
        (network, json!({"ips": ["10.0.0.1/24", "10.0.0.1/24"]}), &[&format!("{at}.ips[1]: Duplicate value: \"10.0.0.1/24\"")]),
        (network, json!({"ips": many(17, |n| format!("10.0.0.{n}/24").into())}), &[&format!("{at}.ips: Too many: 17: must have at most 16 items")]),
    ]);
}
