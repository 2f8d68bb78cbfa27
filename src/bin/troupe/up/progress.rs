//! What `troupe up` shows while it starts: one line a step, with the time it took.

use std::{
    fs,
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Instant,
};

/// Prints steps to the terminal, and to a file where a waiting `troupe up --detach` reads them.
pub struct Progress {
    started: Instant,
    step: Option<(String, Instant)>,
    mirror: Option<PathBuf>,
    lively: bool,
}

impl Progress {
    /// `mirror` receives one line per finished step.
    pub fn new(mirror: Option<PathBuf>) -> Self {
        if let Some(path) = &mirror {
            let _ = fs::remove_file(path); // of an earlier start
        }
        let lively = mirror.is_none() && std::io::stdout().is_terminal();
        Progress { started: Instant::now(), step: None, mirror, lively }
    }

    /// Ends the running step well and begins the next.
    pub fn begin(&mut self, what: impl Into<String>) {
        self.finish_step();
        let what = what.into();
        if self.lively {
            print!("  … {what}");
            let _ = std::io::stdout().flush(); // only cosmetics are lost
        }
        self.step = Some((what, Instant::now()));
    }

    /// Ends the last step.
    pub fn done(&mut self) -> std::time::Duration {
        self.finish_step();
        self.started.elapsed()
    }

    /// A line beside the steps.
    pub fn note(&mut self, text: &str) {
        self.print(text);
    }

    fn finish_step(&mut self) {
        if let Some((what, since)) = self.step.take() {
            let clear = if self.lively { "\r\x1b[2K" } else { "" };
            self.print(&format!("{clear}  ✔ {what} ({:.1} s)", since.elapsed().as_secs_f64()));
        }
    }

    fn print(&mut self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}"); // it may be a file on a full disk
        if let Some(path) = &self.mirror
            && let Err(error) = fs::OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{line}"))
        {
            tracing::debug!(%error, "progress is not mirrored");
        }
    }
}
