//! A containerd of a test's own: its root, state, socket, images and pod network in a temporary directory.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use troupe_cri::{GrpcRuntime, Runtime};

/// The image that tests run, and the sandbox's.
pub const BUSYBOX: &str = "troupe.test/busybox:1";

/// Tests of one process run side by side: each containerd has a bridge and a subnet of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running containerd; killed with all its containers when dropped.
pub struct Containerd {
    pub place: TempDir,
    daemon: Child,
    bridge: String,
}

impl Containerd {
    /// Starts containerd with a bridge network, unless it is not installed.
    pub async fn start() -> Self {
        let place = tempfile::Builder::new().prefix("troupe-kubelet").tempdir().expect("a directory");
        let serial = STARTED.fetch_add(1, Ordering::Relaxed);
        let tag = format!("tk{:x}-{serial}", std::process::id());
        let subnet = format!("10.251.{}.0/24", (std::process::id() + serial) % 256);
        write_config(place.path(), &tag, &subnet);
        let log = fs::File::create(place.path().join("containerd.log")).expect("a log");
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(place.path().join("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed (apt-get install containerd runc containernetworking-plugins)");
        let containerd = Containerd { place, daemon, bridge: tag };
        containerd.wait().await;
        containerd.import(BUSYBOX);
        containerd
    }

    pub fn socket(&self) -> PathBuf {
        self.place.path().join("containerd.sock")
    }

    async fn wait(&self) {
        let runtime = GrpcRuntime::new(self.socket());
        let deadline = Instant::now() + Duration::from_secs(60);
        while runtime.version().await.is_err() {
            let log = fs::read_to_string(self.place.path().join("containerd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "containerd does not answer: {log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn import(&self, image: &str) {
        let archive = self.place.path().join("image.tar");
        write_image(&archive, image);
        let ctr = Command::new("ctr").args(["-n", "k8s.io", "-a"]).arg(self.socket()).args(["images", "import"]).arg(&archive).output();
        let output = ctr.expect("ctr comes with containerd");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The test's own processes and devices: what is gone already needs no removal.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).stderr(Stdio::null()).status();
    }
}

fn write_config(place: &Path, bridge: &str, subnet: &str) {
    let at = |name: &str| place.join(name).display().to_string();
    let cni = place.join("cni");
    fs::create_dir_all(&cni).expect("a directory");
    let config = format!(
        r#"version = 2
root = "{}"
state = "{}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{}"
[ttrpc]
address = "{}"
[debug]
address = ""
[plugins."io.containerd.internal.v1.opt"]
path = "{}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{BUSYBOX}"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}"
"#,
        at("root"),
        at("state"),
        at("containerd.sock"),
        at("ttrpc.sock"),
        at("opt"),
        cni.display()
    );
    fs::write(place.join("config.toml"), config).expect("writes");
    let conflist = json!({"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "bridge", "bridge": bridge, "isGateway": true,
        "ipam": {"type": "host-local", "dataDir": at("ipam"), "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}}]});
    fs::write(cni.join("10-test.conflist"), conflist.to_string()).expect("writes");
}

/// An OCI archive of one layer with a static busybox; without a command it sleeps, so it serves as the sandbox too.
fn write_image(archive: &Path, name: &str) {
    let busybox = fs::read("/bin/busybox").expect("busybox is installed (apt-get install busybox-static)");
    let mut layer = Tar::default();
    for directory in ["bin/", "etc/", "tmp/", "proc/", "dev/", "sys/"] {
        layer.entry(directory, b'5', 0o755, b"", "");
    }
    layer.entry("bin/busybox", b'0', 0o755, &busybox, "");
    for applet in [
        "sh", "sleep", "cat", "echo", "true", "false", "test", "hostname", "nslookup", "httpd", "id", "ls", "env", "trap", "touch", "nc", "tar",
        "tee", "seq", "kill", "wc", "stty", "head", "dd",
    ] {
        layer.entry(&format!("bin/{applet}"), b'2', 0o777, b"", "busybox");
    }
    let layer = layer.finish();
    let digest = |data: &[u8]| hex::encode(Sha256::digest(data));
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        "config": {"Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin"]}});
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, data: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", digest(data)), "size": data.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index: Value = json!({"schemaVersion": 2, "manifests": [entry]});
    let mut tar = Tar::default();
    tar.entry("oci-layout", b'0', 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#, "");
    tar.entry("index.json", b'0', 0o644, index.to_string().as_bytes(), "");
    for blob in [&layer, &config, &manifest] {
        tar.entry(&format!("blobs/sha256/{}", digest(blob)), b'0', 0o644, blob, "");
    }
    fs::write(archive, tar.finish()).expect("writes");
}

/// As much of the ustar format as an image needs.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(&mut self, name: &str, kind: u8, mode: u32, data: &[u8], link: &str) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", data.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.write_all(&header).expect("memory takes it");
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
