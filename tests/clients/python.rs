//! The Python client.

use crate::{cluster::text, downloads, stage::Corner};

pub fn first_minute(corner: &Corner) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/first_minute.py");
    let mut python = corner.command(&downloads::python().to_string_lossy());
    let output = python.arg(script).arg(corner.kubeconfig()).arg(&corner.namespace).output().expect("python runs");
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().last(), Some("done"));
}
