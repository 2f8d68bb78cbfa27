//! A control plane whose state is sealed: on the disk, in backups, through a rotation of keys; and files that stop it.

use std::{fs, path::Path, time::Duration};

use crate::cluster::{Cluster, eventually, eventually_within, text};

const ONE: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TWO: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

/// Secrets are sealed by the first of these keys.
fn configuration(path: &Path, keys: &[(&str, &str)]) {
    let key = |(name, secret): &(&str, &str)| format!("{{name: {name}, secret: {secret}}}");
    let keys = keys.iter().map(key).collect::<Vec<_>>().join(", ");
    let providers = format!("[{{secretbox: {{keys: [{keys}]}}}}, {{identity: {{}}}}]");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: {providers}\n"
    );
    fs::write(path, text).expect("writes");
}

/// Whether a file below a directory holds these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    entries.into_iter().any(|entry| match entry.path() {
        path if path.is_dir() => holds(&path, bytes),
        path => fs::read(path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes),
    })
}

#[test]
fn secrets_are_sealed_on_the_disk_and_keys_are_rotated_while_it_runs() {
    let cluster = Cluster::place();
    let file = cluster.path("encryption.yaml");
    configuration(&file, &[("one", ONE)]);
    let flag = format!("--encryption-provider-config={}", file.display());
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver", &flag, "--encryption-provider-config-automatic-reload"]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    assert_eq!(cluster.kubectl("get --raw /healthz/kms-providers"), "ok");
    cluster.kubectl("create secret generic s --from-literal=password=hunter2hunter2");
    cluster.kubectl("create configmap c --from-literal=open=inTheOpenForAll");
    let store = cluster.path("data/store");
    eventually("the secret is on the disk", || holds(&store, b"k8s:enc:secretbox:v1:one:"));
    assert!(holds(&store, b"inTheOpenForAll") && !holds(&store, b"aHVudGVyMmh1bnRlcjI="), "nothing of it lies there in the open");
    configuration(&file, &[("two", TWO), ("one", ONE)]);
    let replace = || {
        let objects = cluster.kubectl("get secrets -o json");
        fs::write(cluster.path("secrets.json"), objects).expect("writes");
        cluster.kubectl(&format!("replace -f {}", cluster.path("secrets.json").display()))
    };
    eventually_within(Duration::from_secs(100), "the new key seals", || {
        replace();
        holds(&store, b"k8s:enc:secretbox:v1:two:")
    });
    let read = "get secret s -o jsonpath={.data.password}";
    assert_eq!(cluster.kubectl(read), "aHVudGVyMmh1bnRlcjI=");
    let backup = cluster.path("backup");
    let taken = cluster.troupe_with_settings(&["backup", &backup.to_string_lossy()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    let taken = fs::read(backup).expect("a backup");
    assert!(!taken.windows(20).any(|window| window == b"aHVudGVyMmh1bnRlcjI="));
}

#[test]
fn a_file_or_flag_that_cannot_work_stops_the_daemon_and_says_why() {
    let cluster = Cluster::place();
    let odd = cluster.path("odd.yaml");
    fs::write(&odd, "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: []\n").expect("writes");
    let flag = |name: &str| format!("{name}={}", odd.display());
    for (flag, why) in [
        (flag("--encryption-provider-config"), "at least one resources is required"),
        (flag("--authorization-config"), "AuthorizationConfiguration"),
        (flag("--authentication-config"), "AuthenticationConfiguration"),
        ("--runtime-config=nope.example/v1=true".into(), "unknown api groups nope.example/v1"),
        ("--feature-gates=Nope=true".into(), "unrecognized feature gate: Nope"),
        ("--enable-admission-plugins=Nope".into(), "plugin \"Nope\" is unknown"),
        ("--oidc-issuer-url=https://issuer.example".into(), "oidc-issuer-url and oidc-client-id must be specified together"),
    ] {
        let mut daemon = cluster.daemon("control-plane", &["--components=apiserver", &flag]);
        let status = daemon.wait().expect("ends");
        let log = fs::read_to_string(cluster.path("control-plane.log")).expect("a log");
        assert!(!status.success() && log.contains(why), "{flag}: {log}");
    }
}
