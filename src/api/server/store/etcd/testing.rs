//! etcd clusters for tests and benches: started in a directory, ended when dropped, also by a panic.
//!
//! Every process that starts clusters uses a loopback address of its own, made of its pid, so ports never collide.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use etcd_client::Client;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use troupe_api::auth::pki::{LeafSpec, Pki};

use super::{EtcdOptions, EtcdStore, EtcdTls};

/// How long a cluster may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// A cluster's processes and files.
pub struct EtcdCluster {
    dir: PathBuf,
    members: Vec<MemberProcess>,
    tls: Option<EtcdTls>,
    extra: Vec<String>,
}

struct MemberProcess {
    name: String,
    client_url: String,
    peer_url: String,
    child: Option<Child>,
}

/// What may differ from one plain member.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Members; 0 means one.
    pub size: usize,
    /// HTTPS, with client certificates required.
    pub tls: bool,
    /// Further arguments of every member.
    pub extra: Vec<String>,
}

impl EtcdCluster {
    /// Starts `size` plain members with their data in `dir`.
    pub fn start(dir: &Path, size: usize) -> Self {
        EtcdCluster::start_with(dir, ClusterOptions { size, ..ClusterOptions::default() })
    }

    /// Starts a cluster. It comes up in the background; [`EtcdCluster::connect`] waits for it.
    ///
    /// # Panics
    /// When etcd is not installed or does not start.
    pub fn start_with(dir: &Path, options: ClusterOptions) -> Self {
        let ip = own_address();
        let scheme = if options.tls { "https" } else { "http" };
        let members = (0..options.size.max(1)).map(|n| MemberProcess {
            name: format!("m{n}"),
            client_url: format!("{scheme}://{ip}:{}", next_port()),
            peer_url: format!("http://{ip}:{}", next_port()),
            child: None,
        });
        let members = members.collect();
        let tls = options.tls.then(|| make_tls(dir, ip));
        let mut cluster = EtcdCluster { dir: dir.to_owned(), members, tls, extra: options.extra };
        for n in 0..cluster.members.len() {
            cluster.restart(n);
        }
        cluster
    }

    /// How to reach it.
    pub fn options(&self) -> EtcdOptions {
        let servers = self.members.iter().map(|member| member.client_url.clone()).collect();
        EtcdOptions { tls: self.tls.clone(), ..EtcdOptions::new(servers) }
    }

    /// A store on it, once it is up.
    ///
    /// # Panics
    /// When it does not come up in time.
    pub async fn connect(&self) -> EtcdStore {
        drop(EtcdStore::connect(EtcdOptions { patience: PATIENCE, ..self.options() }).await.expect("etcd comes up"));
        EtcdStore::connect(self.options()).await.expect("etcd answers")
    }

    /// A bare client of one member.
    ///
    /// # Panics
    /// When it has TLS.
    pub async fn client(&self, member: usize) -> Client {
        assert!(self.tls.is_none(), "bare clients are for plain clusters");
        Client::connect([&self.members[member].client_url], None).await.expect("a usable URL")
    }

    /// Which member leads; `None` while none does or the asked one does not answer.
    pub async fn leader(&self) -> Option<usize> {
        for n in 0..self.members.len() {
            let mut client = self.client(n).await;
            if let Ok(Ok(status)) = tokio::time::timeout(Duration::from_secs(1), client.status()).await
                && status.leader() != 0
                && status.header().is_some_and(|header| header.member_id() == status.leader())
            {
                return Some(n);
            }
        }
        None
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Sends a signal to a member that runs.
    pub fn signal(&self, member: usize, signal: Signal) {
        if let Some(child) = &self.members[member].child {
            let pid = i32::try_from(child.id()).expect("a pid");
            kill(Pid::from_raw(pid), signal).expect("our own child");
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a member that does not run, on the data it has.
    ///
    /// # Panics
    /// When etcd is not installed.
    pub fn restart(&mut self, member: usize) {
        self.kill(member);
        let cluster: Vec<_> = self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url)).collect();
        let me = &self.members[member];
        let log = File::options().create(true).append(true).open(self.dir.join(format!("{}.log", me.name))).expect("a log file");
        let mut command = Command::new("etcd");
        command
            .args(["--name", &me.name, "--data-dir"])
            .arg(self.dir.join(&me.name))
            .args(["--listen-client-urls", &me.client_url, "--advertise-client-urls", &me.client_url])
            .args(["--listen-peer-urls", &me.peer_url, "--initial-advertise-peer-urls", &me.peer_url])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-token", "test", "--logger", "zap"])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if self.tls.is_some() {
            let file = |name: &str| self.dir.join("pki").join(name);
            command.arg("--cert-file").arg(file("etcd.crt")).arg("--key-file").arg(file("etcd.key"));
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file("ca.crt"));
        }
        // SAFETY: prctl is async-signal-safe and the closure touches nothing else.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.members[member].child = Some(command.spawn().expect("etcd is installed"));
    }

    /// Runs etcdctl against the whole cluster and returns what it printed.
    ///
    /// # Panics
    /// When it is not installed or fails.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let endpoints: Vec<_> = self.members.iter().map(|member| member.client_url.clone()).collect();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(endpoints.join(","))
            .args(arguments)
            .output()
            .expect("etcdctl is installed");
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
    }
}

fn next_port() -> u16 {
    NEXT_PORT.fetch_add(1, Ordering::Relaxed)
}

/// A loopback address that no other live process uses: a pid has at most 22 bits.
fn own_address() -> IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 0x3f), middle, low).into()
}

fn make_tls(dir: &Path, ip: IpAddr) -> EtcdTls {
    let pki = Pki::open(&dir.join("pki")).expect("a CA");
    let spec = LeafSpec { file: "etcd".into(), common_name: "etcd".into(), ips: vec![ip], server: true, client: true, ..LeafSpec::default() };
    pki.leaf(&spec).expect("a certificate");
    let client = LeafSpec { file: "client".into(), common_name: "troupe".into(), client: true, ..LeafSpec::default() };
    EtcdTls { ca_pem: pki.ca_pem().to_owned(), identity: Some(pki.leaf(&client).expect("a certificate")) }
}
