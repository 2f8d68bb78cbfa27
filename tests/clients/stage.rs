//! The clusters that clients talk to, one a store, and the corner of one that a client has to itself.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    thread::JoinHandle,
};

use tempfile::TempDir;
use troupe_api::auth::kubeconfig::Kubeconfig;
use troupe_api_server::store::etcd::testing::EtcdCluster;

use crate::cluster::Cluster;

/// Where a cluster's state lies.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    Embedded,
    Etcd,
}

/// A cluster, which ends before its etcd does.
struct Stage {
    cluster: Cluster,
    _etcd: Option<Etcd>,
}

impl Stage {
    /// The one that runs, or a new one; it ends with the last test that uses it.
    fn shared(storage: Storage) -> Arc<Self> {
        static STAGES: [Mutex<Weak<Stage>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
        // A failed test poisons nothing: its cluster runs or it does not.
        let mut running = STAGES[storage as usize].lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let stage = Arc::new(Stage::up(storage));
            *running = Arc::downgrade(&stage);
            stage
        })
    }

    fn up(storage: Storage) -> Self {
        let cluster = Cluster::place();
        let etcd = match storage {
            Storage::Embedded => None,
            Storage::Etcd => Some(Etcd::beside(&cluster)),
        };
        match &etcd {
            Some(etcd) => cluster.start_with(&["--etcd-servers", &etcd.servers]),
            None => cluster.start(),
        }
        assert_eq!(cluster.path("data/store").exists(), etcd.is_none(), "the state lies where the test says");
        Stage { cluster, _etcd: etcd }
    }
}

/// An etcd in a cluster's network namespace.
struct Etcd {
    servers: String,
    stop: Option<mpsc::Sender<()>>,
    // etcd is killed when the thread ends that started it.
    thread: Option<JoinHandle<()>>,
    _dir: Arc<TempDir>,
}

impl Etcd {
    fn beside(cluster: &Cluster) -> Self {
        let dir = Arc::new(tempfile::Builder::new().prefix("troupe-etcd").tempdir().expect("a temporary directory"));
        let ((started, servers), (stop, stopped)) = (mpsc::channel(), mpsc::channel());
        let data = dir.clone();
        let thread = cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let etcd = EtcdCluster::start(data.path(), 1);
            drop(runtime.block_on(etcd.connect()));
            started.send(etcd.options().servers.join(",")).expect("the test waits");
            // Fails when the other end is gone, which is the end as well.
            let _ = stopped.recv();
        });
        let servers = servers.recv().expect("etcd comes up");
        Etcd { servers, stop: Some(stop), thread: Some(thread), _dir: dir }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.stop.take());
        // If it panicked, there is no etcd either.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A namespace of a client's own, with a kubeconfig that leads there.
pub struct Corner {
    stage: Arc<Stage>,
    pub namespace: String,
    dir: TempDir,
}

impl Corner {
    pub fn of(storage: Storage, name: &str) -> Self {
        let stage = Stage::shared(storage);
        let dir = tempfile::Builder::new().prefix("troupe-clients").tempdir().expect("a temporary directory");
        let corner = Corner { stage, namespace: name.to_owned(), dir };
        let cluster = &corner.stage.cluster;
        cluster.kubectl(&format!("create namespace {name}"));
        cluster.eventually_has("serviceaccount/default", name);
        std::fs::copy(cluster.kubeconfig(), corner.kubeconfig()).expect("the cluster's kubeconfig");
        let set = ["config", "set-context", "--current", "--namespace", name];
        let status = corner.command("kubectl").args(set).stdout(std::process::Stdio::null()).status().expect("kubectl runs");
        assert!(status.success(), "the kubeconfig names the namespace");
        corner
    }

    /// The administrator's kubeconfig, with the corner's namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Where and as whom to connect.
    pub fn access(&self) -> Kubeconfig {
        Kubeconfig::read(&self.kubeconfig()).expect("a kubeconfig")
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("the directory is ours");
        path.to_string_lossy().into_owned()
    }

    /// A program beside the cluster, with the corner's kubeconfig and a home that nobody has used.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.stage.cluster.inside(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.path());
        command
    }

    /// Runs a client of this process beside the cluster.
    pub fn run<F: Future<Output = ()>>(&self, client: impl FnOnce() -> F + Send + 'static) {
        let thread = self.stage.cluster.within(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(client());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        // What is left of it goes with the cluster.
        let _ = self.stage.cluster.kubectl_output(&format!("delete namespace {} --wait=false", self.namespace));
    }
}
