//! A control plane whose state is sealed: on the disk, in backups, through a rotation of keys; and files that stop it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    cluster::{Cluster, eventually, eventually_within, text},
    running::Running,
};

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
    // Nobody sees half of it.
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("writes");
    fs::rename(beside, path).expect("takes its place");
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
    eventually_within(RELOADED, "the new key seals", || {
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

/// The file is looked at once a minute.
const RELOADED: Duration = Duration::from_secs(180);

/// Somebody who writes Secrets and reads them all, again and again, of whom nothing may fail.
struct Client {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Client {
    fn start(cluster: &Cluster) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted, kubectl) = (stop.clone(), rounds.clone(), cluster.caller());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let round = counted.load(Relaxed);
                for words in [
                    format!("create secret generic made-{round} --from-literal=round={round}"),
                    format!("patch secret changed -p {{\"stringData\":{{\"round\":\"{round}\"}}}}"),
                    format!("get secret kept made-{round} made-{}", round / 2),
                    "get secrets --all-namespaces --chunk-size=5".to_owned(),
                ] {
                    assert!(kubectl(&words), "kubectl {words} failed");
                }
                counted.fetch_add(1, Relaxed);
            }
        });
        Client { stop, rounds, thread }
    }

    /// Waits until it has done more.
    fn goes_on(&self) {
        let before = self.rounds.load(Relaxed);
        eventually("requests succeed", || self.rounds.load(Relaxed) > before + 2 || self.thread.is_finished());
        assert!(!self.thread.is_finished(), "a request failed");
    }

    /// How many Secrets it made.
    fn stop(self) -> usize {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("no request failed");
        self.rounds.load(Relaxed)
    }
}

fn sealed_daemon(cluster: &Cluster, file: &Path) -> Running {
    let flag = format!("--encryption-provider-config={}", file.display());
    let daemon = cluster.daemon("control-plane", &["--components=apiserver", &flag, "--encryption-provider-config-automatic-reload"]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    daemon
}

/// How often the file was exchanged so far.
fn reloads(cluster: &Cluster) -> usize {
    let page = cluster.kubectl("get --raw /metrics");
    let series = "apiserver_encryption_config_controller_automatic_reloads_total{status=\"success\",apiserver_id_hash=\"sha256:";
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.split_once("\"} "));
    line.map_or(0, |(_, count)| count.trim().parse().expect("a number"))
}

/// Writes every Secret as it is. Who loses a race against another writer is written with the new key by that one.
fn write_all_again(cluster: &Cluster) {
    let listed = cluster.kubectl("get secrets --all-namespaces -o json");
    let file = cluster.path("all.json");
    fs::write(&file, listed).expect("writes");
    let replaced = cluster.kubectl_output(&format!("replace -f {}", file.display()));
    let failed = text(&replaced.stderr);
    assert!(failed.lines().all(|line| line.contains("the object has been modified")), "{failed}");
}

fn password(cluster: &Cluster) -> String {
    cluster.kubectl("get secret kept -o jsonpath={.data.password}")
}

#[test]
fn a_key_is_retired_while_others_write_and_read_and_backups_need_the_new_one_alone() {
    let cluster = Cluster::place();
    let file = cluster.path("encryption.yaml");
    configuration(&file, &[("one", ONE)]);
    let daemon = sealed_daemon(&cluster, &file);
    cluster.kubectl("create secret generic kept --from-literal=password=hunter2hunter2");
    cluster.kubectl("create secret generic changed --from-literal=round=none");
    let client = Client::start(&cluster);
    client.goes_on();
    let steps: [&[(&str, &str)]; 3] = [&[("one", ONE), ("two", TWO)], &[("two", TWO), ("one", ONE)], &[("two", TWO)]];
    for (step, keys) in steps.into_iter().enumerate() {
        configuration(&file, keys);
        eventually_within(RELOADED, "the file is read", || reloads(&cluster) == step + 1);
        client.goes_on();
        if step == 1 {
            write_all_again(&cluster);
            client.goes_on();
        }
    }
    let made = client.stop();
    // A server that never had the old key reads everything.
    drop(daemon);
    let daemon = sealed_daemon(&cluster, &file);
    let count = |cluster: &Cluster| cluster.kubectl("get secrets -o name").lines().filter(|name| name.contains("/made-")).count();
    assert_eq!((password(&cluster), count(&cluster)), ("aHVudGVyMmh1bnRlcjI=".to_owned(), made));
    let backup = cluster.path("backup");
    let taken = cluster.troupe_with_settings(&["backup", &backup.to_string_lossy()]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    let sealed = fs::read(&backup).expect("a backup");
    let contains = |bytes: &[u8]| sealed.windows(bytes.len()).any(|window| window == bytes);
    assert!(!contains(b"aHVudGVyMmh1bnRlcjI=") && !contains(b"k8s:enc:secretbox:v1:one:"), "it is sealed, and by the new key");
    cluster.kubectl("delete secret kept");
    drop(daemon);
    let restored = cluster.troupe_with_settings(&["restore", "--force", &backup.to_string_lossy()]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let _daemon = sealed_daemon(&cluster, &file);
    assert_eq!((password(&cluster), count(&cluster)), ("aHVudGVyMmh1bnRlcjI=".to_owned(), made));
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
        assert!(status.code() == Some(1) && log.contains(why), "{flag}: {log}");
    }
    let gates = "--feature-gates=Nope=true";
    let output = cluster.troupe_with_settings(&["up", "--detach", gates]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("unrecognized feature gate: Nope") && !told.contains("the daemon ended"), "{told}");
    // What never began is no crash.
    for starts in ["data/troupe.starts.json", "data/troupe-control-plane.starts.json"] {
        assert!(!cluster.path(starts).exists(), "{starts}");
    }
}
