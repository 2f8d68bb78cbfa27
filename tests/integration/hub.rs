//! Several machines on one: network namespaces joined by a bridge, each with directories, runtime and names of its own.
//! All of it is gone when dropped.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use troupe_net::{
    netns,
    node_links::{NodeLinks, Topology},
};

use crate::cluster::{binary, images, run, text};

/// The link that machines share: a bridge in a namespace of its own, made as `troupe up --nodes` makes its nodes' link.
pub struct Hub {
    namespace: String,
    links: NodeLinks,
}

impl Hub {
    pub const ADDRESS: &'static str = "198.51.100.1";

    pub fn new() -> Self {
        // Each test has one; several run at once.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("{:x}i{}", std::process::id() & 0xff_ffff, MADE.fetch_add(1, Ordering::Relaxed) % 10);
        let range = "198.51.100.0/24".parse().expect("a range");
        let hub = Hub { namespace: format!("troupe-{mark}-hub"), links: NodeLinks { mark, topology: Topology::Shared, range, ipv6: false } };
        netns::create(&hub.namespace).expect("root may make namespaces");
        hub.inside(hub.links.ensure_base()).expect("the hub is made");
        hub
    }

    /// Does something where the bridge is.
    fn inside<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work);
        netns::run(&netns::path(&self.namespace), run).expect("the namespace exists")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // They take their interfaces along, and with them the machines' ends.
        let _ = netns::delete(&self.links.between());
        let _ = netns::delete(&self.namespace);
    }
}

/// A machine on the hub.
pub struct Machine {
    dir: tempfile::TempDir,
    namespace: String,
    pub name: &'static str,
    pub address: &'static str,
    /// How many seconds a node may be silent.
    pub grace: u8,
}

impl Machine {
    pub fn new(hub: &Hub, name: &'static str, address: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("troupe-it").tempdir().expect("a temporary directory");
        let number = (2..=250).find(|number| hub.links.address(*number).ip().to_string() == address).expect("an address of the hub");
        hub.inside(hub.links.ensure(number)).expect("the machine is made");
        Machine { dir, namespace: hub.links.namespace(number), name, address, grace: 6 }
    }

    /// Runs `ip` on this machine.
    pub fn ip(&self, words: &str) {
        let mut arguments = vec!["-n", self.namespace.as_str()];
        arguments.extend(words.split_whitespace());
        run("ip", &arguments);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self) -> Vec<String> {
        let path = |name: &str| self.path(name).to_string_lossy().into_owned();
        let pairs = [
            ("--data-dir", path("data")),
            ("--run-dir", path("run")),
            ("--kubeconfig", path("kubeconfig")),
            ("--kubelet-dir", path("kubelet")),
            ("--pod-logs-dir", path("logs")),
            ("--cni-conf-dir", path("cni")),
            ("--manifests-dir", path("manifests")),
            ("--image-dir", images()),
            ("--node-ip", self.address.to_owned()),
            ("--node-name", self.name.to_owned()),
            ("--bridge", format!("{}0", self.name)),
            ("--cgroup-parent", format!("{}/kubepods", self.namespace)),
            // The disk may be as full as it likes.
            ("--eviction-hard", "none".to_owned()),
            // Signs of life come fast, and their absence is noticed fast.
            ("--node-heartbeat", "1".to_owned()),
            ("--node-monitor-grace-period", self.grace.to_string()),
        ];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Runs a troupe command with this machine's settings; it must succeed. Returns what it prints.
    pub fn troupe(&self, words: &[&str]) -> String {
        let output = self.troupe_output(words);
        assert!(output.status.success(), "troupe {words:?} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn troupe_output(&self, words: &[&str]) -> Output {
        self.inside(&binary()).args(words).args(self.settings()).output().expect("troupe runs")
    }

    /// Starts the node's daemon; it goes on until it is killed or this machine is dropped.
    pub fn start_node(&self, words: &[&str]) {
        std::fs::create_dir_all(self.path("data")).expect("makes");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("data/troupe.log")).expect("opens");
        let mut command = self.inside(&binary());
        let settings = self.settings();
        // It refuses what would have no effect on a node.
        let taken = settings.chunks(2).filter(|pair| pair[0] != "--node-monitor-grace-period").flatten();
        command.arg("node").args(words).args(taken).stdin(Stdio::null());
        let mut daemon = command.stdout(log.try_clone().expect("a descriptor")).stderr(log).spawn().expect("troupe runs");
        // Whoever kills it does not wait for it.
        std::thread::spawn(move || daemon.wait());
    }

    /// Kills the node's daemon as a crash would.
    pub fn kill_node(&self) {
        let pid = std::fs::read_to_string(self.path("run/troupe-node.pid")).expect("a pid file");
        run("kill", &["-9", pid.trim()]);
    }

    /// A command in the machine's network namespace (only the network: mounts and cgroups are the host's).
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }

    /// Runs kubectl here as whoever this machine is: the administrator, or a node.
    pub fn kubectl_output(&self, words: &[&str]) -> Output {
        self.inside("kubectl").env("KUBECONFIG", self.path("kubeconfig")).env("HOME", self.path("home")).args(words).output().expect("kubectl runs")
    }

    /// The same; it must succeed.
    pub fn kubectl(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = self.kubectl_output(&words);
        assert!(output.status.success(), "kubectl {words:?} failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("data/troupe.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of {}'s log:\n{}", self.name, lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let output = self.troupe_output(&["down", "--purge"]);
        if !output.status.success() {
            eprintln!("troupe down on {} failed: {}", self.name, text(&output.stderr));
        }
        let _ = netns::delete(&self.namespace);
    }
}
