//! The systemd units.

use std::process::Command;

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
