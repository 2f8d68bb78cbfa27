//! `/version`.

use serde::Serialize;

/// What `/version` answers (`version.Info` of k8s.io/apimachinery).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    pub major: String,
    pub minor: String,
    pub emulation_major: String,
    pub emulation_minor: String,
    pub min_compatibility_major: String,
    pub min_compatibility_minor: String,
    pub git_version: String,
    pub git_commit: String,
    pub git_tree_state: String,
    pub build_date: String,
    pub go_version: String,
    pub compiler: String,
    pub platform: String,
}

impl VersionInfo {
    /// The version of this build: `release` is our own, such as `0.1.0`; commit and date as the build knows them.
    pub fn of_build(release: &str, git_commit: &str, build_date: &str) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        VersionInfo {
            major: "1".into(),
            minor: "36".into(),
            emulation_major: "1".into(),
            emulation_minor: "36".into(),
            min_compatibility_major: "1".into(),
            min_compatibility_minor: "35".into(),
            git_version: format!("v1.36.0+troupe.{release}"),
            git_commit: git_commit.into(),
            git_tree_state: "clean".into(),
            build_date: build_date.into(),
            // No Go here; clients only print this field.
            go_version: "none".into(),
            compiler: "rustc".into(),
            platform: format!("{}/{architecture}", std::env::consts::OS),
        }
    }
}
