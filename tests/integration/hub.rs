//! Several machines on one: network namespaces joined by a bridge, each with directories, runtime and names of its own.
//! All of it is gone when dropped.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::cluster::{binary, images, run, text};

/// The link that machines share: a bridge in a namespace of its own.
pub struct Hub {
    namespace: String,
}

impl Hub {
    pub const ADDRESS: &'static str = "198.51.100.1";

    pub fn new() -> Self {
        let hub = Hub { namespace: format!("troupe-hub-{}", std::process::id()) };
        run("ip", &["netns", "add", &hub.namespace]);
        hub.ip("link add hub type bridge");
        hub.ip(&format!("address add {}/24 dev hub", Hub::ADDRESS));
        hub.ip("link set hub up");
        hub
    }

    fn ip(&self, words: &str) {
        let mut arguments = vec!["-n", self.namespace.as_str()];
        arguments.extend(words.split_whitespace());
        run("ip", &arguments);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It takes its interfaces along, and with them the machines' ends.
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

/// A machine on the hub.
pub struct Machine {
    dir: tempfile::TempDir,
    namespace: String,
    pub name: &'static str,
    pub address: &'static str,
}

impl Machine {
    pub fn new(hub: &Hub, name: &'static str, address: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("troupe-it").tempdir().expect("a temporary directory");
        let machine = Machine { dir, namespace: format!("troupe-{name}-{}", std::process::id()), name, address };
        run("ip", &["netns", "add", &machine.namespace]);
        machine.ip("link set lo up");
        hub.ip(&format!("link add {name} type veth peer name uplink netns {}", machine.namespace));
        hub.ip(&format!("link set {name} master hub up"));
        machine.ip(&format!("address add {address}/24 dev uplink"));
        machine.ip("link set uplink up");
        machine.ip(&format!("route add default via {}", Hub::ADDRESS));
        machine
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
            // Signs of life come fast, and their absence is noticed fast.
            ("--node-heartbeat", "1".to_owned()),
            ("--node-monitor-grace-period", "6".to_owned()),
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
        self.inside("kubectl").env("KUBECONFIG", self.path("kubeconfig")).args(words).output().expect("kubectl runs")
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
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}
