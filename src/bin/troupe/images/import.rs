//! Handing image archives to containerd, through its `ctr`.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Imports one archive into the namespace that the CRI plugin reads.
pub fn import_one(address: &Path, archive: &Path) -> Result<()> {
    ctr(address, &["images", "import", "--all-platforms", &archive.to_string_lossy()]).map(drop)
}

/// Imports those archives of `dir` whose content the runtime lacks. Returns what was imported.
pub fn import_missing(address: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let listing = ctr(address, &["images", "list"])?;
    let present: HashSet<(&str, &str)> = listing
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?, columns.nth(1)?))
        })
        .collect();
    let mut imported = Vec::new();
    for archive in super::archives(dir)? {
        let named = names_in(&archive).with_context(|| format!("{} is no image archive", archive.display()))?;
        if !named.iter().all(|(name, digest)| present.contains(&(name.as_str(), digest.as_str()))) {
            import_one(address, &archive)?;
            imported.push(archive);
        }
    }
    Ok(imported)
}

/// The names of all images in the archives of a directory; what cannot be read has none.
pub fn names(dir: &Path) -> Vec<String> {
    let archives = super::archives(dir).unwrap_or_default();
    let named = archives.iter().filter_map(|archive| names_in(archive).ok());
    named.flatten().map(|(name, _)| name).filter(|name| !name.is_empty()).collect()
}

/// The image names of an archive with the digests of their manifests.
fn names_in(archive: &Path) -> Result<Vec<(String, String)>> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_os_str() != "index.json" {
            continue;
        }
        let index: serde_json::Value = serde_json::from_reader(entry)?;
        let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        return Ok(manifests.iter().map(|m| (text(&m["annotations"]["io.containerd.image.name"]), text(&m["digest"]))).collect());
    }
    bail!("it has no index.json")
}

/// Runs containerd's client in the namespace that the CRI plugin reads; gives what it prints.
pub fn ctr(address: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(address)
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .output()
        .context("cannot run ctr, which comes with containerd")?;
    if !output.status.success() {
        bail!("ctr {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
