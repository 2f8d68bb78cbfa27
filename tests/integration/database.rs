//! An etcd of one member in a network namespace, where its usual ports are free. It ends when dropped.

use std::{
    fs::File,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{cluster::eventually, running::Running};

/// Where it answers, in its namespace.
pub const URL: &str = "http://127.0.0.1:2379";

/// The process and where its data lies.
pub struct Etcd {
    namespace: PathBuf,
    dir: PathBuf,
    child: Option<Running>,
}

impl Etcd {
    /// Starts it with its data below `dir` and waits until it answers.
    pub fn start(namespace: &str, dir: &Path) -> Self {
        let mut etcd = Etcd { namespace: Path::new("/run/netns").join(namespace), dir: dir.join("etcd"), child: None };
        etcd.restart();
        etcd
    }

    /// Starts it on the data it has.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.dir.with_extension("log")).expect("a log file");
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.display()))
            .args(["etcd", "--name", "m0", "--logger", "zap", "--data-dir"])
            .arg(&self.dir)
            .args(["--listen-client-urls", URL, "--advertise-client-urls", URL])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"])
            .args(["--initial-cluster", "m0=http://127.0.0.1:2380"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(Running(child.expect("etcd is installed")));
        eventually("etcd answers", || self.listens());
    }

    fn listens(&self) -> bool {
        let namespace = self.namespace.clone();
        let knock = move || {
            let namespace = File::open(namespace).expect("the namespace exists");
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enters the namespace");
            TcpStream::connect("127.0.0.1:2379").is_ok()
        };
        std::thread::spawn(knock).join().expect("no panic")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.take());
    }
}
