//! Certificates that last minutes, on two machines: everything goes on past their ends, without a restart.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    cluster::{eventually, text},
    hub::{Hub, Machine},
};

/// What the first machine makes for itself lasts so many seconds.
const OWN: &str = "45";
/// What the joined one gets through the API; it begins five minutes before it is signed.
const SIGNED: &str = "135";
/// Longer than any of them.
const WATCHED: Duration = Duration::from_secs(145);

/// The files whose content is renewed.
fn files(one: &Machine, two: &Machine) -> Vec<PathBuf> {
    let own = [
        "data/pki/apiserver.crt",
        "data/pki/admin.crt",
        "data/pki/apiserver-kubelet-client.crt",
        "data/pki/front-proxy-client.crt",
        "data/pki/kubelet.crt",
        "kubeconfig",
    ];
    let got = ["kubeconfig", "kubelet/pki/kubelet-serving.pem"];
    own.iter().map(|name| one.path(name)).chain(got.iter().map(|name| two.path(name))).collect()
}

fn contents(files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let read = |path: &PathBuf| (path.clone(), fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    files.iter().map(read).collect()
}

#[test]
fn certificates_are_renewed_while_everything_runs() {
    let hub = Hub::new();
    // No node is to be silent here, but a busy machine may hold one up for some seconds.
    let mut one = Machine::new(&hub, "one", "198.51.100.2");
    one.grace = 20;
    let two = Machine::new(&hub, "two", "198.51.100.3");
    let begun = Instant::now();
    one.troupe(&["up", "--detach", "--certificate-validity", OWN, "--cluster-signing-duration", SIGNED]);
    let invitation = one.troupe(&["token", "create", "--ttl", "1h", "--print-join-command"]);
    let words: Vec<&str> = invitation.split_whitespace().collect();
    two.start_node(&words[2..]);
    eventually("both nodes are ready", || one.kubectl("get nodes --no-headers").matches(" Ready ").count() == 2);
    for node in ["one", "two"] {
        let spec = format!(r#"{{"spec":{{"nodeName":"{node}","terminationGracePeriodSeconds":0}}}}"#);
        one.kubectl(&format!("run on-{node} --image=busybox:1.35 --overrides={spec} -- sleep infinity"));
    }
    one.kubectl("wait --for=condition=Ready pod/on-one pod/on-two --timeout=120s");
    eventually("the joined node serves", || one.kubectl_output(&["exec", "on-two", "--", "true"]).status.success());
    let files = files(&one, &two);
    let (first, pid) = (contents(&files), fs::read_to_string(one.path("run/troupe.pid")).expect("a pid file"));
    while begun.elapsed() < WATCHED {
        for pod in ["on-one", "on-two"] {
            let output = one.kubectl_output(&["exec", pod, "--", "echo", "here"]);
            assert_eq!(text(&output.stdout).trim(), "here", "{pod} after {:?}: {}", begun.elapsed(), text(&output.stderr));
        }
        let nodes = one.kubectl("get nodes --no-headers");
        assert_eq!(nodes.matches(" Ready ").count(), 2, "after {:?}: {nodes}", begun.elapsed());
        std::thread::sleep(Duration::from_secs(1));
    }
    let stale = || -> Vec<&PathBuf> {
        let last = contents(&files);
        files.iter().filter(|path| first[*path] == last[*path]).collect()
    };
    // Who joined late renews late.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !stale().is_empty() {
        assert!(Instant::now() < deadline, "not renewed: {:?}", stale());
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(fs::read_to_string(one.path("run/troupe.pid")).expect("a pid file"), pid, "the same process");
    let actors = one.troupe(&["actors", "--json"]);
    let actors: Vec<serde_json::Value> = serde_json::from_str(&actors).expect("JSON");
    let keepers: Vec<_> = actors.iter().filter(|actor| actor["path"].as_str().is_some_and(|path| path.contains("certificates/"))).collect();
    assert!(keepers.iter().all(|keeper| keeper["restarts"] == 0), "{keepers:#?}");
    assert_eq!(keepers.iter().filter(|keeper| keeper["status"]["renewed"].as_u64() >= Some(1)).count(), 2, "{keepers:#?}");
}
