//! The `process_*` families, read from procfs, and what build this is.

use std::fs;

use super::{Collect, Text};

/// Clock ticks a second in procfs; the same on every Linux that runs us.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// This process, as Prometheus' clients describe it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process;

impl Process {
    /// When the process started, in seconds since the epoch.
    pub fn started(self) -> Option<f64> {
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(boot_time()? + stat.started_after_boot)
    }

    /// The same, alone on a page.
    pub fn start_time(self, text: &mut Text) {
        if let Some(start) = self.started() {
            text.single("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "gauge", start);
        }
    }
}

impl Collect for Process {
    fn collect(&self, text: &mut Text) {
        // Outside of Linux there is nothing to tell.
        let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) else { return };
        text.single("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "counter", stat.cpu_seconds);
        text.single("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge", stat.resident);
        text.single("process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge", stat.virtual_memory);
        text.single("process_threads", "Number of OS threads of this process.", "gauge", stat.threads);
        self.start_time(text);
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = u32::try_from(open.count()).unwrap_or(u32::MAX);
            text.single("process_open_fds", "Number of open file descriptors.", "gauge", open.into());
        }
        if let Some(most) = most_files() {
            text.single("process_max_fds", "Maximum number of open file descriptors.", "gauge", most);
        }
    }
}

/// The soft limit of open files.
fn most_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot: f64,
    virtual_memory: f64,
    resident: f64,
}

impl Stat {
    /// Reads `/proc/self/stat`; the program's name, in parentheses, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // `fields` begins with the third field of proc(5).
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Stat {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            threads: field(20)?,
            started_after_boot: field(22)? / TICKS,
            virtual_memory: field(23)?,
            resident: field(24)? * PAGE,
        })
    }
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// `kubernetes_build_info`.
#[derive(Clone, Debug)]
pub struct BuildInfo(pub crate::version::VersionInfo);

impl Collect for BuildInfo {
    fn collect(&self, text: &mut Text) {
        let version = serde_json::json!(self.0);
        let field = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
        let names = [
            ("build_date", "buildDate"),
            ("compiler", "compiler"),
            ("git_commit", "gitCommit"),
            ("git_tree_state", "gitTreeState"),
            ("git_version", "gitVersion"),
            ("go_version", "goVersion"),
            ("major", "major"),
            ("minor", "minor"),
            ("platform", "platform"),
        ];
        let values: Vec<(&str, String)> = names.iter().map(|(label, name)| (*label, field(name))).collect();
        let labels: Vec<(&str, &str)> = values.iter().map(|(label, value)| (*label, value.as_str())).collect();
        let help = "A metric with a constant '1' value labeled by what was built from what, when, how and for which platform.";
        text.family("kubernetes_build_info", help, "gauge");
        text.sample("kubernetes_build_info", &labels, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{parse::Samples, render};

    #[test]
    fn this_process_has_memory_threads_and_open_files() {
        let text = render(&[&Process]);
        let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses");
        for name in ["process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_threads"] {
            assert!(samples.value(name, &[]).is_some_and(|value| value > 0.0), "{name}");
        }
        let started = samples.value("process_start_time_seconds", &[]).expect("it started");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(started > 1.6e9 && started <= now + 2.0, "{started} is before {now}");
    }
}
