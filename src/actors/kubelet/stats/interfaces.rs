//! What went over the interfaces of a network namespace, as procfs tells it.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

/// Counts since an interface is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: Direction,
    pub transmitted: Direction,
}

/// Those of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// By the names of interfaces.
pub type Interfaces = BTreeMap<String, Traffic>;

/// Those that a process has; `None` for one that is gone or has the machine's own.
pub fn of_process(pid: i32) -> Option<Interfaces> {
    let (own, other) = ("/proc/self/net/dev", format!("/proc/{pid}/net/dev"));
    // Each network namespace has files of its own there. What links to namespaces lead to only those may see who may trace the process.
    if fs::metadata(own).ok()?.ino() == fs::metadata(&other).ok()?.ino() {
        return None;
    }
    fs::read_to_string(other).ok().map(|text| parse(&text))
}

/// The machine's own.
pub fn of_machine() -> Interfaces {
    fs::read_to_string("/proc/self/net/dev").map(|text| parse(&text)).unwrap_or_default()
}

/// The loopback interface tells of nobody outside.
fn parse(text: &str) -> Interfaces {
    let interface = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
        let direction = |from: usize| {
            let of = |at: usize| counts.get(from + at).copied().unwrap_or(0);
            Direction { bytes: of(0), packets: of(1), errors: of(2), dropped: of(3) }
        };
        let name = name.trim();
        (name != "lo").then(|| (name.to_owned(), Traffic { received: direction(0), transmitted: direction(8) }))
    };
    text.lines().filter_map(interface).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_but_the_loopback_are_told() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0\n  \
            eth0: 1000 10 1 2 0 0 0 3 2000 20 3 4 0 0 0 0\n";
        let all = parse(text);
        let direction = |bytes, packets, errors, dropped| Direction { bytes, packets, errors, dropped };
        assert_eq!(
            all,
            Interfaces::from([("eth0".to_owned(), Traffic { received: direction(1000, 10, 1, 2), transmitted: direction(2000, 20, 3, 4) })])
        );
    }

    #[test]
    fn a_process_with_the_machines_own_interfaces_tells_none() {
        assert_eq!(of_process(i32::try_from(std::process::id()).expect("a process")), None);
        assert_eq!(of_process(i32::MAX), None);
    }
}
