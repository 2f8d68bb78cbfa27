//! `troupe up` on machines that are not ready, and its end by Ctrl-C.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::cluster::{Cluster, images, text};

/// Runs `troupe up`, which must refuse, and gives what it says.
fn refused(cluster: &Cluster) -> String {
    let output = cluster.troupe_with_settings(&["up", "--detach"]);
    assert!(!output.status.success(), "troupe up did not refuse");
    text(&output.stderr)
}

#[test]
fn what_stands_in_the_way_is_named_with_its_remedy() {
    let cluster = Cluster::place();
    let holder = cluster.within(|| TcpListener::bind("0.0.0.0:6443").expect("nobody else listens here")).join().expect("no panic");
    let said = refused(&cluster);
    drop(holder);
    assert!(said.contains(&format!("(pid {})", std::process::id())), "the holder is named: {said}");
    assert!(said.contains("port 6443 of the API server is in use by") && said.contains("--api-port"), "{said}");
    let unprivileged = Command::new("setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy(&cluster)).arg("up").output();
    let said = text(&unprivileged.expect("setpriv runs").stderr);
    assert!(said.contains("does not run as root") && said.contains("sudo"), "{said}");
}

/// The program under test where everybody may run it.
fn copy(cluster: &Cluster) -> std::path::PathBuf {
    let path = cluster.dir().join("troupe");
    fs::copy(crate::cluster::binary(), &path).expect("copies");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(cluster.dir(), open).expect("allowed");
    path
}

#[test]
fn settings_are_mended_and_ctrl_c_stops_in_good_order() {
    let cluster = Cluster::place();
    let off = cluster.inside("sysctl").args(["-qw", "net.ipv4.ip_forward=0"]).status().expect("sysctl runs");
    assert!(off.success());
    let images = images();
    let mut command = cluster.troupe_command(&["up", "--image-dir", &images]);
    let log = fs::File::create(cluster.dir().join("up.err")).expect("creates");
    let mut daemon = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
    let mut lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
    let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("is Ready after"));
    let said = fs::read_to_string(cluster.dir().join("up.err")).expect("reads");
    assert!(ready.is_some(), "{said}");
    assert!(said.contains("net.ipv4.ip_forward = 1: it was off, and is on now"), "{said}");
    let interrupted = Command::new("kill").args(["-INT", &cluster.pid()]).status().expect("kill runs");
    assert!(interrupted.success());
    let began = Instant::now();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = daemon.wait().expect("ends");
    assert!(status.success() && began.elapsed() < Duration::from_secs(30), "{status} after {:?}", began.elapsed());
    assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
    assert!(!cluster.dir().join("run/troupe.pid").exists());
}
