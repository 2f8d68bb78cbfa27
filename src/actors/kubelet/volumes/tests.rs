use std::{collections::BTreeMap, fs, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;
use troupe_cri::resources::MachineSize;

use super::{
    PodPaths, atomic, mounts,
    payload::{FileContent, Payload, PayloadInputs, payload},
    subpath,
};
use crate::kubelet::env::References;

fn files(all: &[(&str, &str)]) -> Payload {
    all.iter().map(|(path, text)| ((*path).to_owned(), FileContent { data: text.as_bytes().to_vec(), mode: 0o644 })).collect()
}

#[test]
fn files_are_swapped_all_at_once_and_stale_ones_vanish() {
    let place = tempfile::tempdir().expect("a directory");
    let write = |all: &[(&str, &str)]| atomic::write(place.path(), &files(all), None, None, Timestamp::now()).expect("writes");
    assert!(write(&[("a", "1"), ("d/b", "2")]));
    assert!(!write(&[("a", "1"), ("d/b", "2")]), "nothing changed");
    let before = fs::read_link(place.path().join("..data")).expect("a link");
    assert!(write(&[("a", "3")]));
    assert_eq!(fs::read_to_string(place.path().join("a")).expect("readable"), "3");
    assert!(!place.path().join("d").exists() && !place.path().join(before).exists());
}

#[test]
fn a_payload_cannot_leave_its_volume() {
    let place = tempfile::tempdir().expect("a directory");
    for path in ["../x", "/x", "a/../../x", "..data"] {
        assert!(atomic::write(place.path(), &files(&[(path, "")]), None, None, Timestamp::now()).is_err(), "{path}");
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}}, "spec": {
        "volumes": [
            {"name": "m", "configMap": {"name": "m", "items": [{"key": "k", "path": "deep/k", "mode": 256}]}},
            {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "e", "emptyDir": {}}],
        "containers": [{"name": "c", "terminationMessagePath": "/dev/termination-log", "volumeMounts": [
            {"name": "m", "mountPath": "/m"}, {"name": "e", "mountPath": "/e", "subPathExpr": "x/$(N)"}]}]}}))
    .expect("a pod")
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "other": "w"}})).expect("a config map");
    let mut references = References::default();
    references.config_maps.insert("m".into(), Some(Arc::new(map)));
    let pod = pod();
    let tokens = BTreeMap::new();
    let inputs = PayloadInputs { pod: &pod, references: &references, tokens: &tokens, pod_ips: &[], node_ips: &[], machine: MachineSize::default() };
    let volumes = super::volumes(&pod);
    let got = payload(&inputs, &volumes[0]).expect("complete");
    assert_eq!(got, Payload::from([("deep/k".to_owned(), FileContent { data: b"v".to_vec(), mode: 0o400 })]));
    assert_eq!(payload(&inputs, &volumes[1]).expect("complete")["labels"].data, b"a=\"b\"");
    let empty = References::default();
    let missing = payload(&PayloadInputs { references: &empty, ..inputs }, &volumes[0]);
    assert_eq!(missing, Err("configmap \"m\" not found".into()));
}

#[test]
fn mounts_carry_managed_files_and_written_volumes_read_only() {
    let pod = pod();
    let paths = PodPaths::new(std::path::Path::new("/k"), "u");
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let got = mounts::mounts(&paths, &pod, container, &[("N".into(), "7".into())], 2).expect("plans");
    let seen: Vec<_> = got.mounts.iter().map(|m| (m.container_path.as_str(), m.host_path.as_str(), m.readonly)).collect();
    let want = [
        ("/m", "/k/pods/u/volumes/kubernetes.io~configmap/m", true),
        ("/e", "/k/pods/u/volume-subpaths/e/c/1", false),
        ("/etc/hosts", "/k/pods/u/etc-hosts", false),
        ("/dev/termination-log", "/k/pods/u/containers/c/termination-2", false),
    ];
    assert_eq!(seen, want);
    assert_eq!(got.subpaths[0].sub, "x/7");
    assert!(mounts::mounts(&paths, &pod, container, &[], 0).is_err(), "the expression names an unknown variable");
}

#[test]
fn a_subpath_through_a_planted_link_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let volume = place.path().join("volume");
    fs::create_dir(&volume).expect("makes");
    std::os::unix::fs::symlink("/etc", volume.join("evil")).expect("links");
    for sub in ["evil/passwd", "../x", "/etc"] {
        assert!(subpath::bind(&volume, sub, &place.path().join("target")).is_err(), "{sub}");
    }
}
