//! The open files of containers' processes.

use std::fs;

/// Of all processes of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFiles {
    pub descriptors: u64,
    pub sockets: u64,
    /// How many the first process may have.
    pub limit: Option<u64>,
}

/// Those of these processes; `None` where there are none. What ends meanwhile has none. Blocking.
pub fn of_processes(pids: &[i32]) -> Option<OpenFiles> {
    let first = pids.first()?;
    let limits = fs::read_to_string(format!("/proc/{first}/limits")).unwrap_or_default();
    let mut all = OpenFiles { limit: limit(&limits), ..OpenFiles::default() };
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            all.descriptors += 1;
            let leads_to = fs::read_link(entry.path()).unwrap_or_default();
            all.sockets += u64::from(leads_to.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        }
    }
    Some(all)
}

/// The soft limit in a table of limits.
fn limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_sockets_of_a_process_are_counted() {
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let own = of_processes(&[i32::try_from(std::process::id()).expect("a process")]).expect("it runs");
        assert!(own.sockets >= 1 && own.descriptors > own.sockets && own.limit.is_some(), "{own:?}");
        assert_eq!(of_processes(&[]), None);
        assert_eq!(limit("Limit  Soft Limit\nMax open files            1024                 4096                 files     \n"), Some(1024));
    }
}
