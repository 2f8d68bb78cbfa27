//! The node under faults: pods' workers on a runtime that loses replies, takes its time, whose containers die and that dies itself, while units and
//! the whole kubelet are killed at any step, the API is seen late and clocks are set. No container may be started twice and none may be left behind,
//! and what lives must come up when the trouble is over.
//!
//! Real are `kubelet/pods` with admission, the workers with their machines, plans, steps, probes, status and files in a directory of their
//! own, and `kubelet/runtime`. The runtime is the recording fake behind [`runtime`], the API is [`api`]. Of the kubelet all else is missing:
//! the node's status and lease, eviction, image collection, rotation, plugins, manifests, cgroups and the server.

mod api;
mod judge;
mod runtime;

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::meta::{Cause, Clock};
use troupe_cri::{FakeRuntime, Runtime, names::PodIdentity, proto, resources::MachineSize};
use troupe_net::cni::links::NoPodLinks;

use self::{
    api::{SimulatedApi, View},
    judge::Judge,
    runtime::{FaultyRuntime, RuntimeFaults},
};
use super::{SimulatedClock, jump_clock, restart_units, simulate_with_clock};
use crate::{
    kubelet::{
        admission::NodeAbilities,
        container_manager::ContainerManager,
        context::NodeContext,
        csi::Csi,
        device_plugins::DevicePlugins,
        dra::Dra,
        events::EventRecorder,
        node::own::OwnNode,
        pods::{AllPods, PodChanged, Pods, Room, RuntimeChanged},
        pull_records::PullRecords,
        pulls::PullGate,
        relist::{OnChange, RuntimeWatch},
        resize::Allocations,
        resolv::{ClusterDns, Resolver},
        user_namespaces::{NodeIds, UserNamespaces},
        volumes::room::NodeRoom,
        worker::{backoff::BackoffPolicy, shell::PodSource},
    },
    network_policy::OpenGate,
    pod_phase::{is_finished, phase},
    runtime::{system::System, unit::Policy},
};

/// How long faults go on, in so many parts, and how long the world then has to come to rest: a worker that was killed often waits for five
/// minutes, and each container after a crash for `LONGEST_BACKOFF` at most.
const FAULTY: Duration = Duration::from_secs(60);
const PARTS: u32 = 12;
const REST: Duration = Duration::from_secs(900);
const SETTLE: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(60);
/// One run of the tests has so many seeds, or fewer if they take longer than that, but so many at least.
const SEEDS: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(6);
const LEAST_SEEDS: u64 = 12;

const UNITS: &str = "kubelet/pods/";

/// What a pod is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Two containers with a volume, and one with probes.
    Pair,
    /// An init container and a sidecar come first.
    Staged,
    /// Two containers that never restart.
    Job,
    /// A container that restarts until it succeeds.
    Retried,
    /// The same with a sidecar.
    Batch,
    /// It never restarts, and has a sidecar and an init container that may fail.
    Fallible,
}

const KINDS: [Kind; 6] = [Kind::Pair, Kind::Staged, Kind::Job, Kind::Retried, Kind::Batch, Kind::Fallible];
/// Containers that end by themselves when the trouble is over.
const TASKS: [&str; 4] = ["job", "helper", "task", "work"];

fn container(name: &str) -> Value {
    json!({"name": name, "image": "web", "imagePullPolicy": "Never"})
}

impl Kind {
    fn spec(self) -> Value {
        let mut sidecar = container("side");
        sidecar["restartPolicy"] = "Always".into();
        match self {
            Kind::Pair => {
                let mut probed = container("a");
                let probe = json!({"exec": {"command": ["true"]}, "periodSeconds": 5});
                (probed["livenessProbe"], probed["readinessProbe"]) = (probe.clone(), probe);
                probed["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
                json!({"restartPolicy": "Always", "containers": [probed, container("b")], "volumes": [{"name": "v", "emptyDir": {}}]})
            }
            Kind::Staged => json!({"restartPolicy": "Always", "initContainers": [container("init"), sidecar], "containers": [container("main")]}),
            Kind::Job => json!({"restartPolicy": "Never", "containers": [container("job"), container("helper")]}),
            Kind::Retried => json!({"restartPolicy": "OnFailure", "containers": [container("task")]}),
            Kind::Batch => json!({"restartPolicy": "OnFailure", "initContainers": [sidecar], "containers": [container("work")]}),
            Kind::Fallible => json!({"restartPolicy": "Never", "initContainers": [sidecar, container("init")], "containers": [container("job")]}),
        }
    }

    /// The containers that run for as long as the pod does.
    fn lasting(self) -> &'static [&'static str] {
        match self {
            Kind::Pair => &["a", "b"],
            Kind::Staged => &["side", "main"],
            _ => &[],
        }
    }

    fn ends(self) -> bool {
        self.lasting().is_empty()
    }
}

/// A pod that was made.
struct Made {
    uid: String,
    kind: Kind,
}

struct World {
    system: System,
    clock: Arc<SimulatedClock>,
    api: Arc<SimulatedApi>,
    runtime: Arc<FaultyRuntime>,
    judge: Arc<Judge>,
    place: tempfile::TempDir,
    seed: u64,
}

impl World {
    fn new(system: System, clock: Arc<SimulatedClock>, seed: u64) -> Self {
        let (fake, told) = (FakeRuntime::with_images(&["web:latest"]), clock.clone());
        fake.follow(move || i64::try_from(told.now().as_nanosecond()).expect("simulations are short"));
        let judge = Arc::new(Judge::default());
        let runtime = Arc::new(FaultyRuntime::new(fake, judge.clone(), seed));
        let api = Arc::new(SimulatedApi::new(clock.clone(), runtime.clone(), judge.clone(), seed));
        let place = tempfile::tempdir().expect("a directory");
        World { system, clock, api, runtime, judge, place, seed }
    }

    /// What a kubelet process knows when it starts, with what the one before left on disk.
    fn context(&self) -> NodeContext {
        let (place, root) = (self.place.path(), self.place.path().join("kubelet"));
        fs::create_dir_all(root.join("pods")).expect("makes");
        let machine = MachineSize { cpus: 2, memory_bytes: 1 << 33, daemons_oom_score_adj: 0, ..MachineSize::default() };
        NodeContext {
            node_name: "n1".into(),
            clock: self.system.clock().clone(),
            runtime: self.runtime.clone(),
            features: ArcSwap::default(),
            abilities: NodeAbilities::default(),
            cluster: self.api.clone(),
            device_plugins: Arc::new(DevicePlugins::new(&root)),
            dra: Arc::new(Dra::new(&root, "n1".into(), None)),
            csi: Arc::new(Csi::new(&root, "n1".into(), None)),
            gate: Arc::new(OpenGate),
            links: Arc::new(NoPodLinks),
            pulls: PullGate::new(Default::default()),
            registry_clients: Default::default(),
            credential_providers: Default::default(),
            pull_records: PullRecords::new(&root, Default::default(), self.system.clock().clone()),
            pod_certificates: Default::default(),
            backoff: BackoffPolicy::at_most(LONGEST_BACKOFF),
            events: EventRecorder::nowhere(),
            volumes: place.join("volumes"),
            log_root: place.join("logs"),
            container_log_links: "".into(),
            cgroup_parent: "troupe-simulation".into(),
            slices: Default::default(),
            container_manager: ContainerManager::default(),
            user_namespaces: UserNamespaces::start(&root, NodeIds::new(65_536, 110 * 65_536, 65_536, 110).expect("ids")).expect("starts"),
            allocations: Allocations::load(&root),
            seccomp_root: root.join("seccomp").display().to_string(),
            seccomp_default: false,
            stop_signals: false,
            cpu_time: Default::default(),
            dns: ClusterDns { servers: Vec::new(), domain: "cluster.local".into() },
            resolver: Resolver::default(),
            node_ips: vec!["192.0.2.7".into()],
            machine,
            unreserved: machine,
            hugepages: Vec::new(),
            masked_paths: Vec::new(),
            disk_pressure: AtomicBool::new(false),
            memory_pressure: AtomicBool::new(false),
            pid_pressure: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
            written: NodeRoom::new(1 << 26),
            cgroups_per_qos: false,
            pod_max_pids: None,
            runtime_name: "fake".into(),
            runtime_version: ArcSwap::from_pointee("fake 1.0.0".to_owned()),
            root,
        }
    }

    /// Starts the kubelet, as after a crash: it finds what the one before left.
    fn start_kubelet(&self) {
        let (context, view) = (Arc::new(self.context()), Arc::new(View::default()));
        let (listed, found) = (view.clone(), view.clone());
        let all: AllPods = Arc::new(move || listed.all());
        let source: PodSource = Arc::new(move |id: &PodIdentity| found.get(&id.uid));
        let room = Room { node: OwnNode::new(node(), None), most: 110, listeners: Vec::new(), compares_tolerations: false };
        let pods =
            self.system.spawn("kubelet/pods", Policy::default(), move |_| Pods::new(context.clone(), all.clone(), source.clone(), room.clone()));
        let (runtime, told): (Arc<dyn Runtime>, _) = (self.runtime.clone(), pods.clone());
        let on_change: OnChange = Arc::new(move |changed| told.wake(RuntimeChanged(changed), Cause::default()));
        self.system.spawn("kubelet/runtime", Policy::default(), move |_| RuntimeWatch::new(runtime.clone(), on_change.clone()));
        self.api.watch(view, Arc::new(move |id: PodIdentity| pods.wake(PodChanged(id), Cause::default())));
    }

    /// Ends the kubelet as a crash does: nothing that was under way is waited for.
    fn end_kubelet(&self) {
        self.api.end_watch();
        self.system.stop("kubelet");
    }

    /// The kubelet dies and is started anew, about every `period`, for as long as this is polled; now and then the runtime dies with it, or
    /// the machine.
    async fn restart_kubelet(&self, period: Duration) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ 0x5eed);
        loop {
            tokio::time::sleep(period.mul_f64(rng.random_range(0.3..1.7))).await;
            self.end_kubelet();
            if rng.random_bool(0.4) {
                self.runtime.die(rng.random_bool(0.3)).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..3000))).await;
            self.start_kubelet();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..3000))).await;
            self.runtime.come_back();
        }
    }

    /// What runs ends, about every three seconds, for as long as this is polled.
    async fn strike(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            self.runtime.strike().await;
        }
    }

    /// All at once that may go wrong, until `life` is over; then the kubelet is started once more.
    async fn in_trouble(&self, life: impl Future<Output = ()>) {
        self.runtime.misbehave(Some(RuntimeFaults::default()));
        self.api.misbehave(true);
        tokio::select! {
            biased;
            () = life => {}
            () = restart_units(self.system.clone(), "kubelet/", Duration::from_secs(5), self.seed) => {}
            () = jump_clock(self.clock.clone(), Duration::from_secs(20), Duration::from_secs(17), self.seed) => {}
            () = self.restart_kubelet(Duration::from_secs(15)) => {}
            () = self.strike() => {}
        }
        self.runtime.misbehave(None);
        self.runtime.come_back();
        self.api.misbehave(false);
        self.end_kubelet();
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.start_kubelet();
    }

    /// Waits in simulated time until it holds, and that nothing goes wrong meanwhile.
    async fn until(&self, what: &str, holds: impl AsyncFn() -> Result<(), String>) {
        let deadline = tokio::time::Instant::now() + REST;
        loop {
            let outcome = holds().await;
            let wrong = self.judge.wrong();
            assert!(wrong.is_empty(), "seed {}: {wrong:#?}", self.seed);
            let Err(why) = outcome else { return };
            if tokio::time::Instant::now() > deadline {
                let workers = self.workers().await;
                panic!("seed {}: {what}: {why}: {workers:#?}", self.seed);
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    }

    /// What the workers say of themselves.
    async fn workers(&self) -> Vec<Value> {
        let all = self.system.directory().observe(Duration::from_secs(1)).await;
        all.into_iter().filter(|actor| actor.path.starts_with(UNITS)).map(|actor| actor.status).collect()
    }

    fn create(&self, number: usize, kind: Kind) -> Made {
        let name = format!("{kind:?}-{number}").to_lowercase();
        Made { uid: self.api.create(&name, &kind.spec()), kind }
    }

    /// Whether a pod runs as it should.
    async fn is_up(&self, made: &Made) -> Result<(), String> {
        let Some(pod) = self.api.pod(&made.uid) else { return Err(format!("{} is gone", made.uid)) };
        if made.kind.ends() {
            return if phase(&pod) == "Pending" { Err(format!("{} is pending", made.uid)) } else { Ok(()) };
        }
        let containers = self.runtime.containers(&made.uid).await;
        for name in made.kind.lasting() {
            let running = containers.iter().filter(|seen| seen.name == *name && seen.runs()).count();
            if running != 1 {
                return Err(format!("of {name} of {} {running} run", made.uid));
            }
        }
        let sandboxes = self.runtime.ready_sandboxes(&made.uid).await.len();
        if sandboxes != 1 || !is_ready(&pod) {
            return Err(format!("{} has {sandboxes} sandboxes, and ready is {}", made.uid, is_ready(&pod)));
        }
        Ok(())
    }

    async fn are_up(&self, pods: &[Made]) -> Result<(), String> {
        self.runtime.finish(&["init"], 0).await;
        for made in pods {
            self.is_up(made).await?;
        }
        Ok(())
    }

    async fn have_ended(&self, pods: &[Made]) -> Result<(), String> {
        self.runtime.finish(&TASKS, 0).await;
        for made in pods.iter().filter(|made| made.kind.ends()) {
            let running = self.runtime.containers(&made.uid).await.iter().filter(|seen| seen.runs()).count();
            if running > 0 || !self.api.pod(&made.uid).is_some_and(|pod| is_finished(&pod)) {
                return Err(format!("{} goes on, {running} of its containers run", made.uid));
            }
        }
        Ok(())
    }

    /// What there is of pods that are gone.
    async fn is_empty(&self) -> Result<(), String> {
        let containers = self.runtime.inner().list_containers(proto::ContainerFilter::default()).await.expect("listed").len();
        let sandboxes = self.runtime.inner().list_pod_sandboxes(proto::PodSandboxFilter::default()).await.expect("listed").len();
        let entries = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
        let (directories, logs) = (entries(&self.place.path().join("kubelet/pods")), entries(&self.place.path().join("logs")));
        let workers = self.system.directory().snapshot().iter().filter(|actor| actor.path.starts_with(UNITS)).count();
        let left = [self.api.count(), containers, sandboxes, directories, logs, workers];
        if left == [0; 6] { Ok(()) } else { Err(format!("objects, containers, sandboxes, directories, logs and workers: {left:?}")) }
    }

    /// What the API says at last of pods that came to rest.
    fn check_statuses(&self, pods: &[Made]) {
        for Made { uid, kind } in pods {
            let pod = self.api.pod(uid).expect("nobody deleted it");
            if matches!(kind, Kind::Retried | Kind::Batch) {
                assert_eq!(phase(&pod), "Succeeded", "seed {}: {uid}", self.seed);
            }
            let told = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            for status in told {
                let (starts, restarts) = (self.judge.times(uid, &status.name), usize::try_from(status.restart_count).expect("no less than none"));
                assert!(
                    starts <= restarts + 1,
                    "seed {}: {} of {uid} was started {starts} times, {restarts} restarts are told",
                    self.seed,
                    status.name
                );
            }
        }
    }
}

fn node() -> Node {
    let allocatable = json!({"cpu": "2", "memory": "8Gi", "pods": "110"});
    let node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": allocatable, "capacity": allocatable}});
    serde_json::from_value(node).expect("a node")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Pods of some kinds live through the trouble, two are deleted in it; then those that live come up, tasks end, and when all are deleted
/// nothing is left. Gives the calls of the runtime in their order.
fn run(seed: u64) -> Vec<String> {
    simulate_with_clock(seed, |system, clock| async move {
        let world = World::new(system, clock, seed);
        let mut rng = StdRng::seed_from_u64(seed ^ 0x90d5);
        let mut some_kind = || KINDS[rng.random_range(0..KINDS.len())];
        let kinds = [some_kind(), some_kind(), some_kind(), some_kind(), some_kind()];
        let at_once: [bool; 3] = rng.random();
        world.start_kubelet();
        let pods: Vec<Made> = kinds[..3].iter().enumerate().map(|(number, kind)| world.create(number, *kind)).collect();
        let life = async {
            let mut doomed = world.create(3, kinds[3]);
            for part in 0..PARTS {
                tokio::time::sleep(FAULTY / PARTS).await;
                world.runtime.finish(&["init"], 0).await;
                match part {
                    3 => world.api.delete(&doomed.uid, at_once[0]),
                    4 => doomed = world.create(4, kinds[4]),
                    9 => world.api.delete(&doomed.uid, at_once[1]),
                    _ => {}
                }
            }
        };
        world.in_trouble(life).await;
        world.until("what lives comes up", async || world.are_up(&pods).await).await;
        world.until("tasks end", async || world.have_ended(&pods).await).await;
        // The last of it is seen and written.
        tokio::time::sleep(SETTLE).await;
        world.check_statuses(&pods);
        pods.iter().for_each(|made| world.api.delete(&made.uid, at_once[2]));
        world.until("nothing is left", async || world.is_empty().await).await;
        world.end_kubelet();
        world.runtime.inner().calls()
    })
}

/// Seeds that no run had before, from `$TROUPE_SIMULATION_SEED` on if that is set, as many as there is time for, or as
/// `$TROUPE_SIMULATION_SEEDS` says.
fn seeds() -> impl Iterator<Item = u64> {
    let given = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let first = given("TROUPE_SIMULATION_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let (wanted, begun) = (given("TROUPE_SIMULATION_SEEDS"), std::time::Instant::now());
    let is_time = move |seed: &u64| wanted.is_some() || seed - first < LEAST_SEEDS || begun.elapsed() < PATIENCE;
    (first..first + wanted.unwrap_or(SEEDS)).take_while(is_time)
}

#[test]
fn no_container_is_started_twice_and_none_is_left_behind_whatever_gets_lost() {
    for seed in seeds() {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_calls() {
    let (first, second) = (run(7), run(7));
    let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    assert_eq!(first[same..].first(), second[same..].first(), "after {:#?}", &first[same.saturating_sub(5)..same]);
    assert_ne!(first, run(8), "another seed goes another way");
}
