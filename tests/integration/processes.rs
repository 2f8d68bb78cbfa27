//! A cluster's daemons as processes of their own, and whoever starts them again: here that is the test.

use std::{fs, process::Command, thread};

use crate::{
    cluster::{Cluster, eventually, text},
    running::Running,
};

/// What runs on a machine and may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    ControlPlane,
    Node,
    /// The node starts it again.
    Containerd,
}

impl Daemon {
    pub const ALL: [Daemon; 3] = [Daemon::ControlPlane, Daemon::Node, Daemon::Containerd];
}

/// The daemons of a cluster. They end when dropped; what they left on the machine ends with the cluster.
pub struct Daemons<'a> {
    cluster: &'a Cluster,
    flags: Vec<String>,
    control_plane: Option<Running>,
    node: Option<Running>,
}

impl<'a> Daemons<'a> {
    pub fn new(cluster: &'a Cluster) -> Self {
        Daemons { cluster, flags: Vec::new(), control_plane: None, node: None }
    }

    /// Further flags, each for the daemon that takes it.
    pub fn with_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Starts both and waits until the node is Ready.
    pub fn start(&mut self) {
        self.restart(Daemon::ControlPlane);
        // The node does not wait for the API server, only for its kubeconfig.
        eventually("the control plane writes the node's kubeconfig", || self.cluster.path("node.kubeconfig").exists());
        self.restart(Daemon::Node);
        self.await_ready();
    }

    /// Starts a daemon that does not run.
    pub fn restart(&mut self, daemon: Daemon) {
        let is_nodes = |flag: &&str| flag.starts_with("--node-heartbeat");
        let (node, control_plane): (Vec<&str>, Vec<&str>) = self.flags.iter().map(String::as_str).partition(is_nodes);
        match daemon {
            Daemon::ControlPlane => self.control_plane = Some(self.cluster.daemon("control-plane", &control_plane)),
            Daemon::Node => self.node = Some(self.cluster.daemon("node", &node)),
            Daemon::Containerd => {}
        }
    }

    /// Waits until API server and node say that they are ready.
    pub fn await_ready(&self) {
        eventually("the API server is ready", || self.cluster.kubectl_output("get --raw /readyz").status.success());
        eventually("the node is Ready", || text(&self.cluster.kubectl_output("get nodes").stdout).contains(" Ready "));
    }

    /// `kill -9`, and waits until it is gone. False if it did not run in this moment.
    pub fn kill(&mut self, daemon: Daemon) -> bool {
        let child = match daemon {
            Daemon::ControlPlane => self.control_plane.take(),
            Daemon::Node => self.node.take(),
            Daemon::Containerd => return self.kill_containerd(),
        };
        let mut child = child.expect("it was started");
        let ran = child.try_wait().expect("it is ours").is_none();
        drop(child);
        ran
    }

    fn kill_containerd(&self) -> bool {
        let Some(pid) = self.containerd() else { return false };
        let killed = Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
        eventually("containerd is gone", || self.containerd().as_ref() != Some(&pid));
        killed.success()
    }

    /// The pid of the containerd that runs.
    pub fn containerd(&self) -> Option<String> {
        let pid = fs::read_to_string(self.cluster.path("run/containerd/containerd.pid")).ok()?.trim().to_owned();
        // A zombie has no command line.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(&*self.cluster.dir().to_string_lossy()).then_some(pid)
    }

    /// The exit of a daemon that ended by itself, which none should.
    pub fn fallen(&mut self) -> Option<String> {
        let ended = |name: &str, child: &mut Option<Running>| {
            let status = child.as_mut()?.try_wait().expect("it is ours")?;
            Some(format!("{name} ended with {status}"))
        };
        ended("control-plane", &mut self.control_plane).or_else(|| ended("node", &mut self.node))
    }
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["control-plane.log", "node.log"] {
                let whole = fs::read_to_string(self.cluster.path(log)).unwrap_or_default();
                let lines: Vec<&str> = whole.lines().collect();
                eprintln!("--- the end of {log}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            }
        }
    }
}
