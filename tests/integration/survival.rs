//! Daemons are killed at random moments while clients write: nothing acknowledged is lost, what runs goes on, and in the
//! end nothing is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    churn::{Churn, LEAVING, NAMESPACE},
    cluster::{Backend, Cluster, apply, eventually, eventually_within},
    footprint,
    load::Load,
    processes::{Daemon, Daemons},
    sample,
};

/// How often each daemon is killed; more with this variable.
const KILLS_VARIABLE: &str = "TROUPE_KILLS";
const KILLS: usize = 4;
/// What chooses daemons and moments; the same number chooses the same.
const SEED_VARIABLE: &str = "TROUPE_SEED";
/// Requests a second that must not notice anything.
const REQUESTS: u32 = 20;
/// Setting up a sandbox may take minutes by the time limits: so long after that remains of one are nobody's for certain.
const TIDY: Duration = Duration::from_secs(400);
/// What is left by then is shown this often.
const SHOW: Duration = Duration::from_secs(20);
/// What must stay as it is for every pod of the sample and of the cluster's own.
const CONTAINERS: &str = "get pods -A -o jsonpath={range.items[?(@.metadata.namespace!=\"churn\")]}{.metadata.name}{.metadata.uid}{.status.containerStatuses[*].containerID}{.status.containerStatuses[*].state.running.startedAt}{.status.containerStatuses[*].restartCount}{.status.podIP}{\"\\n\"}{end}";

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn kills_under_churn_lose_nothing_with_the_embedded_store() {
    survive(Backend::Embedded);
}

#[test]
fn kills_under_churn_lose_nothing_with_etcd() {
    survive(Backend::Etcd);
}

fn survive(backend: Backend) {
    let kills = number(KILLS_VARIABLE, KILLS as u64) as usize;
    let seed = number(SEED_VARIABLE, u64::from(std::process::id()));
    println!("{SEED_VARIABLE}={seed} {KILLS_VARIABLE}={kills} on {backend:?}");
    let cluster = Cluster::place_on(backend);
    let mut daemons = Daemons::new(&cluster);
    daemons.start();
    eventually("the DNS server runs", || cluster.kubectl("-n kube-system get pods -o name").contains("pod/"));
    let addresses = sample::deploy(&cluster);
    for namespace in ["kube-system", "sample"] {
        cluster.kubectl(&format!("-n {namespace} wait --for=condition=Ready pod --all --timeout=120s"));
    }
    prime(&cluster);
    let (before, running) = (footprint::take(&cluster), cluster.kubectl(CONTAINERS));
    let load = Load::at(&cluster, &addresses, REQUESTS);
    let churn = Churn::begin(&cluster, &[], seed);
    kill_at_random(&mut daemons, &churn, kills, seed);
    daemons.await_ready();
    // The daemons may have been away whenever somebody who writes seldom was about to.
    eventually("there was churn of each kind", || churn.is_broken() || churn.fewest() > kills / 2);
    let ledgers = churn.end();
    println!("{} requests, none failed", load.stop());
    for (kind, ledger) in &ledgers {
        println!("{kind}: {} writes were acknowledged, {} are unclear", ledger.acknowledged, ledger.unclear);
        assert!(ledger.acknowledged > kills / 2, "there was churn");
        let found = objects(&cluster, kind);
        let lost: Vec<String> = ledger.audit(&found).iter().map(ToString::to_string).collect();
        assert!(lost.is_empty(), "{kind}: {lost:?}");
    }
    converges(&cluster);
    assert_eq!(cluster.kubectl(CONTAINERS), running, "containers that nobody touched are the same ones");
    allocations_are_right(&cluster);
    cluster.kubectl(&format!("delete namespace {NAMESPACE} --timeout=300s"));
    let (began, mut shown) = (Instant::now(), Instant::now());
    let clean = || footprint::difference(&before, &footprint::take(&cluster));
    let deadline = Instant::now() + TIDY;
    loop {
        let left = clean();
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "after {} s:\n{left}", TIDY.as_secs());
        if shown.elapsed() > SHOW {
            shown = Instant::now();
            println!("after {:.0} s:\n{}", began.elapsed().as_secs_f64(), left.lines().take(5).collect::<Vec<_>>().join("\n"));
        }
        thread::sleep(Duration::from_secs(1));
    }
    println!("nothing is left over after {:.0} s", began.elapsed().as_secs_f64());
    assert_eq!(cluster.kubectl(CONTAINERS), running);
}

/// The plugin for host ports makes chains with the first one and keeps them; so they are no remains.
fn prime(cluster: &Cluster) {
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "primer", "namespace": "sample"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox:1.35", "command": ["sleep", "3600"], "ports": [{"containerPort": 80, "hostPort": 20000}]}]}}"#;
    apply(cluster, pod);
    cluster.kubectl("-n sample wait --for=condition=Ready pod/primer --timeout=120s");
    cluster.kubectl("-n sample delete pod primer --timeout=120s");
}

/// Kills each daemon so many times, in a random order at random moments; who starts it again is quick.
fn kill_at_random(daemons: &mut Daemons<'_>, churn: &Churn, kills: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut victims: Vec<Daemon> = Daemon::ALL.into_iter().flat_map(|daemon| std::iter::repeat_n(daemon, kills)).collect();
    victims.shuffle(&mut random);
    let mut killed: BTreeMap<Daemon, usize> = BTreeMap::new();
    for victim in victims {
        thread::sleep(Duration::from_millis(random.random_range(200..4500)));
        assert!(!churn.is_broken(), "a client found something wrong");
        assert_eq!(daemons.fallen(), None);
        if victim == Daemon::Containerd {
            eventually("containerd runs", || daemons.containerd().is_some());
        }
        *killed.entry(victim).or_default() += usize::from(daemons.kill(victim));
        daemons.restart(victim);
    }
    println!("killed while they ran: {killed:?}");
}

/// The objects of a kind in the churn's namespace, each with the field that stands for it.
fn objects(cluster: &Cluster, kind: &str) -> BTreeMap<String, String> {
    let field = match kind {
        "ConfigMap" => "{.data.v}",
        "Deployment" => "{.spec.replicas}",
        "Pod" => "{.metadata.deletionTimestamp}",
        _ => "",
    };
    // Pods of deployments have owners and no ledger.
    let template = format!("jsonpath={{range .items[*]}}{{.metadata.name}} {{.metadata.ownerReferences[*].kind}} {field}{{\"\\n\"}}{{end}}");
    let listed = cluster.kubectl_words(&["-n", NAMESPACE, "get", kind, "-o", &template]);
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let [name, owner, state] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let state = match kind {
            "Pod" | "Service" if state.is_empty() => "made",
            "Pod" => LEAVING,
            _ => state,
        };
        if owner.is_empty() && name != "kube-root-ca.crt" {
            found.insert(name.to_owned(), state.to_owned());
        }
    }
    found
}

/// Every Deployment gets the pods it wants, and no other pods are left.
fn converges(cluster: &Cluster) {
    let wanted = "get deployments -o jsonpath={range.items[*]}{.metadata.name}={.spec.replicas}{\"\\n\"}{end}";
    let ready = "get deployments -o jsonpath={range.items[*]}{.metadata.name}={.status.readyReplicas}{\"\\n\"}{end}";
    let owned = "get pods -o jsonpath={range.items[?(@.metadata.ownerReferences)]}{.metadata.name}{\"\\n\"}{end}";
    let get = |words: &str| cluster.kubectl(&format!("-n {NAMESPACE} {words}"));
    eventually_within(Duration::from_secs(240), "deployments have the pods they want", || get(wanted) == get(ready));
    let count: usize = get(wanted).lines().filter_map(|line| line.split('=').nth(1)?.parse::<usize>().ok()).sum();
    eventually("there are no further pods", || get(owned).lines().count() == count);
}

/// No address and no port is given out twice, and none is taken that no Service has.
fn allocations_are_right(cluster: &Cluster) {
    let all = |template: &str| cluster.kubectl(&format!("get services -A -o jsonpath={template}"));
    let listed = all("{range.items[*]}{.spec.clusterIP}{\"\\n\"}{end}");
    let addresses: Vec<&str> = listed.lines().collect();
    let unique: BTreeSet<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
    assert_eq!(unique.len(), addresses.len(), "{addresses:?}");
    let ports = all("{range.items[*]}{.spec.ports[*].nodePort}{\"\\n\"}{end}");
    let ports: Vec<&str> = ports.split_whitespace().collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{ports:?}");
    let taken = || cluster.kubectl("get ipaddresses -o jsonpath={range.items[*]}{.metadata.name}{\"\\n\"}{end}").lines().map(str::to_owned).collect();
    // What an interrupted creation took is given back when it was seen unused twice, some minutes apart.
    let missing: Vec<String> = unique.difference(&taken()).cloned().collect();
    assert!(missing.is_empty(), "addresses in use and not taken: {missing:?}");
}
