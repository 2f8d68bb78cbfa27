//! How a start ended, found out afterwards.

use std::{fs, path::PathBuf};

use jiff::Timestamp;

use super::model::{Ended, How, MemoryKills, Start};

/// How a start without an end ended, by the file of last words and by what the kernel counted.
pub(super) fn find(start: &Start, told: &str, boot: &str, now: Timestamp) -> Ended {
    let noticed = |how| Ended { at: now.to_string(), how };
    if let Some((at, words)) = fatal_message(start, told) {
        return Ended { at: at.to_owned(), how: How::Fatal(words.to_owned()) };
    }
    if start.boot != boot {
        return noticed(How::MachineStopped);
    }
    let grown = start.memory_kills.as_ref().is_some_and(|before| before.now().is_some_and(|now| now > before.count));
    noticed(if grown { How::OutOfMemory } else { How::Killed })
}

/// The last line of this process: time and words.
fn fatal_message<'a>(start: &Start, told: &'a str) -> Option<(&'a str, &'a str)> {
    let begun: Timestamp = start.at.parse().ok()?;
    let mark = format!("pid {}: ", start.pid);
    let parted = told.lines().rev().filter_map(|line| line.split_once(' '));
    parted.filter_map(|(at, rest)| Some((at, rest.strip_prefix(&mark)?))).find(|(at, _)| {
        // Lines have whole seconds, rounded down.
        at.parse::<Timestamp>().is_ok_and(|at| at.as_second() >= begun.as_second())
    })
}

impl MemoryKills {
    /// Those of this process's cgroup, where the kernel counts them.
    pub(super) fn of_this_process() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let files = files(&groups);
        files.into_iter().find_map(|file| Some(MemoryKills { count: count(&fs::read_to_string(&file).ok()?)?, file }))
    }

    fn now(&self) -> Option<u64> {
        count(&fs::read_to_string(&self.file).ok()?)
    }
}

/// Where the kills are counted for a process with these cgroups: by the v1 hierarchy of memory, or by v2.
fn files(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.split(',').any(|controller| controller == "memory") {
            found.push(PathBuf::from("/sys/fs/cgroup/memory").join(path).join("memory.oom_control"));
        } else if hierarchy == "0" {
            found.push(PathBuf::from("/sys/fs/cgroup").join(path).join("memory.events"));
        }
    }
    found
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|count| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(pid: i32) -> Start {
        Start { at: "2026-11-29T09:00:00.5Z".into(), pid, boot: "b".into(), safe: false, memory_kills: None, end: None }
    }

    fn how(start: &Start, told: &str, boot: &str) -> How {
        find(start, told, boot, Timestamp::UNIX_EPOCH).how
    }

    #[test]
    fn last_words_are_those_of_the_process_since_it_started() {
        let told = "2026-11-29T08:00:00Z pid 7: an earlier process with this pid\n2026-11-29T09:00:00Z pid 7: SIGABRT in thread main\n2026-11-29T09:00:01Z pid 77: another\n";
        let found = find(&start(7), told, "b", Timestamp::UNIX_EPOCH);
        assert_eq!(found, Ended { at: "2026-11-29T09:00:00Z".into(), how: How::Fatal("SIGABRT in thread main".into()) });
        assert_eq!(how(&start(77), told, "b"), How::Fatal("another".into()));
        assert_eq!(how(&start(8), told, "b"), How::Killed);
        assert_eq!(how(&start(8), told, "later"), How::MachineStopped);
    }

    #[test]
    fn a_kill_for_memory_is_told_by_the_kernels_counter() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut start = start(7);
        start.memory_kills = Some(MemoryKills { file: file.path().to_owned(), count: 1 });
        fs::write(file.path(), "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n").expect("writes");
        assert_eq!(how(&start, "", "b"), How::Killed);
        fs::write(file.path(), "low 0\noom 3\noom_kill 2\n").expect("writes");
        assert_eq!(how(&start, "", "b"), How::OutOfMemory);
        assert!(How::OutOfMemory.is_a_crash() && !How::Killed.is_a_crash() && How::Killed.is_unclean() && !How::MachineStopped.is_unclean());
    }

    #[test]
    fn both_versions_of_cgroups_are_looked_at() {
        let v1 = files("5:cpu,cpuacct:/\n4:memory:/a/b\n0::/\n");
        assert_eq!(v1, ["/sys/fs/cgroup/memory/a/b/memory.oom_control", "/sys/fs/cgroup/memory.events"].map(PathBuf::from));
        assert_eq!(files("0::/system.slice/troupe.service\n"), [PathBuf::from("/sys/fs/cgroup/system.slice/troupe.service/memory.events")]);
    }
}
