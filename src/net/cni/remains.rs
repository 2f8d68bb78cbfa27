//! What a runtime that was killed has left of sandboxes it no longer knows: addresses, host ports, network namespaces.
//!
//! A runtime sets up a sandbox's network before it writes down that there is a sandbox. Killed in between it knows nothing
//! of the network, and nobody else would ever give it back. `left_over` (pure) says what belongs to nobody; the rest
//! reads and removes.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use nix::mount::{MntFlags, umount2};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{INTERFACE, Network, RESULTS, result_file};

/// Setting up a sandbox takes less than this, by the time limit of the call; till then its parts may belong to nobody yet.
pub const SETTING_UP: Duration = Duration::from_secs(300);

/// Something set up for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    pub is: T,
    pub since: SystemTime,
}

/// Those parts that are not `used` and never will be: older than the runtime that runs now, or older than a set-up takes.
pub fn left_over<T: Clone>(parts: &[Part<T>], used: impl Fn(&T) -> bool, runtime_since: Option<SystemTime>, now: SystemTime) -> Vec<T> {
    let before_the_runtime = |since: SystemTime| runtime_since.is_some_and(|start| since < start);
    let long_ago = |since: SystemTime| now.duration_since(since).is_ok_and(|age| age > SETTING_UP);
    let unused = parts.iter().filter(|part| !used(&part.is));
    unused.filter(|part| before_the_runtime(part.since) || long_ago(part.since)).map(|part| part.is.clone()).collect()
}

/// The sandboxes that have addresses of `network`, as host-local wrote it down.
pub fn address_holders(network: &Network) -> io::Result<Vec<Part<String>>> {
    let mut found = Vec::new();
    for (path, since) in files(&network.data_dir.join(&network.name))? {
        let is_address = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<IpAddr>().is_ok());
        if !is_address {
            continue;
        }
        // The first line is the sandbox, the second its interface. The file of an address that is just given back is gone.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if let Some(sandbox) = text.lines().next().filter(|line| !line.is_empty()) {
            found.push(Part { is: sandbox.to_owned(), since });
        }
    }
    Ok(found)
}

/// The network namespaces kept in a directory.
pub fn namespaces(dir: &Path) -> io::Result<Vec<Part<PathBuf>>> {
    Ok(files(dir)?.into_iter().map(|(is, since)| Part { is, since }).collect())
}

/// The inodes of all network namespaces that processes are in.
pub fn inhabited() -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // Threads may differ from their process for a moment only; whatever ended meanwhile is in none.
        if let Ok(namespace) = fs::metadata(entry.path().join("ns/net")) {
            found.insert(namespace.ino());
        }
    }
    Ok(found)
}

/// Whether processes are in a namespace.
pub fn is_inhabited(namespace: &Path, inhabited: &BTreeSet<u64>) -> bool {
    fs::metadata(namespace).is_ok_and(|found| inhabited.contains(&found.ino()))
}

/// Takes a namespace away, and with it the interfaces in it, their other ends, and what is remembered of its set-up.
pub fn remove_namespace(namespace: &Path) -> io::Result<()> {
    match umount2(namespace, MntFlags::MNT_DETACH) {
        // Not mounted: the runtime was killed before that, or after unmounting.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    absent_is_done(fs::remove_file(namespace))?;
    // Its name is unique.
    let Some(name) = namespace.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    for (result, _) in files(Path::new(RESULTS))? {
        if fs::read_to_string(&result).is_ok_and(|text| text.contains(name)) {
            absent_is_done(fs::remove_file(result))?;
        }
    }
    Ok(())
}

/// Gives back a sandbox's address and host ports by asking the plugins for it, as the runtime would.
pub async fn release(network: &Network, plugin_dir: &Path, sandbox: &str) -> io::Result<()> {
    let conflist = network.conflist();
    // The last plugin that was added goes first.
    for plugin in conflist["plugins"].as_array().into_iter().flatten().rev() {
        let mut config = plugin.clone();
        for shared in ["cniVersion", "name"] {
            config[shared] = conflist[shared].clone();
        }
        delete(&config, plugin_dir, sandbox).await?;
    }
    forget(network, sandbox)
}

/// Removes what the runtime remembers of the plugins' results.
pub fn forget(network: &Network, sandbox: &str) -> io::Result<()> {
    for name in [result_file(&network.name, sandbox), format!("cni-loopback-{sandbox}-lo")] {
        absent_is_done(fs::remove_file(Path::new(RESULTS).join(name)))?;
    }
    Ok(())
}

async fn delete(config: &Value, plugin_dir: &Path, sandbox: &str) -> io::Result<()> {
    let name = config["type"].as_str().unwrap_or_default();
    let mut command = Command::new(plugin_dir.join(name));
    command.env("CNI_COMMAND", "DEL").env("CNI_CONTAINERID", sandbox).env("CNI_IFNAME", INTERFACE).env("CNI_PATH", plugin_dir);
    // Its namespace is gone, or goes next.
    command.env("CNI_NETNS", "");
    let mut plugin = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut input) = plugin.stdin.take() {
        input.write_all(config.to_string().as_bytes()).await?;
    }
    let output = plugin.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the CNI plugin {name} says {}", String::from_utf8_lossy(&output.stdout).trim())))
}

/// The files in a directory with their times; none when there is no directory.
fn files(dir: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let with_time = |entry: fs::DirEntry| Some((entry.path(), fs::metadata(entry.path()).ok()?.modified().ok()?));
    Ok(entries.flatten().filter_map(with_time).collect())
}

fn absent_is_done(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_used_is_left_over() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let parts = [("used", 900), ("old", 900), ("before", 60), ("in work", 40)].map(|(is, age)| Part { is, since: ago(age) });
        let used = |is: &&str| *is == "used";
        assert_eq!(left_over(&parts, used, Some(ago(50)), now), ["old", "before"]);
        assert_eq!(left_over(&parts, used, None, now), ["old"]);
    }

    #[test]
    fn the_holders_of_addresses_are_read_and_other_files_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let network = Network { data_dir: dir.path().to_owned(), ..Network::new(vec!["10.244.3.0/24".parse().expect("a network")]) };
        assert_eq!(address_holders(&network).expect("reads"), []);
        let leases = dir.path().join(&network.name);
        fs::create_dir(&leases).expect("makes");
        fs::write(leases.join("10.244.3.7"), "abc\r\neth0").expect("writes");
        fs::write(leases.join("last_reserved_ip.0"), "10.244.3.7").expect("writes");
        fs::write(leases.join("lock"), "").expect("writes");
        let found = address_holders(&network).expect("reads");
        assert_eq!(found.iter().map(|part| part.is.as_str()).collect::<Vec<_>>(), ["abc"]);
    }

    #[test]
    fn the_namespace_of_a_process_is_inhabited() {
        let inhabited = inhabited().expect("reads");
        assert!(is_inhabited(Path::new("/proc/self/ns/net"), &inhabited));
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(!is_inhabited(file.path(), &inhabited));
        remove_namespace(file.path()).expect("removes what is no mount");
        assert!(!file.path().exists());
        remove_namespace(file.path()).expect("what is gone is gone");
    }

    /// The plugins as they are installed give an address back although its namespace is gone.
    #[tokio::test]
    async fn the_plugins_release_an_address_without_its_namespace() {
        let plugins = super::super::plugin_dir(&super::super::PLUGIN_DIRS.map(PathBuf::from)).expect("the plugins are installed");
        let dir = tempfile::tempdir().expect("a directory");
        let network = Network {
            name: "troupe-remains".into(),
            data_dir: dir.path().to_owned(),
            bandwidth: plugins.join(super::super::BANDWIDTH).is_file(),
            ..Network::new(vec!["10.244.3.0/24".parse().expect("a network")])
        };
        let leases = dir.path().join(&network.name);
        fs::create_dir(&leases).expect("makes");
        fs::write(leases.join("10.244.3.7"), "abc\r\neth0").expect("writes");
        fs::write(leases.join("10.244.3.8"), "def\r\neth0").expect("writes");
        release(&network, &plugins, "abc").await.expect("releases");
        let left = address_holders(&network).expect("reads");
        assert_eq!(left.iter().map(|part| part.is.as_str()).collect::<Vec<_>>(), ["def"]);
    }
}
