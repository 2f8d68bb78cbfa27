//! The transcoder against bytes written by hand.

use serde_json::json;

use super::*;

/// Appends a length-delimited field.
fn put(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    out.push(u8::try_from(bytes.len()).expect("short"));
    out.extend_from_slice(bytes);
}

fn wrapped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let (mut type_meta, mut body) = (Vec::new(), MAGIC.to_vec());
    put(&mut type_meta, 1, api_version.as_bytes());
    put(&mut type_meta, 2, kind.as_bytes());
    put(&mut body, 1, &type_meta);
    put(&mut body, 2, raw);
    body
}

#[test]
fn a_config_map_reads_as_its_json() {
    let (mut metadata, mut entry, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    put(&mut metadata, 1, b"a");
    put(&mut metadata, 3, b"");
    put(&mut metadata, 8, b"");
    put(&mut entry, 1, b"k");
    put(&mut entry, 2, b"v");
    put(&mut raw, 1, &metadata);
    put(&mut raw, 2, &entry);
    let read = to_json(&wrapped("v1", "ConfigMap", &raw)).expect("well formed");
    assert_eq!(read, json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}));
}

#[test]
fn fields_of_inlined_messages_come_to_the_surface() {
    // spec.volumes[0] = {name: 1, volumeSource: 2 {configMap: 19 {localObjectReference: 1 {name: 1}}}}
    let (mut reference, mut config_map, mut source, mut volume, mut spec, mut raw) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    put(&mut reference, 1, b"c");
    put(&mut config_map, 1, &reference);
    source.extend([0x9a, 0x01, u8::try_from(config_map.len()).expect("short")]);
    source.extend(&config_map);
    put(&mut volume, 1, b"v");
    put(&mut volume, 2, &source);
    put(&mut spec, 1, &volume);
    put(&mut raw, 2, &spec);
    let read = to_json(&wrapped("v1", "Pod", &raw)).expect("well formed");
    assert_eq!(read["spec"]["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
}

#[test]
fn the_type_of_nested_options_travels_outside_too() {
    let (mut metadata, mut raw) = (Vec::new(), Vec::new());
    put(&mut metadata, 1, b"p");
    put(&mut raw, 1, &metadata);
    // deleteOptions: 2 {gracePeriodSeconds: 1}
    put(&mut raw, 2, &[0x08, 0x03]);
    let read = to_json(&wrapped("policy/v1", "Eviction", &raw)).expect("well formed");
    assert_eq!(read["deleteOptions"], json!({"gracePeriodSeconds": 3}));
    let options = to_json(&wrapped("v1", "DeleteOptions", &[0x08, 0x00])).expect("well formed");
    assert_eq!(options["gracePeriodSeconds"], 0);
}

#[test]
fn what_is_no_message_is_a_bad_request() {
    assert_eq!(to_json(b"{}").expect_err("JSON").code, 400);
    assert_eq!(to_json(&wrapped("v1", "Nonsense", b"")).expect_err("no such kind").code, 400);
    assert_eq!(to_json(&wrapped("v1", "Pod", &[0x0a, 0x7f])).expect_err("cut off").code, 400);
}

/// Appends a length-delimited field that may be long.
fn put_long(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    crate::wire::put_bytes(number, bytes, out);
}

fn pod_of(spec: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    put_long(&mut raw, 2, spec);
    unknown("v1", "Pod", &raw)
}

#[test]
fn messages_that_hold_too_much_for_their_size_are_refused() {
    // containers (2), each empty; tolerations' texts and packed numbers cost less and are counted too.
    let empty = pod_of(&[0x12, 0x00].repeat(1 << 20));
    assert_eq!(to_json(&empty).expect_err("a million containers").code, 413);
    // imagePullSecrets (15) of one name each.
    let small = pod_of(&[0x7a, 0x03, 0x0a, 0x01, b'x'].repeat(400_000));
    assert_eq!(to_json(&small).expect_err("too many").code, 413);
    let few = pod_of(&[0x12, 0x00].repeat(100));
    assert!(to_json(&few).is_ok());
}

#[test]
fn deep_messages_are_refused() {
    // JSONSchemaProps.not (28) within each other.
    let mut props = Vec::new();
    for _ in 0..5000 {
        let mut outer = Vec::new();
        put_long(&mut outer, 28, &props);
        props = outer;
    }
    let (mut validation, mut version, mut spec, mut raw) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put_long(&mut validation, 1, &props);
    put_long(&mut version, 4, &validation);
    put_long(&mut spec, 7, &version);
    put_long(&mut raw, 2, &spec);
    let body = unknown("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw);
    let status = to_json(&body).expect_err("too deep");
    assert!(status.code == 400 && status.message.ends_with("exceeded max depth"), "{}", status.message);
}
