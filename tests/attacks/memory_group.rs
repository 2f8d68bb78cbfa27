//! A memory cgroup with a limit, for the daemon under attack. It is removed when dropped, after its processes have ended.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The group; version 1 and version 2 hierarchies both work.
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes a group whose processes may use `bytes` together.
    pub fn with_limit(name: &str, bytes: u64) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let (hierarchy, limit) = match root.join("memory").is_dir() {
            true => (root.join("memory"), "memory.limit_in_bytes"),
            false => (root.to_owned(), "memory.max"),
        };
        let group = MemoryGroup(hierarchy.join(name));
        fs::create_dir(&group.0).expect("root may make a cgroup");
        fs::write(group.0.join(limit), bytes.to_string()).expect("the group takes a limit");
        group
    }

    /// The file that takes the ids of processes to move here.
    pub fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        // The kernel keeps it busy for a moment after its last process ended.
        while fs::remove_dir(&self.0).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
