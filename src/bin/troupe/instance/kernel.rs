//! What the kernel says of where an instance lives: the machine's boot, and the network namespace.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

/// A network namespace. Inodes are given out again; a cookie is not, but old kernels have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NetworkNamespace {
    pub inode: u64,
    pub cookie: Option<u64>,
}

impl NetworkNamespace {
    /// That of the calling thread.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn current() -> Result<Self> {
        let inode = fs::metadata("/proc/thread-self/ns/net").context("cannot read the network namespace")?.ino();
        Ok(NetworkNamespace { inode, cookie: cookie() })
    }

    /// Whether both are the same, as far as can be told.
    pub fn is(&self, other: &Self) -> bool {
        self.inode == other.inode && (self.cookie == other.cookie || self.cookie.is_none() || other.cookie.is_none())
    }

    /// Does `work` inside; `None` when the namespace exists no more. The calling thread stays where it is.
    ///
    /// # Errors
    /// When it exists and cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<Option<T>> {
        if self.is(&Self::current()?) {
            return Ok(Some(work()));
        }
        let Some(path) = self.path() else { return Ok(None) };
        let inside = || Self::current().is_ok_and(|here| self.is(&here)).then(work);
        troupe_net::netns::run(&path, inside).with_context(|| format!("cannot enter the network namespace {}", path.display()))
    }

    /// A file that leads to it: one that `ip netns` made, or a process inside.
    fn path(&self) -> Option<PathBuf> {
        let named = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.path());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path().join("ns/net"));
        let mut tried = BTreeSet::new();
        named.chain(processes).find(|path| {
            let inode = fs::metadata(path).map_or(0, |found| found.ino());
            inode == self.inode && tried.insert(path.clone())
        })
    }
}

/// The namespace's cookie, from a socket in it.
fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let (mut cookie, mut length) = (0_u64, libc::socklen_t::try_from(size_of::<u64>()).ok()?);
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which live as long as the call.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length) };
    (done == 0).then_some(cookie)
}

/// The machine's boot.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot() -> Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).context("the kernel does not tell its boot")
}

/// A lock on a file that ends with the process.
pub fn lock(path: &std::path::Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_by_its_cookie_where_there_is_one() {
        let one = NetworkNamespace { inode: 7, cookie: Some(1) };
        assert!(one.is(&one) && one.is(&NetworkNamespace { inode: 7, cookie: None }));
        assert!(!one.is(&NetworkNamespace { inode: 7, cookie: Some(2) }), "its inode was given out again");
        assert!(!one.is(&NetworkNamespace { inode: 8, cookie: Some(1) }));
    }

    #[test]
    fn work_is_done_inside_a_namespace_that_exists_and_not_elsewhere() {
        let here = NetworkNamespace::current().expect("there is one");
        assert_eq!(here.run(|| 7).expect("runs"), Some(7));
        let gone = NetworkNamespace { inode: 1, cookie: None };
        assert_eq!(gone.run(|| 7).expect("runs"), None);
        assert!(!boot().expect("told").is_empty());
    }
}
