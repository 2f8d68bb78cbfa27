//! The systemd units.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cluster::{Cluster, binary, eventually, text},
    running::Running,
};

/// `systemd-analyze verify` finds nothing to say against them. Its program paths are put where they exist here.
#[test]
fn systemd_takes_the_units() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = Vec::new();
    for daemon in ["troupe-control-plane", "troupe-node"] {
        let unit = format!("{}/config/systemd/{daemon}.service", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&unit).unwrap_or_else(|error| panic!("{unit}: {error}"));
        let installed = format!("/usr/local/bin/{daemon}");
        assert!(text.contains(&format!("ExecStart={installed}")), "{unit} starts {installed}");
        let file = dir.path().join(format!("{daemon}.service"));
        std::fs::write(&file, text.replace(&installed, env!("CARGO_BIN_EXE_troupe"))).expect("writes");
        files.push(file);
    }
    let output = Command::new("systemd-analyze").arg("verify").args(&files).output().expect("systemd-analyze is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("troupe")).collect();
    assert!(output.status.success() && about_ours.is_empty(), "{said}");
}

/// The control plane as its unit starts it, sandboxed: it serves, comes back after it was killed with what it stored, restarts and stops.
#[test]
fn systemd_runs_the_control_plane() {
    let machine = Machine::boot("troupe-control-plane");
    let kubectl = |arguments: &str| machine.kubectl(arguments);
    eventually("it serves", || kubectl("get namespace default").status.success());
    eventually("systemd was told", || machine.systemctl("is-active troupe-control-plane").trim() == "active");

    let status = text(&machine.run("sh", &["-c", &format!("cat /proc/{}/status", machine.main_pid())]).stdout);
    for expected in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(expected), "{expected} is in:\n{status}");
    }

    let created = kubectl("create configmap kept --from-literal=key=value");
    assert!(created.status.success(), "{}", text(&created.stderr));
    let before = machine.main_pid();
    machine.systemctl("kill --signal=KILL troupe-control-plane");
    eventually("another process serves", || machine.main_pid() != before && kubectl("get configmap kept").status.success());

    let before = machine.main_pid();
    machine.systemctl("restart troupe-control-plane");
    eventually("it serves again", || machine.main_pid() != before && kubectl("get configmap kept").status.success());
    machine.systemctl("stop troupe-control-plane");
    assert_eq!(machine.systemctl("show --property=Result --value troupe-control-plane").trim(), "success", "it stopped in good order");
}

/// systemd in a container over this machine's files, with what is written there gone at the end.
struct Machine {
    /// Ends before what it runs on is taken away.
    container: Option<Running>,
    /// The container's first process.
    init: i32,
    place: Cluster,
    layers: PathBuf,
    root: PathBuf,
}

impl Machine {
    /// Installs the program and its units as `make install` does, and has systemd start one of them.
    fn boot(unit: &str) -> Machine {
        let place = Cluster::place();
        let (layers, root) = (place.path("layers"), place.path("root"));
        for dir in [&layers, &root] {
            fs::create_dir_all(dir).expect("creates");
        }
        // Layers of an overlay cannot lie on another one, as the temporary directory may.
        mount(None::<&str>, &layers, Some("tmpfs"), MsFlags::empty(), Some("size=2G")).expect("mounts a tmpfs");
        let mut machine = Machine { container: None, init: 0, place, layers, root };
        let (upper, work) = (machine.layers.join("upper"), machine.layers.join("work"));
        for dir in [&upper, &work] {
            fs::create_dir(dir).expect("creates");
        }
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(None::<&str>, &machine.root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).expect("mounts an overlay");
        machine.install(unit);

        let mut command = Command::new("systemd-nspawn");
        command.arg("--directory").arg(&machine.root).arg(format!("--network-namespace-path={}", machine.place.network_namespace()));
        command.args(["--quiet", "--keep-unit", "--register=no", "--console=pipe", &format!("--machine=troupe-{}", std::process::id())]);
        command.args(["--boot", &format!("systemd.unit={unit}.service")]);
        let log = fs::File::create(machine.place.path("boot.log")).expect("creates");
        let errors = log.try_clone().expect("a file");
        let container = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("systemd-nspawn is installed");
        let children = format!("/proc/{0}/task/{0}/children", container.id());
        machine.container = Some(Running(container));
        eventually("systemd runs", || machine.init_of(&children).is_some());
        machine.init = machine.init_of(&children).expect("it runs");
        machine
    }

    /// The child of systemd-nspawn that is systemd, once it is.
    fn init_of(&self, children: &str) -> Option<i32> {
        let children = fs::read_to_string(children).ok()?;
        let pids = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
        pids.into_iter().find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd"))
    }

    fn install(&self, unit: &str) {
        let programs = self.root.join("usr/local/bin");
        fs::create_dir_all(&programs).expect("creates");
        fs::copy(binary(), programs.join("troupe")).expect("copies");
        let _ = fs::remove_file(programs.join(unit));
        symlink("troupe", programs.join(unit)).expect("links");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(format!("{unit}.service"));
        fs::copy(source, self.root.join("etc/systemd/system").join(format!("{unit}.service"))).expect("copies");
        // Nothing of a cluster that this machine may have.
        for dir in ["var/lib/troupe", "etc/troupe", "var/log/troupe"] {
            let _ = fs::remove_dir_all(self.root.join(dir));
        }
    }

    /// Runs a program inside.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let target = self.init.to_string();
        Command::new("nsenter").args(["--target", &target, "--all", program]).args(arguments).output().expect("nsenter runs")
    }

    fn systemctl(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        text(&self.run("systemctl", &arguments).stdout)
    }

    fn main_pid(&self) -> String {
        self.systemctl("show --property=MainPID --value troupe-control-plane").trim().to_owned()
    }

    fn kubectl(&self, arguments: &str) -> Output {
        let kubeconfig = self.root.join("etc/troupe/admin.kubeconfig");
        let mut command = self.place.inside("kubectl");
        command.env("HOME", self.root.join("root")).arg("--kubeconfig").arg(kubeconfig).args(arguments.split(' ')).output().expect("kubectl runs")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", text(&self.run("journalctl", &["--no-pager", "--lines=60"]).stdout));
        }
        // All that runs inside ends with its first process.
        if self.init > 0 {
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        }
        self.container = None;
        for mounted in [&self.root, &self.layers] {
            let _ = umount2(mounted, MntFlags::MNT_DETACH);
        }
    }
}
