//! `troupe up --detach`: starts the daemon in a session of its own and returns when the node is Ready and stays so for a moment.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use crate::{
    config::Config,
    daemon::safe_command,
    durable,
    history::{self, History},
    instance,
};

/// A start takes at most so long.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(20);
/// So much of a log's end is read to show its last lines.
const TAIL: u64 = 16 * 1024;

/// The line that ends the daemon's progress when everything runs.
pub const READY_LINE: &str = "ready";

/// Starts this program again as a daemon with the same arguments and waits.
pub fn run(config: &Config, safe: bool) -> Result<()> {
    let mirror = config.run_dir.join("progress");
    for dir in [&config.run_dir, &config.data_dir] {
        durable::make_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let _ = fs::remove_file(&mirror); // of an earlier start
    let history = History::of(&config.data_dir, &config.run_dir, instance::UP);
    let (starts, now) = (history.starts(), Timestamp::now());
    let pause = if safe { Duration::ZERO } else { history::pause(&starts, now) };
    let mut start = Start {
        child: spawn(config, &mirror)?,
        mirror: &mirror,
        log: config.log_file(),
        patience: PATIENCE + pause,
        settling: history::settling(&starts, now),
        history,
    };
    start.follow()
}

fn spawn(config: &Config, mirror: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(config.log_file())
        .with_context(|| format!("cannot open {}", config.log_file().display()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "-d");
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(arguments).arg("--progress-file").arg(mirror).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: setsid is async-signal-safe and the closure touches nothing else.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    command.spawn().context("cannot start the daemon")
}

/// A daemon that is starting.
struct Start<'a> {
    child: Child,
    /// Where it tells its progress.
    mirror: &'a Path,
    log: PathBuf,
    patience: Duration,
    /// How long it must live on when it is ready.
    settling: Duration,
    history: History,
}

impl Start<'_> {
    /// Shows the daemon's progress until it is ready and has settled, or is gone.
    fn follow(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        let mut shown = 0;
        loop {
            let text = fs::read_to_string(self.mirror).unwrap_or_default();
            let whole = text.rfind('\n').map_or(0, |at| at + 1);
            for line in text[..whole].lines().skip(shown) {
                shown += 1;
                if line == READY_LINE {
                    return self.settle();
                }
                println!("{line}");
            }
            self.must_live()?;
            if Instant::now() > deadline {
                let (patience, log) = (self.patience.as_secs(), self.log.display());
                bail!("the node is not Ready after {patience} s; the daemon goes on trying. The end of {log}:\n{}", tail(&self.log));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What ends a daemon may find it again as soon as it works.
    fn settle(&mut self) -> Result<()> {
        let settled = Instant::now() + self.settling;
        while Instant::now() < settled {
            self.must_live()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn must_live(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("cannot wait for the daemon")? else { return Ok(()) };
        let pid = i32::try_from(self.child.id()).unwrap_or_default();
        let how = self.history.end_of(pid).map_or_else(String::new, |how| format!(": it {how}"));
        let advice = history::advice(&self.history.starts(), Timestamp::now(), safe_command(instance::UP));
        let advice = advice.map_or_else(String::new, |advice| format!("\n  ! {advice}"));
        bail!("the daemon ended ({status}){how}{advice}\nthe end of {}:\n{}", self.log.display(), tail(&self.log))
    }
}

/// The end of a file.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
