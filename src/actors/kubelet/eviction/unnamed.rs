//! Files of a pod that have no name any more and take room as long as a process holds them open.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use nix::sys::{
    stat::{SFlag, stat},
    statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, statfs},
};

use crate::{files::DiskUse, kubelet::cgroups};

/// So many descriptors of a pod are looked at.
const MOST: usize = 20_000;

/// What such files of a pod's processes take. Processes that ended meanwhile, or that may not be looked at, hold nothing.
pub fn of_pod(parent: &str, uid: &str) -> DiskUse {
    let processes = cgroups::processes_of_pod(parent, uid).unwrap_or_default();
    let descriptors = processes.iter().flat_map(|process| descriptors(&PathBuf::from(format!("/proc/{process}/fd"))));
    sum(descriptors.take(MOST))
}

fn descriptors(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn sum(descriptors: impl Iterator<Item = PathBuf>) -> DiskUse {
    let mut seen = BTreeSet::new();
    let mut all = DiskUse::default();
    for descriptor in descriptors {
        let Ok(status) = stat(&descriptor) else { continue };
        let regular = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if !regular || status.st_nlink != 0 || status.st_blocks <= 0 || in_memory(&descriptor) {
            continue;
        }
        if seen.insert((status.st_dev, status.st_ino)) {
            all += DiskUse { bytes: status.st_blocks.unsigned_abs() * 512, inodes: 1, beyond: false };
        }
    }
    all
}

fn in_memory(descriptor: &Path) -> bool {
    statfs(descriptor).is_ok_and(|found| matches!(found.filesystem_type(), TMPFS_MAGIC | HUGETLBFS_MAGIC))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn only_files_on_disk_without_a_name_count() {
        let own = |file: &fs::File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // Beside the tests' program, which lies on a disk.
        let disk = std::env::current_exe().expect("a program").parent().expect("a folder").to_owned();
        let mut gone = tempfile::tempfile_in(&disk).expect("a file without a name");
        gone.write_all(&vec![1; 1 << 20]).and_then(|()| gone.sync_all()).expect("writes");
        let named = tempfile::NamedTempFile::new_in(&disk).expect("a file");
        named.as_file().write_all(&[1; 4096]).and_then(|()| named.as_file().sync_all()).expect("writes");
        let again = gone.try_clone().expect("a second descriptor");
        let pipe = PathBuf::from("/proc/self/fd/nothing");
        let found = sum([own(&gone), own(&again), own(named.as_file()), pipe].into_iter());
        assert!(found.bytes >= 1 << 20 && found.bytes < 2 << 20 && found.inodes == 1, "{found:?}");
    }
}
