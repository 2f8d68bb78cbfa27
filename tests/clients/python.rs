//! The Python client, in a virtual environment of its own.

use std::{path::PathBuf, process::Command};

use crate::control_plane::{ControlPlane, text};

#[test]
fn the_python_client_lives_through_its_first_minute() {
    let plane = ControlPlane::start();
    let python = environment().join("bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/first_minute.py");
    let output = Command::new(python).arg(script).arg(plane.kubeconfig()).output().expect("python runs");
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().last(), Some("done"));
}

/// The environment with the client in it; made once.
fn environment() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_BIN_EXE_troupe")).ancestors().nth(2).expect("two folders up").join("clients-venv");
    let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/venv.sh");
    let output = Command::new(setup).arg(&target).output().expect("the script runs");
    assert!(output.status.success(), "{setup} failed:\n{}", text(&output.stderr));
    target
}
