//! A cluster in a network namespace, with directories, ports and names of its own; gone when dropped.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    database::{self, Etcd},
    running::Running,
};

/// Clusters made by this process.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// The node's address in every cluster's namespace.
pub const NODE_IP: &str = "198.51.100.2";

/// Its IPv6 address, where it has one.
pub const NODE_IPV6: &str = "2001:db8:51::2";

/// Where a cluster's state lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Embedded,
    /// An etcd of its own.
    Etcd,
}

/// A running cluster.
pub struct Cluster {
    namespace: String,
    etcd: Option<Mutex<Etcd>>,
    /// The `cgroup.procs` of the group that daemons start in, where that is not the test's own.
    daemons_in: Option<PathBuf>,
    /// The program that runs as its daemon.
    program: String,
    /// The node is known by another address than that of its uplink.
    elsewhere: bool,
    /// The node's addresses, as a flag takes them.
    node_ip: String,
    dir: tempfile::TempDir,
}

/// A cluster that tests share, one at a time; it ends with the last test that waits for its turn.
pub struct Turn {
    _turn: MutexGuard<'static, ()>,
    cluster: Arc<Cluster>,
}

impl std::ops::Deref for Turn {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Waits for a turn at the shared cluster, and starts it if it does not run. A test leaves nothing of its own there, and
/// may restart its daemon.
pub fn shared() -> Turn {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    static TURN: Mutex<()> = Mutex::new(());
    // A failed test poisons nothing: the cluster is checked by what the next one asks of it.
    let cluster = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::up());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    };
    Turn { _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner), cluster }
}

/// Writes a test's objects to a file that `kubectl apply -f` reads, and applies it.
pub fn apply(cluster: &Cluster, manifest: &str) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(manifest.as_bytes()).expect("writes");
    cluster.kubectl(&format!("apply -f {}", file.path().display()));
}

impl Cluster {
    /// Makes the namespace and starts the cluster in it.
    pub fn up() -> Self {
        Cluster::up_on(Backend::Embedded)
    }

    /// The same with its state elsewhere.
    pub fn up_on(backend: Backend) -> Self {
        let cluster = Cluster::place_on(backend);
        cluster.start();
        cluster
    }

    /// A place for a cluster with its state in `backend`; an etcd runs there.
    pub fn place_on(backend: Backend) -> Self {
        let mut cluster = Cluster::place();
        if backend == Backend::Etcd {
            cluster.etcd = Some(Mutex::new(Etcd::start(&cluster.namespace, cluster.dir())));
        }
        cluster
    }

    /// A place for a cluster of several nodes, which know each other by their links.
    pub fn place_of_several() -> Self {
        let mut cluster = Cluster::place();
        cluster.elsewhere = true;
        cluster
    }

    /// A place for a cluster of other families of addresses than IPv4 alone: its uplink has the address [`NODE_IPV6`], too, or only.
    pub fn place_of_families(dual: bool) -> Self {
        let mut cluster = Cluster::place();
        let ip = |words: &str| run("ip", &[&["-n", &cluster.namespace], &*words.split_whitespace().collect::<Vec<_>>()].concat());
        ip(&format!("address add {NODE_IPV6}/64 dev uplink nodad"));
        ip("-6 route add default via 2001:db8:51::1 dev uplink");
        if !dual {
            ip("address flush dev uplink scope global");
            ip(&format!("address add {NODE_IPV6}/64 dev uplink nodad"));
            ip("-6 route replace default via 2001:db8:51::1 dev uplink");
        }
        cluster.node_ip = if dual { format!("{NODE_IP},{NODE_IPV6}") } else { NODE_IPV6.into() };
        cluster
    }

    /// Has daemons start in a cgroup, named by its `cgroup.procs`.
    pub fn hold_daemons_in(&mut self, processes: PathBuf) {
        self.daemons_in = Some(processes);
    }

    /// The cluster's etcd, which it must have.
    pub fn etcd(&self) -> MutexGuard<'_, Etcd> {
        self.etcd.as_ref().expect("the state lies in etcd").lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a namespace and directories where nothing runs yet.
    pub fn place() -> Self {
        Cluster::place_of(binary())
    }

    /// The same for a cluster of another program than the one under test.
    pub fn place_of(program: String) -> Self {
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let namespace = format!("troupe-{process}-{number}");
        let dir = tempfile::Builder::new().prefix("troupe-it").tempdir().expect("a temporary directory");
        let cluster = Cluster { namespace, etcd: None, daemons_in: None, program, elsewhere: false, node_ip: NODE_IP.into(), dir };
        let namespace = &cluster.namespace;
        let veth = format!("tr{}x{number}", process % 100_000);
        run("ip", &["netns", "add", namespace]);
        run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "uplink", "netns", namespace]);
        run("ip", &["-n", namespace, "address", "add", "198.51.100.2/24", "dev", "uplink"]);
        run("ip", &["-n", namespace, "link", "set", "uplink", "up"]);
        run("ip", &["link", "set", &veth, "up"]);
        run("ip", &["-n", namespace, "route", "add", "default", "via", "198.51.100.1"]);
        cluster
    }

    /// Starts a daemon (`control-plane`, `node`) with this cluster's settings; it logs into the cluster's directory and ends when dropped.
    pub fn daemon(&self, name: &str, flags: &[&str]) -> Running {
        let kubeconfig = if name == "node" { "node.kubeconfig" } else { "admin.kubeconfig" };
        self.daemon_beside("", name, kubeconfig, flags)
    }

    /// The same with a kubeconfig, and with data and run directories that end in `place`.
    pub fn daemon_beside(&self, place: &str, name: &str, kubeconfig: &str, flags: &[&str]) -> Running {
        let log = File::options().create(true).append(true).open(self.path(&format!("{name}{place}.log"))).expect("a log file");
        let own = |setting: String| {
            let moved = if setting.ends_with("/data") || setting.ends_with("/run") { format!("{setting}{place}") } else { setting };
            moved.replace("admin.kubeconfig", kubeconfig)
        };
        let mut command = self.held(&self.program);
        command.arg(name).args(flags).args(self.settings_of_daemon(name, flags).into_iter().map(own));
        command.args(started_with(&[&[name], flags].concat()));
        if name == "node" {
            command.arg("--image-dir").arg(images());
        }
        Running(command.stdout(log.try_clone().expect("a second handle")).stderr(log).spawn().expect("the daemon starts"))
    }

    /// The folder that holds all files of this cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of its network namespace, which its cgroups have too.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `troupe up --detach` with this cluster's settings.
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// The same with further flags.
    pub fn start_with(&self, flags: &[&str]) {
        let images = images();
        let output = self.troupe_with_settings(&[&["up", "--detach", "--image-dir", &images], flags].concat());
        assert!(output.status.success(), "troupe up failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    }

    /// Stops the cluster; its data stays.
    pub fn stop(&self) {
        let output = self.troupe_with_settings(&["down"]);
        assert!(output.status.success(), "troupe down failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    }

    /// Moves this thread, and threads it starts from now on, into the cluster's network namespace.
    pub fn enter(&self) {
        let namespace = File::open(self.network_namespace()).expect("the namespace exists");
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may enter it");
    }

    /// The file that is the cluster's network namespace.
    pub fn network_namespace(&self) -> String {
        format!("/run/netns/{}", self.namespace)
    }

    /// A path in the cluster's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// Waits until an object (`kind/name`) exists in a namespace.
    pub fn eventually_has(&self, object: &str, namespace: &str) {
        eventually(&format!("{object} exists in {namespace}"), || self.kubectl_output(&format!("-n {namespace} get {object}")).status.success());
    }

    /// The packet filter's rules that translate addresses.
    pub fn rules(&self) -> String {
        let output = self.inside("iptables-save").args(["-t", "nat"]).output().expect("iptables-save runs");
        text(&output.stdout)
    }

    fn settings(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let pairs = [
            ("--data-dir", path("data")),
            ("--run-dir", path("run")),
            ("--kubeconfig", path("admin.kubeconfig")),
            ("--kubelet-dir", path("kubelet")),
            ("--pod-logs-dir", path("logs")),
            ("--cni-conf-dir", path("cni")),
            ("--manifests-dir", path("manifests")),
            ("--node-ip", self.node_ip.clone()),
            ("--node-name", "it".into()),
            ("--bridge", "it0".into()),
            ("--cgroup-parent", format!("{}/kubepods", self.namespace)),
        ];
        let etcd = self.etcd.iter().map(|_| ("--etcd-servers", database::URL.to_owned()));
        let pairs = pairs.into_iter().filter(|(flag, _)| !self.elsewhere || *flag != "--node-ip");
        pairs.chain(etcd).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// The settings that a daemon takes; it refuses those that would have no effect.
    fn settings_of_daemon(&self, name: &str, flags: &[&str]) -> Vec<String> {
        const NODES: [&str; 6] = ["--kubelet-dir", "--pod-logs-dir", "--cni-conf-dir", "--manifests-dir", "--bridge", "--cgroup-parent"];
        let takes = |flag: &str| match name {
            "node" => flag != "--etcd-servers" && (flag != "--kubeconfig" || !flags.contains(&"--standalone")),
            _ => !NODES.contains(&flag),
        };
        let settings = self.settings();
        settings.chunks(2).filter(|pair| takes(&pair[0])).flatten().cloned().collect()
    }

    /// The cluster's pid file.
    pub fn pid(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("run/troupe.pid")).expect("a pid file").trim().to_owned()
    }

    /// Sends the daemon a signal that ends it and waits until all its threads are gone: who is in the midst of a write to a slow disk stays for
    /// that, and whoever starts it again meanwhile finds that it runs.
    pub fn strike(&self, signal: &str) {
        let pid_file = self.path("run/troupe.pid");
        run("kill", &[signal, &self.pid()]);
        // The lock on the file goes with the last of them.
        eventually("the daemon is gone", || File::open(&pid_file).map_or(true, |file| file.try_lock_shared().is_ok()));
    }

    /// Runs a troupe command that takes the cluster's settings.
    pub fn troupe_with_settings(&self, command: &[&str]) -> Output {
        let mut arguments: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(self.settings());
        arguments.extend(started_with(command).map(str::to_owned));
        self.troupe(&arguments)
    }

    fn troupe(&self, arguments: &[String]) -> Output {
        self.held(&self.program).args(arguments).output().expect("troupe runs")
    }

    /// `troupe` with a command and this cluster's settings, to be started by the test.
    pub fn troupe_command(&self, command: &[&str]) -> Command {
        let mut process = self.held(&self.program);
        process.args(command).args(self.settings()).args(started_with(command));
        process
    }

    /// Runs a troupe command that must succeed and returns what it prints.
    pub fn troupe_text(&self, command: &[&str]) -> String {
        let output = self.troupe_with_settings(command);
        assert!(output.status.success(), "troupe {command:?} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// All live actors as `troupe actors --json` tells.
    pub fn actors(&self) -> Vec<Value> {
        serde_json::from_str(&self.troupe_text(&["actors", "--json"])).expect("JSON")
    }

    /// What the cluster's containerd has, as `ctr` tells.
    pub fn ctr(&self, words: &str) -> String {
        self.ctr_in("run", words)
    }

    /// The same of the containerd that runs in a directory of the cluster's.
    fn ctr_in(&self, run_dir: &str, words: &str) -> String {
        let socket = self.dir.path().join(run_dir).join("containerd/containerd.sock");
        let output =
            Command::new("ctr").arg("--address").arg(socket).args(["-n", "k8s.io"]).args(words.split_whitespace()).output().expect("ctr runs");
        assert!(output.status.success(), "ctr {words} failed: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The process id of a pod's first container, whose network is the pod's, whichever node of this machine it runs on.
    pub fn process_of(&self, namespace: &str, pod: &str) -> String {
        let template = "jsonpath={.spec.nodeName} {.status.containerStatuses[0].containerID}";
        let told = self.kubectl_words(&["-n", namespace, "get", "pod", pod, "-o", template]);
        let (node, id) = told.split_once(" containerd://").expect("it runs");
        let run_dir = if node == "it" { "run".to_owned() } else { format!("run/nodes/{node}") };
        let tasks = self.ctr_in(&run_dir, "tasks list");
        let task = tasks.lines().find(|line| line.starts_with(id)).expect("the container runs");
        task.split_whitespace().nth(1).expect("a process id").to_owned()
    }

    /// A command in the cluster's network namespace (only the network: mounts and cgroups are the machine's).
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network_namespace())).arg(program);
        command
    }

    /// The same in the cgroup of daemons.
    fn held(&self, program: &str) -> Command {
        let Some(processes) = &self.daemons_in else { return self.inside(program) };
        let mut command = self.inside("sh");
        command.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(processes).arg(program);
        command
    }

    /// Runs kubectl and returns what it prints; it must succeed.
    pub fn kubectl(&self, words: &str) -> String {
        let output = self.kubectl_output(words);
        assert!(output.status.success(), "kubectl {words} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs kubectl, whether it succeeds or not.
    pub fn kubectl_output(&self, words: &str) -> Output {
        self.kubectl_command(&words.split_whitespace().collect::<Vec<_>>()).output().expect("kubectl runs")
    }

    /// Runs kubectl with words that may have spaces; it must succeed.
    pub fn kubectl_words(&self, words: &[&str]) -> String {
        let output = self.kubectl_command(words).output().expect("kubectl runs");
        assert!(output.status.success(), "kubectl {words:?} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// kubectl, to be started by the test. It has a home of its own: all clusters have the same address, and what one has told of its
    /// resources kubectl takes for the word of the next for hours.
    pub fn kubectl_command(&self, words: &[&str]) -> Command {
        let mut command = self.inside("kubectl");
        command.env("KUBECONFIG", self.dir.path().join("admin.kubeconfig")).env("HOME", self.dir()).args(words);
        command
    }

    /// Runs a function on a thread in the cluster's network namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let namespace = self.network_namespace();
        // A thread of its own enters the namespace, so that this one stays outside.
        std::thread::spawn(move || {
            let namespace = File::open(namespace).expect("the namespace exists");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enters the namespace");
            work()
        })
    }

    /// Runs kubectl from another thread; says whether it succeeded.
    pub fn caller(&self) -> impl Fn(&str) -> bool + Send + 'static {
        let (namespace, kubeconfig, home) = (format!("--net={}", self.network_namespace()), self.kubeconfig(), self.dir().to_owned());
        move |words| {
            let mut command = Command::new("nsenter");
            command.arg(&namespace).arg("kubectl").env("KUBECONFIG", &kubeconfig).env("HOME", &home).args(words.split_whitespace());
            command.output().expect("kubectl runs").status.success()
        }
    }

    /// GETs `/` at an address from the cluster's node; `None` when nothing answers.
    pub fn get(&self, address: &str) -> Option<String> {
        let address = address.to_owned();
        self.within(move || ask(&address)).join().expect("the thread does not panic").ok()
    }
}

/// GETs `/` at an address over a connection of its own.
pub fn ask(address: &str) -> std::io::Result<String> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address.parse().map_err(std::io::Error::other)?, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    if reply.starts_with("HTTP/1.1 200") { Ok(reply) } else { Err(std::io::Error::other(format!("answered {reply:?}"))) }
}

/// What a command that starts a node has besides its own words: where they say nothing of evictions, the machine's disk may be as full as it
/// likes.
fn started_with(command: &[&str]) -> impl Iterator<Item = &'static str> + use<> {
    let starts = match command {
        ["up", ..] => true,
        // Else it is a drill: `node stop`.
        ["node", rest @ ..] => rest.first().is_none_or(|word| word.starts_with("--")),
        _ => false,
    };
    let silent = !command.iter().any(|word| word.starts_with("--eviction-"));
    ["--eviction-hard", "none"].into_iter().filter(move |_| starts && silent)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let output = self.troupe_with_settings(&["down", "--purge"]);
        if !output.status.success() {
            eprintln!("troupe down failed: {}", text(&output.stderr));
        }
        // The namespace takes its interfaces and rules along.
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
        // What pods left there may be deeper than a recursive removal can go.
        let _ = Command::new("rm").arg("-rf").arg(self.dir.path()).status();
    }
}

/// Waits until `condition` holds; fails after two minutes, which is long for what takes a second where nothing else runs.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    eventually_within(Duration::from_secs(120), what, condition);
}

/// Waits until `condition` holds; fails when the time is up.
pub fn eventually_within(time: Duration, what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", time.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The program under test: `$TROUPE_BIN`, or the one cargo built.
pub fn binary() -> String {
    std::env::var("TROUPE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_troupe").to_owned())
}

/// The folder of image archives.
pub fn images() -> String {
    // target/debug/troupe → target
    let target = PathBuf::from(env!("CARGO_BIN_EXE_troupe")).ancestors().nth(2).expect("two folders up").to_owned();
    let images = target.join("images");
    assert!(images.is_dir(), "{} is missing: make images builds it", images.display());
    images.to_string_lossy().into_owned()
}
