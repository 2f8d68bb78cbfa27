//! The wall clock is set forward by an hour, back by two, and right again under a live cluster: nobody notices.
//!
//! The daemon reads its clock through a small library that adds what a file says (`tests/support/clock.c`); the clocks of the
//! machine and of the containers stay as they are.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, eventually, images, text},
    load::Load,
    sample,
};

const HOUR: i64 = 3600;

/// The clock of one cluster's daemon.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    fn new(cluster: &Cluster) -> Self {
        let clock = Clock { library: cluster.path("clock.so"), offset: cluster.path("clock") };
        let source = format!("{}/tests/support/clock.c", env!("CARGO_MANIFEST_DIR"));
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&clock.library).args([&source, "-ldl"]).output();
        let built = built.expect("the C compiler that links our programs runs");
        assert!(built.status.success(), "{}", text(&built.stderr));
        fs::write(&clock.offset, 0_i64.to_ne_bytes()).expect("writes");
        clock
    }

    /// Sets it so many seconds off the machine's.
    fn set(&self, seconds: i64) {
        // In place: the daemon has the file's page mapped.
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().write(true).open(&self.offset).expect("opens");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("writes");
    }

    fn start(&self, cluster: &Cluster) {
        let images = images();
        let mut command = cluster.troupe_command(&["up", "--detach", "--image-dir", &images]);
        let output = command.env("LD_PRELOAD", &self.library).env("TROUPE_TEST_CLOCK", &self.offset).output().expect("troupe runs");
        assert!(output.status.success(), "troupe up failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    }
}

/// What must not change whatever the clock shows.
#[derive(Debug, PartialEq, Eq)]
struct Steady {
    pods: String,
    restarts: String,
    leaders: String,
    ready_since: String,
}

impl Steady {
    fn of(cluster: &Cluster) -> Self {
        let lease =
            |name: &str| cluster.kubectl(&format!("-n kube-system get lease {name} -o jsonpath={{.spec.holderIdentity}}/{{.spec.leaseTransitions}}"));
        Steady {
            pods: cluster.kubectl("get pods -A --sort-by=.metadata.uid -o jsonpath={.items[*].metadata.uid}"),
            restarts: cluster.kubectl("get pods -A -o jsonpath={.items[*].status.containerStatuses[*].restartCount}"),
            leaders: format!("{} {}", lease("kube-controller-manager"), lease("kube-scheduler")),
            ready_since: cluster.kubectl("get node it -o jsonpath={.status.conditions[?(@.type==\"Ready\")].lastTransitionTime}"),
        }
    }
}

/// A while in which leases would run out: nothing may change. Who goes by the wall clock sees at once that they did;
/// `TROUPE_CLOCK_SECONDS` makes it long enough for those who wait, too.
fn stays(cluster: &Cluster, before: &Steady, when: &str) {
    let seconds = std::env::var("TROUPE_CLOCK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        assert_eq!(Steady::of(cluster), *before, "{when}");
        let taints = cluster.kubectl("get node it -o jsonpath={.spec.taints[*].key}");
        assert_eq!(taints, "", "{when}");
        thread::sleep(Duration::from_secs(3));
    }
}

/// The cluster does its work: a rollout, a Service's new endpoint, the end of a pod, an exec, a job.
fn works(cluster: &Cluster, name: &str) {
    cluster.kubectl(&format!("create deployment {name} --image=busybox:1.35 -- sleep 3600"));
    cluster.kubectl(&format!("rollout status deployment/{name} --timeout=120s"));
    cluster.kubectl(&format!("exec deployment/{name} -- true"));
    cluster.kubectl(&format!("create job {name} --image=busybox:1.35 -- true"));
    cluster.kubectl(&format!("wait --for=condition=Complete job/{name} --timeout=120s"));
    cluster.kubectl(&format!("delete deployment/{name} job/{name} --timeout=120s"));
    eventually("its pods are gone", || cluster.kubectl("get pods -o name").lines().count() == 1);
}

const CRASHING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "busybox:1.35", command: [sh, -c, "sleep 3; false"]}
"#;

#[test]
fn a_clock_that_jumps_disturbs_nobody() {
    let cluster = Cluster::place();
    let clock = Clock::new(&cluster);
    clock.start(&cluster);
    let addresses = sample::deploy(&cluster);
    cluster.kubectl("-n kube-system wait --for=condition=Ready pod --all --timeout=120s");
    cluster.kubectl("create configmap kept --from-literal=a=b");
    cluster.kubectl("run witness --image=busybox:1.35 --restart=Never -- sleep 3600");
    cluster.kubectl("wait --for=condition=Ready pod/witness --timeout=120s");
    let started = || cluster.kubectl("get events --field-selector involvedObject.name=witness,reason=Started -o jsonpath={.items[*].metadata.uid}");
    eventually("an event tells of the witness", || !started().is_empty());
    let event = started();
    let pid = cluster.pid();
    let load = Load::on(&cluster, &addresses);
    let before = Steady::of(&cluster);
    for (offset, when) in [(HOUR, "an hour ahead"), (-HOUR, "an hour behind"), (0, "right again")] {
        clock.set(offset);
        stays(&cluster, &before, when);
        works(&cluster, &format!("at{}", offset + HOUR));
        // Names are answered by pods that hold tokens, which are renewed in time.
        let lookup = "exec witness -- nslookup kubernetes.default.svc.cluster.local";
        eventually(&format!("names are answered {when}"), || cluster.kubectl_output(lookup).status.success());
        assert_eq!(started(), event, "events live by their own time, {when}");
    }
    // A container that fails behind a clock that then goes back is started again in time.
    crate::cluster::apply(&cluster, CRASHING);
    let count = || cluster.kubectl("get pod crashing -o jsonpath={.status.containerStatuses[0].restartCount}").parse::<u32>().unwrap_or(0);
    eventually("it is restarted once", || count() >= 1);
    clock.set(-HOUR);
    let so_far = count();
    eventually("it is restarted again", || count() > so_far);
    cluster.kubectl("delete pod crashing --timeout=120s");
    clock.set(0);
    load.stop();
    assert_eq!(cluster.pid(), pid);
    let panics = cluster.actors().iter().map(|actor| actor["restarts"].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!(panics, 0, "no actor failed");
}
