//! A process from outside: its memory and processor time.

use std::{fs, time::Duration};

use nix::{time::ClockId, unistd::Pid};

pub struct Process {
    pid: i32,
}

impl Process {
    pub fn new(pid: i32) -> Self {
        Process { pid }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("the daemon runs")
    }

    /// Resident memory.
    pub fn resident_mib(&self) -> f64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
        line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
    }

    /// The most memory that was resident since the last call of [`Self::forget_peak`].
    pub fn peak_mib(&self) -> f64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
    }

    /// Begins the peak anew.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").expect("root may");
    }

    /// Processor time used so far by all threads.
    pub fn cpu(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.pid)).expect("the daemon runs");
        clock.now().expect("the daemon runs").into()
    }
}
