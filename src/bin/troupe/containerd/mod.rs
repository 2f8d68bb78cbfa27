//! Finding a container runtime, or starting and supervising our own containerd.
//!
//! Our containerd lives in a session and cgroup of its own, so that neither a restart nor a `kill -9` of `troupe`
//! touches it; its pid file lets the next `troupe` find it again. When it ends by itself it is started again; the
//! containers have shims of their own and do not notice.

mod cgroup;
mod shims;

use std::{
    fs, io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};

pub use self::shims::Shim;
use crate::durable;

/// How often our containerd is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// After a failed start; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that ran for so long is started again without a pause.
const STEADY: Duration = Duration::from_secs(30);

/// The directory of the CRI plugin.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// It removes a tree with a descriptor for each level.
const DESCRIPTORS: libc::rlim_t = 1 << 20;

/// The socket of a containerd that the machine runs itself.
pub const SYSTEM_SOCKET: &str = "/run/containerd/containerd.sock";
/// The socket of the containerd that `troupe` starts by default.
pub const OWN_SOCKET: &str = "/run/troupe/containerd/containerd.sock";

/// Where a containerd of ours keeps its things.
#[derive(Clone, Debug)]
pub struct ContainerdLayout {
    /// The id of the instance that it belongs to; stands in the name of its cgroup.
    pub instance: String,
    /// Persistent data, such as `/var/lib/troupe/containerd`.
    pub root: PathBuf,
    /// Socket and transient state, such as `/run/troupe/containerd`.
    pub state: PathBuf,
    pub cni_conf_dir: PathBuf,
    pub cni_bin_dir: PathBuf,
    /// The sandbox image.
    pub pause_image: String,
}

impl ContainerdLayout {
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.join("containerd.log")
    }

    /// containerd's configuration (version 2, which newer ones read as well). Plugins for NRI find it at a socket of its own: without that it would
    /// take the one of the machine's containerd (from 2.0 on).
    pub fn config(&self) -> String {
        let restrict = !can_lower_oom_score();
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
oom_score = {own}

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  enable_cdi = true
  max_container_log_line_size = 16384
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

[plugins."io.containerd.nri.v1.nri"]
  socket_path = "{nri}"
"#,
            own = troupe_actors::kubelet::node::facts::own_oom_score_adj(),
            root = self.root.display(),
            state = self.state.display(),
            socket = self.socket().display(),
            nri = self.state.join("nri.sock").display(),
            pause = self.pause_image,
            cni_bin = self.cni_bin_dir.display(),
            cni_conf = self.cni_conf_dir.display(),
        )
    }

    /// The pid of our running containerd, if it runs and is ours, as far as can be told.
    pub fn running_pid(&self) -> Option<i32> {
        self.find().unwrap_or_default()
    }

    /// The pid of our running containerd; `None` when it is known that there is none.
    ///
    /// # Errors
    /// When the system does not tell: it may well run.
    fn find(&self) -> io::Result<Option<i32>> {
        let text = match fs::read_to_string(self.pid_file()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        match text.trim().parse() {
            Ok(pid) => Ok(self.is_ours(pid)?.then_some(pid)),
            // Whoever wrote it was killed in the midst.
            Err(_) => self.untold_pid(),
        }
    }

    /// Whether a process is a containerd with our configuration.
    fn is_ours(&self, pid: i32) -> io::Result<bool> {
        let command_line = match fs::read(format!("/proc/{pid}/cmdline")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            command_line => command_line?,
        };
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        Ok(is_containerd_with(&arguments, &self.config_file()))
    }

    /// One of which no pid file tells: whoever started it was killed before it could write that.
    fn untold_pid(&self) -> io::Result<Option<i32>> {
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && self.is_ours(pid)?
            {
                return Ok(Some(pid));
            }
        }
        Ok(None)
    }

    /// The pid, wherever it is found.
    fn any_pid(&self) -> Result<Option<i32>> {
        let told = self.find().with_context(|| format!("cannot tell whether containerd runs, by {}", self.pid_file().display()))?;
        match told {
            Some(pid) => Ok(Some(pid)),
            None => self.untold_pid().context("cannot look for containerd among the processes"),
        }
    }

    fn note_pid(&self, pid: i32) -> Result<()> {
        let unfinished = self.pid_file().with_extension("pid.new");
        let written = fs::write(&unfinished, pid.to_string()).and_then(|()| fs::rename(&unfinished, self.pid_file()));
        written.context("cannot write containerd's pid file")
    }

    fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Makes sure that our containerd runs and answers; returns its pid.
    ///
    /// # Errors
    /// When a directory cannot be made, or containerd is not installed, cannot be started, or does not answer within 20 seconds.
    pub fn ensure(&self) -> Result<i32> {
        self.make_directories()?;
        if let Some(pid) = self.any_pid()?
            && wait_for_socket(&self.socket(), Duration::from_secs(10)).is_ok()
        {
            self.note_pid(pid)?;
            return Ok(pid);
        }
        fs::write(self.config_file(), self.config()).with_context(|| format!("cannot write {}", self.config_file().display()))?;
        let _ = fs::remove_file(self.socket()); // left by a containerd that was killed
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).context("cannot open containerd's log")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(self.config_file()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let leave = || {
            nix::unistd::setsid()?;
            crate::confinement::write_for_others();
            crate::descriptors::raise_to(DESCRIPTORS);
            crate::memory::allow_huge_pages()
        };
        // SAFETY: setsid, umask, setrlimit and prctl are async-signal-safe and the closure touches nothing else.
        unsafe { command.pre_exec(leave) };
        let child = command.spawn().context("cannot start containerd: is the package installed?")?;
        let pid = i32::try_from(child.id()).context("a pid fits 31 bits")?;
        move_to_own_cgroup(pid, &self.cgroup());
        self.note_pid(pid)?;
        std::thread::Builder::new().name("containerd-reaper".into()).spawn(move || reap(child)).context("cannot start a thread")?;
        wait_for_socket(&self.socket(), Duration::from_secs(20))
            .with_context(|| format!("containerd was started but does not answer; see {}", self.log_file().display()))?;
        Ok(pid)
    }

    /// Makes the directories that containerd finds. A container whose users are its own gets to its root below the state as one of them; whatever
    /// else is there is for nobody else, also where an old containerd makes it for all.
    fn make_directories(&self) -> Result<()> {
        for dir in self.state.parent().into_iter().chain([self.state.as_path()]) {
            durable::make_passage(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        for dir in [self.root.clone(), self.state.join(CRI)] {
            durable::make_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(())
    }

    /// Starts our containerd again whenever it ends, as long as this process lives.
    ///
    /// # Errors
    /// When there is no thread for that.
    pub fn keep(self) -> Result<()> {
        let keep = move || {
            let mut pause = FIRST_PAUSE;
            loop {
                let since = Instant::now();
                self.wait_for_end();
                if since.elapsed() > STEADY {
                    pause = FIRST_PAUSE;
                } else {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                match self.ensure() {
                    Ok(pid) => tracing::warn!(pid, "containerd had ended and was started again"),
                    Err(error) => tracing::error!(error = format!("{error:#}"), "containerd does not start, will retry"),
                }
            }
        };
        std::thread::Builder::new().name("containerd-keeper".into()).spawn(keep).context("cannot start a thread")?;
        Ok(())
    }

    /// Returns when our containerd has ended. While that cannot be told, it runs.
    fn wait_for_end(&self) {
        let mut told = false;
        loop {
            match self.find() {
                Ok(None) => return,
                Ok(Some(_)) => told = false,
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::error!(%error, file = %self.pid_file().display(), "it cannot be told whether containerd runs, will look again");
                }
                Err(_) => {}
            }
            std::thread::sleep(LOOK);
        }
    }

    /// When our containerd was started.
    pub fn started(&self) -> Option<SystemTime> {
        fs::metadata(self.pid_file()).and_then(|file| file.modified()).ok()
    }

    /// Where it keeps the network namespaces of sandboxes.
    pub fn network_namespaces(&self) -> PathBuf {
        self.state.join(CRI).join("netns")
    }

    /// Stops our containerd and waits for it to end.
    pub fn stop(&self) -> Result<()> {
        let Some(pid) = self.any_pid()? else { return Ok(()) };
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("cannot stop containerd")?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.is_ours(pid.as_raw())? {
            if Instant::now() > deadline {
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).context("cannot kill containerd")?;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_file(self.pid_file()); // nothing reads it any more
        Ok(())
    }

    /// Removes the cgroup of a containerd that has ended. What lived there may take a moment to end.
    ///
    /// # Errors
    /// When something lives on there; which processes, where it can be told.
    pub fn remove_cgroup(&self) -> Result<()> {
        let groups = hierarchies().into_iter().map(|hierarchy| hierarchy.join(self.cgroup()));
        groups.into_iter().try_for_each(|group| cgroup::remove(&group, ENDING))
    }

    /// The name of its cgroup.
    fn cgroup(&self) -> String {
        if self.instance.is_empty() { "troupe-containerd".into() } else { format!("troupe-containerd-{}", self.instance) }
    }
}

/// How long processes of a containerd that has ended may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// Whether a command line is that of a containerd with a configuration.
fn is_containerd_with(arguments: &[&[u8]], config: &Path) -> bool {
    let program = arguments.first().map(|program| program.rsplit(|byte| *byte == b'/').next().unwrap_or_default());
    program == Some(b"containerd") && arguments.contains(&config.as_os_str().as_encoded_bytes())
}

/// Whether something listens on a runtime's socket.
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn reap(mut child: std::process::Child) {
    match child.wait() {
        Ok(status) => tracing::warn!(%status, "containerd ended"),
        Err(error) => tracing::warn!(%error, "cannot wait for containerd"),
    }
}

fn wait_for_socket(socket: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !answers(socket) {
        if Instant::now() > deadline {
            bail!("nothing listens on {}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter(|path| path.join("cgroup.procs").exists()).collect()
}

/// Puts containerd beside `troupe` rather than below it, so that ending the one's cgroup spares the other.
fn move_to_own_cgroup(pid: i32, name: &str) {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        // A cpuset group without CPUs takes no process: leave containerd where it is there.
        if hierarchy.file_name().is_some_and(|name| name == "cpuset") {
            continue;
        }
        if let Err(error) = fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string())) {
            tracing::debug!(%error, group = %group.display(), "containerd stays in the cgroup of its parent");
        }
    }
}

/// Whether this process may make a process less likely to be killed (needs CAP_SYS_RESOURCE).
fn can_lower_oom_score() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|set| set & CAP_SYS_RESOURCE != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn layout(state: &Path) -> ContainerdLayout {
        ContainerdLayout {
            instance: "abc".into(),
            root: state.join("root"),
            state: state.to_owned(),
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
            pause_image: "pause".into(),
        }
    }

    #[test]
    fn a_foreign_pid_in_the_pid_file_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = layout(dir.path());
        assert_eq!(layout.running_pid(), None);
        fs::write(layout.pid_file(), std::process::id().to_string()).expect("writes");
        assert_eq!(layout.running_pid(), None);
        assert!(layout.config().contains("sandbox_image = \"pause\""));
        assert!(layout.config().contains("config_path = \"/etc/containerd/certs.d\""), "where the machine says how registries are reached");
    }

    #[test]
    fn the_sockets_of_our_containerd_are_below_its_state() {
        let config = layout(Path::new("/run/a")).config();
        let sockets: Vec<&str> = config.lines().map(str::trim).filter(|line| line.ends_with(".sock\"")).collect();
        assert_eq!(sockets, ["address = \"/run/a/containerd.sock\"", "socket_path = \"/run/a/nri.sock\""]);
    }

    #[test]
    fn containers_get_to_their_roots_and_nobody_sees_what_else_is_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = layout(&dir.path().join("run/containerd"));
        layout.make_directories().expect("makes");
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        let paths = [&dir.path().join("run"), &layout.state, &layout.state.join(CRI), &layout.root];
        assert_eq!(paths.map(|path| mode(path)), [0o711, 0o711, 0o700, 0o700]);
    }

    #[test]
    fn a_pid_file_that_cannot_be_read_says_of_no_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = layout(dir.path());
        assert_eq!(layout.find().expect("known"), None);
        fs::create_dir(layout.pid_file()).expect("makes");
        assert!(layout.find().is_err() && layout.any_pid().is_err(), "nothing is started beside one that may run");
        fs::remove_dir(layout.pid_file()).expect("removes");
        fs::write(layout.pid_file(), "").expect("writes");
        assert_eq!(layout.find().expect("found out elsewhere"), None);
        layout.note_pid(7).expect("writes");
        assert_eq!(fs::read_to_string(layout.pid_file()).expect("reads"), "7");
    }

    #[test]
    fn our_containerd_is_known_by_its_configuration() {
        let config = Path::new("/data/containerd/config.toml");
        assert!(is_containerd_with(&[b"/usr/bin/containerd", b"--config", b"/data/containerd/config.toml", b""], config));
        assert!(!is_containerd_with(&[b"containerd", b"--config", b"/etc/containerd/config.toml", b""], config));
        assert!(!is_containerd_with(&[b"vi", b"/data/containerd/config.toml", b""], config));
    }
}
