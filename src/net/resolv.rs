//! `resolv.conf`: who resolves names for this machine, and which of its files a pod can use.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// What a machine's `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text as libc does: the last `search` wins, unknown lines are skipped.
    pub fn parse(text: &str) -> Self {
        let mut conf = ResolvConf::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok())),
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(ResolvConf::parse(&fs::read_to_string(path)?))
    }

    /// Every server is this machine's own loopback, such as systemd-resolved's stub: no use inside a pod.
    pub fn is_stub(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(IpAddr::is_loopback)
    }
}

/// The file below `root` whose servers pods can reach: systemd-resolved's list of real servers when `/etc/resolv.conf` is its stub.
pub fn for_pods(root: &Path) -> PathBuf {
    let plain = root.join("etc/resolv.conf");
    let real = root.join("run/systemd/resolve/resolv.conf");
    let stub = ResolvConf::read(&plain).is_ok_and(|conf| conf.is_stub());
    if stub && real.is_file() { real } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_unknown_lines_are_skipped() {
        let conf =
            ResolvConf::parse("# hi\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsortlist x\nsearch a.example b.example\noptions ndots:2 edns0\n");
        assert_eq!(conf.servers, ["10.0.0.2".parse::<IpAddr>().expect("an address"), "fe80::1".parse().expect("an address")]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["ndots:2", "edns0"]);
    }

    #[test]
    fn a_stub_resolver_is_looked_through() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("etc")).expect("creates");
        fs::create_dir_all(root.path().join("run/systemd/resolve")).expect("creates");
        fs::write(root.path().join("etc/resolv.conf"), "nameserver 127.0.0.53\n").expect("writes");
        assert_eq!(for_pods(root.path()), root.path().join("etc/resolv.conf"), "nothing better is there");
        fs::write(root.path().join("run/systemd/resolve/resolv.conf"), "nameserver 10.0.0.2\n").expect("writes");
        assert_eq!(for_pods(root.path()), root.path().join("run/systemd/resolve/resolv.conf"));
        fs::write(root.path().join("etc/resolv.conf"), "nameserver 10.0.0.3\n").expect("writes");
        assert_eq!(for_pods(root.path()), root.path().join("etc/resolv.conf"));
    }
}
