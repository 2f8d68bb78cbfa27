//! What the service proxy asks of the kernel's connection tracking: how many connections it follows, and how long silent ones. Upstream's defaults
//! (`KubeProxyConntrackConfiguration`).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// A bucket of the kernel's table leads to so many connections.
const PER_BUCKET: u64 = 4;

/// Limits and times; what is `None` or zero stays as the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// Connections followed for each processor (`--conntrack-max-per-core`).
    pub max_per_core: u64,
    /// Connections followed at least, unless `max_per_core` is zero (`--conntrack-min`).
    pub min: u64,
    /// How long a connection without packets is followed (`--conntrack-tcp-timeout-established`).
    pub tcp_established: Duration,
    /// The same once one end has closed it (`--conntrack-tcp-timeout-close-wait`).
    pub tcp_close_wait: Duration,
}

impl Default for ConntrackSettings {
    fn default() -> Self {
        ConntrackSettings {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(24 * 60 * 60),
            tcp_close_wait: Duration::from_secs(60 * 60),
        }
    }
}

/// A kernel setting that is to have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Below `/proc/sys/net/netfilter`.
    pub name: &'static str,
    pub value: u64,
}

impl ConntrackSettings {
    /// What this comes to on a machine with so many processors. Pure.
    pub fn plan(&self, cores: u64) -> Vec<Wanted> {
        let max = if self.max_per_core == 0 { 0 } else { self.max_per_core.saturating_mul(cores).max(self.min) };
        let wanted = [
            ("nf_conntrack_max", max),
            ("nf_conntrack_tcp_timeout_established", self.tcp_established.as_secs()),
            ("nf_conntrack_tcp_timeout_close_wait", self.tcp_close_wait.as_secs()),
        ];
        wanted.into_iter().filter(|(_, value)| *value > 0).map(|(name, value)| Wanted { name, value }).collect()
    }
}

/// Where the kernel has its settings.
#[derive(Clone, Debug)]
pub struct ConntrackFiles {
    settings: PathBuf,
    hash_size: PathBuf,
}

impl Default for ConntrackFiles {
    fn default() -> Self {
        ConntrackFiles::below(Path::new("/"))
    }
}

impl ConntrackFiles {
    /// Those of a file tree.
    pub fn below(root: &Path) -> Self {
        ConntrackFiles { settings: root.join("proc/sys/net/netfilter"), hash_size: root.join("sys/module/nf_conntrack/parameters/hashsize") }
    }

    /// Loads what connections are followed by, unless the kernel has it: the first rule that needs it does so too, but comes later.
    pub fn load(&self) {
        if !self.settings.join("nf_conntrack_max").exists() {
            // Not every kernel has modules; whether it helped shows in the settings.
            let _ = Command::new("modprobe").arg("nf_conntrack").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }

    /// Sets what differs. Returns what could not be set, with its name: a network namespace of its own may not set the machine's limit.
    pub fn apply(&self, wanted: &[Wanted]) -> Vec<(&'static str, io::Error)> {
        let mut failed = Vec::new();
        for Wanted { name, value } in wanted {
            if let Err(error) = write_if_other(&self.settings.join(name), *value, |now, wanted| now == wanted) {
                failed.push((*name, error));
            } else if *name == "nf_conntrack_max"
                && let Err(error) = write_if_other(&self.hash_size, value / PER_BUCKET, |now, wanted| now >= wanted)
            {
                failed.push(("hashsize", error));
            }
        }
        failed
    }
}

fn write_if_other(path: &Path, value: u64, enough: impl Fn(u64, u64) -> bool) -> io::Result<()> {
    let now = fs::read_to_string(path)?;
    if now.trim().parse().is_ok_and(|now| enough(now, value)) { Ok(()) } else { fs::write(path, value.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_processors_and_nothing_is_set_to_zero() {
        let values = |settings: ConntrackSettings, cores| settings.plan(cores).iter().map(|wanted| wanted.value).collect::<Vec<_>>();
        let usual = ConntrackSettings::default();
        assert_eq!(values(usual, 2), [131_072, 86_400, 3600]);
        assert_eq!(values(usual, 16), [524_288, 86_400, 3600]);
        assert_eq!(values(ConntrackSettings { max_per_core: 0, tcp_close_wait: Duration::ZERO, ..usual }, 16), [86_400]);
    }

    #[test]
    fn what_differs_is_written_and_a_larger_table_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let files = ConntrackFiles::below(root.path());
        fs::create_dir_all(&files.settings).expect("made");
        fs::create_dir_all(files.hash_size.parent().expect("has one")).expect("made");
        let at = |name: &str| files.settings.join(name);
        fs::write(at("nf_conntrack_max"), "65536\n").expect("written");
        fs::write(at("nf_conntrack_tcp_timeout_established"), "432000\n").expect("written");
        fs::write(&files.hash_size, "65536\n").expect("written");
        let failed = files.apply(&ConntrackSettings::default().plan(2));
        assert_eq!(failed.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["nf_conntrack_tcp_timeout_close_wait"], "there is no such file");
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        assert_eq!(read(&at("nf_conntrack_max")), "131072");
        assert_eq!(read(&at("nf_conntrack_tcp_timeout_established")), "86400");
        assert_eq!(read(&files.hash_size), "65536\n", "as large as is needed");
    }
}
