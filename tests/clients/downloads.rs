//! What the tests get from the Python registry: its client for Python, kubectls of several versions, and helm.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use crate::cluster::text;

/// A python that has the Kubernetes client.
pub fn python() -> PathBuf {
    let environment = kept("clients-venv");
    set_up("venv.sh", &[environment.as_os_str()]);
    environment.join("bin/python")
}

/// kubectl 1.`minor`.
pub fn kubectl(minor: u16) -> PathBuf {
    program("kubectl", minor)
}

/// The helm that is made with client libraries 1.`minor`.
pub fn helm(minor: u16) -> PathBuf {
    program("helm", minor)
}

fn program(name: &str, minor: u16) -> PathBuf {
    let python = python();
    let file = kept(&format!("{name}-1.{minor}"));
    set_up("layer.sh", &[python.as_os_str(), minor.to_string().as_ref(), name.as_ref(), file.as_os_str()]);
    file
}

/// A path below cargo's target directory.
fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_troupe")).ancestors().nth(2).expect("two folders up").join(name)
}

/// Runs a script of this folder that does nothing the second time, one at a time.
fn set_up(script: &str, arguments: &[&std::ffi::OsStr]) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let output = Command::new(&script).args(arguments).output().expect("the script runs");
    assert!(output.status.success(), "{} failed:\n{}{}", script.display(), text(&output.stdout), text(&output.stderr));
}
