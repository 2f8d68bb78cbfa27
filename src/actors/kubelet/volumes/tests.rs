use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, HostPathVolumeSource, Pod, PodSecurityContext, Volume};
use serde_json::json;
use troupe_api::metrics::{parse::Samples, render};
use troupe_cri::resources::MachineSize;

use super::{
    Made, PodPaths,
    atomic::{self, Owners},
    claim::Sources,
    disk, hostpath, mounts,
    payload::{FileContent, Payload, PayloadInputs, TokenRequest, payload},
    room::{MOST_VOLUMES, NodeRoom, Room},
    subpath,
};
use crate::{
    files::{Directory, directory::proc_path},
    kubelet::{env::References, pod_certificates::Bundle, trust_bundles},
    storage::operations::COLLECTORS,
};

fn files(all: &[(&str, &str)]) -> Payload {
    all.iter().map(|(path, text)| ((*path).to_owned(), FileContent { data: text.as_bytes().to_vec(), mode: 0o644 })).collect()
}

#[test]
fn files_are_swapped_all_at_once_and_stale_ones_vanish() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::open(place.path()).expect("opens");
    let write = |all: &[(&str, &str)]| atomic::write(&directory, &files(all), Owners::default(), Timestamp::now()).expect("writes");
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
    let directory = Directory::open(place.path()).expect("opens");
    for path in ["../x", "/x", "a/../../x", "..data", "a//b", "a/."] {
        assert!(atomic::write(&directory, &files(&[(path, "")]), Owners::default(), Timestamp::now()).is_err(), "{path}");
    }
    let conflict = files(&[("a", ""), ("a/b", "")]);
    assert!(atomic::write(&directory, &conflict, Owners::default(), Timestamp::now()).is_err());
    assert_eq!(fs::read_dir(place.path()).expect("reads").count(), 0, "what fails leaves nothing");
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

/// What volumes of a pod are made of, without tokens, claims and addresses.
fn inputs<'a>(pod: &'a Pod, references: &'a References) -> PayloadInputs<'a> {
    const TOKENS: &BTreeMap<TokenRequest, String> = &BTreeMap::new();
    const CLAIMS: &Sources = &BTreeMap::new();
    let machine = MachineSize::default();
    PayloadInputs { pod, references, tokens: TOKENS, claims: CLAIMS, pod_ips: &[], node_ips: &[], machine, runtime: "fake 1" }
}

#[test]
fn volumes_count_by_plugin_and_by_whether_they_are_set_up() {
    let place = tempfile::tempdir().expect("a directory");
    let volumes = json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "m", "configMap": {"name": "missing"}}]);
    let spec = json!({"containers": [{"name": "c"}], "volumes": volumes});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod");
    let counted = || {
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        [("kubernetes.io/host-path", "success"), ("kubernetes.io/configmap", "fail-unknown")].map(|(plugin, status)| {
            let labels = [("volume_plugin", plugin), ("operation_name", "volume_mount"), ("status", status)];
            samples.value("storage_operation_duration_seconds_count", &labels).unwrap_or_default()
        })
    };
    let before = counted();
    let (paths, references) = (PodPaths::new(place.path(), "u"), References::default());
    let outcome = disk::set_up(&paths, &inputs(&pod, &references), &NodeRoom::new(0), &Made::default(), Timestamp::now());
    outcome.expect_err("the config map is not there");
    let after = counted();
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
}

#[test]
fn items_choose_keys_paths_and_modes() {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "other": "w"}})).expect("a config map");
    let mut references = References::default();
    references.config_maps.insert("m".into(), Some(Arc::new(map)));
    let pod = pod();
    let inputs = inputs(&pod, &references);
    let volumes = super::volumes(&pod);
    let node = NodeRoom::new(0);
    let payload = |inputs: &PayloadInputs<'_>, volume: &Volume| payload(inputs, volume, &mut Room::new(&node, "u"));
    let got = payload(&inputs, &volumes[0]).expect("complete");
    assert_eq!(got, Payload::from([("deep/k".to_owned(), FileContent { data: b"v".to_vec(), mode: 0o400 })]));
    assert_eq!(payload(&inputs, &volumes[1]).expect("complete")["labels"].data, b"a=\"b\"");
    let empty = References::default();
    let missing = payload(&PayloadInputs { references: &empty, ..inputs }, &volumes[0]);
    assert_eq!(missing, Err("configmap \"m\" not found".into()));
    let other: ConfigMap = serde_json::from_value(json!({"data": {"other": "w"}})).expect("a config map");
    let mut lacking = References::default();
    lacking.config_maps.insert("m".into(), Some(Arc::new(other)));
    let lacks = payload(&PayloadInputs { references: &lacking, ..inputs }, &volumes[0]);
    assert_eq!(lacks, Err("configmap references non-existent config key: k".into()));
}

#[test]
fn a_projected_bundle_is_a_file_that_those_who_run_the_pod_read() {
    let anchor = troupe_api::certificates::pem("CERTIFICATE", b"anchor");
    let bundles = trust_bundles::known(&[("b", "", json!({}), &format!("# of b\n{anchor}"))]);
    let mut references = References { trust_bundles: Some(bundles), ..References::default() };
    let pod = |user: Option<i64>, name: &str, optional: bool| -> Pod {
        let source = json!({"clusterTrustBundle": {"name": name, "path": "certs/ca.pem", "optional": optional}});
        let volume = json!({"name": "v", "projected": {"defaultMode": 0o444, "sources": [source]}});
        let spec = json!({"securityContext": {"runAsUser": user}, "volumes": [volume], "containers": [{"name": "c"}]});
        serde_json::from_value(json!({"spec": spec})).expect("a pod")
    };
    let file = |references: &References, pod: &Pod| {
        let inputs = inputs(pod, references);
        let node = NodeRoom::new(0);
        payload(&inputs, &super::volumes(pod)[0], &mut Room::new(&node, "u"))
    };
    let made = |text: &str, mode: u32| Ok(Payload::from([("certs/ca.pem".to_owned(), FileContent { data: text.as_bytes().to_vec(), mode })]));
    assert_eq!(file(&references, &pod(None, "b", false)), made(&anchor, 0o444));
    assert_eq!(file(&references, &pod(Some(1000), "b", false)), made(&anchor, 0o600));
    assert_eq!(file(&references, &pod(None, "other", true)), made("", 0o444));
    let missing = file(&references, &pod(None, "other", false)).expect_err("is not there");
    assert!(missing.ends_with("clustertrustbundle.certificates.k8s.io \"other\" not found"), "{missing}");
    references.trust_bundles = None;
    assert_eq!(file(&references, &pod(None, "b", true)), Err("the bundles of trust anchors are not known yet".into()));
}

#[test]
fn a_pods_key_and_certificates_are_written_together_or_apart() {
    let sources = json!([{"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "credentialBundlePath": "bundle.pem"}},
        {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519", "keyPath": "key.pem", "certificateChainPath": "chain.pem"}}]);
    let spec = json!({"volumes": [{"name": "v", "projected": {"defaultMode": 0o444, "sources": sources}}], "containers": [{"name": "c"}]});
    let mut pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
    let bundle = |key: &str| Ok(Arc::new(Bundle { key: key.to_owned(), chain: "CHAIN".to_owned() }));
    let certificates = [(("v".to_owned(), 0), bundle("ONE")), (("v".to_owned(), 1), bundle("TWO"))].into();
    let mut references = References { certificates, ..References::default() };
    let got = |pod: &Pod, references: &References| {
        let inputs = inputs(pod, references);
        payload(&inputs, &super::volumes(pod)[0], &mut Room::new(&NodeRoom::new(0), "u"))
    };
    let written = |mode: u32| {
        let file = |path: &str, text: &str| (path.to_owned(), FileContent { data: text.as_bytes().to_vec(), mode });
        Payload::from([file("bundle.pem", "ONECHAIN"), file("key.pem", "TWO"), file("chain.pem", "CHAIN")])
    };
    assert_eq!(got(&pod, &references), Ok(written(0o444)));
    pod.spec.as_mut().expect("a spec").security_context = Some(PodSecurityContext { run_as_user: Some(7), ..PodSecurityContext::default() });
    assert_eq!(got(&pod, &references), Ok(written(0o600)), "they are the one user's");
    references.certificates.insert(("v".to_owned(), 1), Err("not issued yet".to_owned()));
    assert_eq!(got(&pod, &references), Err("not issued yet".to_owned()));
}

#[test]
fn a_key_that_is_named_any_number_of_times_is_not_copied_so_often() {
    let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "y".repeat(1_000_000)}})).expect("a config map");
    let mut references = References::default();
    references.config_maps.insert("m".into(), Some(Arc::new(map)));
    let items: Vec<_> = (0..50_000).map(|index| json!({"key": "k", "path": format!("p{index}")})).collect();
    let volume = json!({"name": "m", "configMap": {"name": "m", "items": items}});
    let pod: Pod = serde_json::from_value(json!({"spec": {"volumes": [volume], "containers": []}})).expect("a pod");
    let inputs = inputs(&pod, &references);
    let node = NodeRoom::new(0);
    let refused = payload(&inputs, &super::volumes(&pod)[0], &mut Room::new(&node, "u")).expect_err("is too much");
    assert!(refused.contains("larger than"), "{refused}");
}

#[test]
fn a_pod_has_no_more_mounts_than_the_machine_has_to_give() {
    let place = tempfile::tempdir().expect("a directory");
    let paths = PodPaths::new(place.path(), "u");
    let volumes: Vec<_> = (0..=MOST_VOLUMES).map(|index| json!({"name": format!("v{index}"), "emptyDir": {"medium": "Memory"}})).collect();
    let parts: Vec<_> = (0..=MOST_VOLUMES).map(|index| json!({"name": "v0", "mountPath": format!("/m{index}"), "subPath": "s"})).collect();
    let spec = json!({"volumes": volumes, "containers": [{"name": "c", "volumeMounts": parts}]});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
    let (references, made, node) = (References::default(), Made::default(), NodeRoom::new(0));
    let inputs = inputs(&pod, &references);
    let refused = disk::set_up(&paths, &inputs, &node, &made, Timestamp::now()).expect_err("are too many");
    assert_eq!(refused.to_string(), "the pod has 513 volumes, this node sets up 512 at most");
    assert!(!paths.volumes().exists(), "nothing is made");
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let refused = mounts::mounts(&paths, &pod, container, &[], 0).expect_err("are too many");
    assert_eq!(refused, "the pod mounts 513 parts of volumes, this node 512 at most");
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
fn what_somebody_took_away_from_a_written_volume_comes_back() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = Directory::open(place.path()).expect("opens");
    let write = || atomic::write(&directory, &files(&[("a", "1"), ("d/b", "2")]), Owners::default(), Timestamp::now()).expect("writes");
    let is_whole =
        || fs::read(place.path().join("a")).is_ok_and(|data| data == b"1") && fs::read(place.path().join("d/b")).is_ok_and(|data| data == b"2");
    assert!(write() && is_whole());
    let data = place.path().join("..data");
    let spoilers: [&dyn Fn() -> std::io::Result<()>; 6] = [
        &|| fs::remove_file(place.path().join("a")),
        &|| fs::remove_file(&data),
        &|| fs::remove_file(data.join("d/b")),
        &|| fs::write(data.join("a"), "2"),
        &|| fs::remove_dir_all(place.path().join(fs::read_link(&data)?)),
        &|| fs::set_permissions(data.join("a"), fs::Permissions::from_mode(0o600)),
    ];
    for (number, spoil) in spoilers.iter().enumerate() {
        spoil().expect("spoils");
        assert!(write() && is_whole(), "spoiler {number}");
        assert!(!write(), "nothing is left to do after spoiler {number}");
    }
    assert_eq!(directory.entries().expect("reads").iter().filter(|entry| entry.is_dir).count(), 1, "what was written earlier is gone");
}

#[test]
fn a_data_link_that_leads_elsewhere_takes_nothing_along() {
    let (place, outside) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::write(outside.path().join("kept"), "").expect("writes");
    symlink(outside.path(), place.path().join("..data")).expect("links");
    let directory = Directory::open(place.path()).expect("opens");
    assert!(atomic::write(&directory, &files(&[("a", "1")]), Owners::default(), Timestamp::now()).expect("writes"));
    assert!(outside.path().join("kept").exists());
    assert_eq!(fs::read_to_string(place.path().join("a")).expect("reads"), "1");
}

#[test]
fn volumes_that_are_taken_away_are_noticed_and_made_anew() {
    let place = tempfile::tempdir().expect("a directory");
    let paths = PodPaths::new(place.path(), "u");
    let mut pod = pod();
    pod.spec.as_mut().expect("a spec").volumes.as_mut().expect("volumes").remove(0);
    let (references, made, node) = (References::default(), Made::default(), NodeRoom::new(0));
    let inputs = inputs(&pod, &references);
    disk::make_directories(&paths).expect("makes");
    let set_up = || disk::set_up(&paths, &inputs, &node, &made, Timestamp::now()).expect("sets up");
    set_up();
    assert_eq!(made.take().into_iter().collect::<Vec<_>>(), ["d", "e"]);
    let shared = paths.volume("empty-dir", "e");
    assert_eq!(fs::metadata(&shared).expect("is there").permissions().mode() & 0o7777, 0o777);
    // What containers made of it is theirs.
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o700)).expect("sets");
    set_up();
    assert_eq!(fs::metadata(&shared).expect("is there").permissions().mode() & 0o7777, 0o700);
    assert!(made.take().is_empty() && disk::missing(&paths, &pod).is_empty());
    fs::remove_dir(&shared).expect("removes");
    fs::remove_file(paths.volume("downward-api", "d").join("..data")).expect("removes");
    assert_eq!(disk::missing(&paths, &pod), ["d", "e"]);
    disk::refresh(&paths, &inputs, &node, &made, Timestamp::now()).expect("refreshes");
    assert_eq!(made.take().into_iter().collect::<Vec<_>>(), ["e"], "containers still see the directory of the other");
    assert!(disk::missing(&paths, &pod).is_empty());
}

#[test]
fn a_subpath_leads_nowhere_but_below_its_volume() {
    let place = tempfile::tempdir().expect("a directory");
    let volume = place.path().join("volume");
    fs::create_dir_all(volume.join("real/deep")).expect("makes");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o2770)).expect("sets");
    for (target, name) in [("/etc", "evil"), ("../outside", "above"), ("real", "inside"), ("nothing", "dangling"), ("loop", "loop")] {
        symlink(target, volume.join(name)).expect("links");
    }
    fs::create_dir(place.path().join("outside")).expect("makes");
    let root = Directory::open(&volume).expect("opens");
    let find = |sub: &str| subpath::find_or_make(&root, sub);
    for sub in ["evil", "evil/passwd", "evil/new", "above", "above/new", "../x", "/etc", "inside/../..", "dangling/x", "dangling", "loop"] {
        assert!(find(sub).is_err(), "{sub}");
    }
    assert!(!place.path().join("outside/new").exists() && !volume.join("nothing").exists());
    let inode = |path: &Path| fs::metadata(path).expect("is there").ino();
    let found = |sub: &str| inode(&proc_path(&find(sub).expect("finds")));
    assert_eq!(found("inside/deep"), inode(&volume.join("real/deep")));
    assert_eq!(found("a/./b"), inode(&volume.join("a/b")));
    assert_eq!(fs::metadata(volume.join("a/b")).expect("is there").permissions().mode() & 0o7777, 0o2770, "made as the volume is");
    assert_eq!(found("inside/new"), inode(&volume.join("real/new")));
    assert_eq!(find("../x").expect_err("refused").to_string(), "unable to provision SubPath `../x`: must not contain '..'");
}

#[test]
fn a_link_that_is_exchanged_all_the_time_never_leads_out_of_the_volume() {
    let place = tempfile::tempdir().expect("a directory");
    let volume = place.path().join("volume");
    fs::create_dir_all(volume.join("good")).expect("makes");
    symlink("good", volume.join("x")).expect("links");
    let etc = fs::metadata("/etc").expect("is there");
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, inside) = (stop.clone(), volume.clone());
    let attacker = std::thread::spawn(move || {
        let name = |name: &str| inside.join(name);
        while !stopped.load(Ordering::Relaxed) {
            symlink("good", name("next")).expect("links");
            fs::rename(name("next"), name("x")).expect("renames");
            symlink("/etc", name("next")).expect("links");
            fs::rename(name("next"), name("x")).expect("renames");
        }
    });
    let root = Directory::open(&volume).expect("opens");
    let (mut inside, mut refused) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while inside + refused < 20_000 || inside == 0 || refused == 0 {
        assert!(Instant::now() < deadline, "the race was run: {inside} inside, {refused} refused");
        match subpath::find_or_make(&root, "x") {
            Ok(found) => {
                let there = fs::metadata(proc_path(&found)).expect("is there");
                assert_ne!((there.dev(), there.ino()), (etc.dev(), etc.ino()));
                inside += 1;
            }
            Err(_) => refused += 1,
        }
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().expect("ends");
}

#[test]
fn a_host_path_is_what_its_type_says() {
    let place = tempfile::tempdir().expect("a directory");
    let check = |name: &str, kind: &str| {
        let path = place.path().join(name).display().to_string();
        hostpath::check(&HostPathVolumeSource { path, type_: Some(kind.into()) })
    };
    fs::write(place.path().join("file"), "text").expect("writes");
    for (name, kind) in
        [("file", "File"), ("file", "FileOrCreate"), ("new", "FileOrCreate"), ("a/b", "DirectoryOrCreate"), ("a", "Directory"), ("none", "")]
    {
        assert_eq!(check(name, kind), Ok(()), "{name} {kind}");
    }
    for (name, kind) in
        [("file", "Directory"), ("a", "File"), ("none", "Socket"), ("file", "CharDevice"), ("file", "Nonsense"), ("file/x", "Directory")]
    {
        assert!(check(name, kind).is_err(), "{name} {kind}");
    }
    assert_eq!(fs::read_to_string(place.path().join("file")).expect("reads"), "text", "nothing was written over");
    assert!(!place.path().join("none").exists());
}

#[test]
fn a_volume_in_memory_is_no_larger_than_its_pod_or_the_node_allows() {
    let size = |limit: serde_json::Value, pod_limit: Option<&str>| {
        let resources = pod_limit.map(|limit| json!({"limits": {"memory": limit}}));
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})).expect("a pod");
        let references = References::default();
        let machine = MachineSize { memory_bytes: 1 << 30, ..MachineSize::default() };
        let inputs = PayloadInputs { machine, ..inputs(&pod, &references) };
        let source = serde_json::from_value(json!({"medium": "Memory", "sizeLimit": limit})).expect("a source");
        disk::memory_size(&inputs, &source) >> 20
    };
    assert_eq!(size(json!(null), None), 1024, "all that the node has for pods");
    assert_eq!(size(json!(null), Some("64Mi")), 64);
    assert_eq!(size(json!("10Mi"), Some("64Mi")), 10);
    assert_eq!(size(json!("1Gi"), Some("64Mi")), 64);
    assert_eq!((size(json!("0"), Some("64Mi")), size(json!("8Gi"), None)), (64, 1024));
}

#[test]
fn an_image_is_mounted_read_only_by_the_runtime() {
    let place = tempfile::tempdir().expect("a directory");
    let mounts = json!([{"name": "v", "mountPath": "/v", "subPath": "a/b"}, {"name": "v", "mountPath": "/w"}]);
    let spec = json!({"volumes": [{"name": "v", "image": {"reference": "quay.io/a:1"}}], "containers": [{"name": "c", "volumeMounts": mounts}]});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let got = mounts::mounts(&PodPaths::new(place.path(), "u"), &pod, container, &[], 0).expect("plans");
    let shown = |mount: &troupe_cri::proto::Mount| {
        let image = mount.image.as_ref().map(|image| image.user_specified_image.clone());
        (mount.container_path.clone(), image, mount.image_sub_path.clone(), mount.readonly, mount.host_path.is_empty())
    };
    let image = Some("quay.io/a:1".to_owned());
    assert_eq!(shown(&got.mounts[0]), ("/v".into(), image.clone(), "a/b".into(), true, true));
    assert_eq!(shown(&got.mounts[1]), ("/w".into(), image, String::new(), true, true));
    assert!(got.subpaths.is_empty(), "nothing is bound on the host");
}

#[test]
fn an_image_volume_is_refused_with_the_name_and_version_of_a_runtime_that_mounts_none() {
    let place = tempfile::tempdir().expect("a directory");
    let volumes = json!([{"name": "v", "image": {"reference": "quay.io/a:1"}}]);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"volumes": volumes, "containers": []}})).expect("a pod");
    let (references, tokens) = (References::default(), BTreeMap::new());
    let paths = PodPaths::new(place.path(), "u");
    let set_up = |runtime: &str| {
        let inputs = PayloadInputs {
            pod: &pod,
            references: &references,
            tokens: &tokens,
            claims: &BTreeMap::new(),
            pod_ips: &[],
            node_ips: &[],
            machine: MachineSize::default(),
            runtime,
        };
        disk::set_up(&paths, &inputs, &NodeRoom::new(0), &Made::default(), Timestamp::now())
    };
    let why = "MountVolume.SetUp failed for volume \"v\" : image volumes are not supported with the container runtime containerd 1.6.20";
    assert_eq!(set_up("containerd 1.6.20").expect_err("is refused").to_string(), why);
    set_up("containerd 2.1.0").expect("the runtime mounts it");
    assert_eq!(disk::missing(&paths, &pod), Vec::<String>::new(), "there is nothing of it here");
}

#[test]
fn a_volume_of_huge_pages_is_mounted_for_a_pod_that_asks_for_some() {
    let place = tempfile::tempdir().expect("a directory");
    let paths = PodPaths::new(place.path(), "u");
    let set_up = |requests: serde_json::Value| {
        let spec = json!({"volumes": [{"name": "e", "emptyDir": {"medium": "HugePages"}}], "securityContext": {"fsGroup": 77},
            "containers": [{"name": "c", "resources": {"requests": requests}}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
        let references = References::default();
        let inputs = inputs(&pod, &references);
        let outcome = disk::set_up(&paths, &inputs, &NodeRoom::new(0), &Made::default(), Timestamp::now());
        (outcome.map_err(|error| error.to_string()), disk::missing(&paths, &pod))
    };
    let why =
        "MountVolume.SetUp failed for volume \"e\" : medium HugePages: hugePages storage requested, but there is no resource request for huge pages";
    assert_eq!(set_up(json!({"memory": "1Gi"})), (Err(why.to_owned()), vec!["e".to_owned()]));
    let path = paths.volume("empty-dir", "e");
    assert!(!path.exists(), "nothing is made");

    let asked = json!({"hugepages-2Mi": "2Mi"});
    let done = set_up(asked.clone());
    let table = fs::read_to_string("/proc/self/mounts").expect("the mount table");
    let owner = fs::metadata(&path).map(|found| (found.gid(), found.permissions().mode() & 0o7777)).ok();
    let again = set_up(asked);
    let count = fs::read_to_string("/proc/self/mounts").expect("the mount table").matches(path.to_str().expect("a path")).count();
    while nix::mount::umount(&path).is_ok() {}
    assert_eq!((done, again), ((Ok(()), Vec::new()), (Ok(()), Vec::new())));
    assert!(table.lines().any(|line| line.contains(path.to_str().expect("a path")) && line.contains("hugetlbfs")), "{table}");
    assert_eq!((owner, count), (Some((77, 0o2777)), 1), "once, and for the pod's group");
}
