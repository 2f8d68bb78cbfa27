//! The parts of a cluster as assemblies, and the daemons `troupe control-plane` and `troupe node` made of them.
//!
//! `troupe up` is made of the same assemblies, in one process.

pub mod control_plane;
mod election;
mod hollow;
mod lock_file;
pub mod node;
mod notify;
mod reach;
pub mod runtime;
pub mod work_record;

use std::{collections::BTreeSet, future::Future, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use troupe_actors::runtime::system::{System, SystemOptions};

use crate::{
    config::{Config, Part},
    history::{self, History},
    instance::{self, PidFile, claim::Claimant},
    log_files::{self, LogFile},
};

/// Units have this long to stop in good order.
const STOPPING: Duration = Duration::from_secs(5);

/// Something that runs until it is stopped.
pub trait Running {
    /// Stops it in good order.
    fn stop(self) -> impl Future<Output = ()>;
}

/// A daemon that is about to start.
pub struct Launch {
    pub config: Config,
    /// What its pid file is called.
    pub daemon: &'static str,
    pub parts: BTreeSet<Part>,
    /// The API server alone.
    pub safe: bool,
}

impl Launch {
    /// Takes the daemon's place on the machine, waits where it crashed again and again, and does `work`. Start and end are
    /// written down.
    ///
    /// # Errors
    /// When somebody else has the place, or the work fails.
    pub fn run(mut self, mut say: impl FnMut(&str), work: impl FnOnce(Config) -> Result<()>) -> Result<()> {
        let pid_file = self.config.daemon_pid_file(self.daemon);
        let _pid_file = PidFile::claim(&pid_file)?;
        if let Some(pid) = instance::running(&self.config.run_dir.join(instance::DOWN)) {
            bail!("troupe down is at work here (pid {pid}): wait until it is done");
        }
        self.claim()?;
        let history = History::of(&self.config.data_dir, &self.config.run_dir, self.daemon);
        if !self.safe {
            hold_back(&history, self.daemon, &mut say);
        }
        log_files::keep(vec![LogFile::Own(self.config.log_file())])?;
        let (safe, config) = (self.safe, self.config);
        history.record(safe, || work(config))
    }

    /// A safe start leaves the record as the last start made it.
    fn claim(&mut self) -> Result<()> {
        if self.safe && !self.config.instance.is_empty() {
            return Ok(());
        }
        let claimant = Claimant { config: &self.config, daemon: self.daemon, parts: self.parts.clone() };
        self.config.instance = claimant.claim()?.id;
        Ok(())
    }
}

/// Waits before the next start of what crashes again and again.
fn hold_back(history: &History, daemon: &str, say: &mut impl FnMut(&str)) {
    let (starts, now) = (history.starts(), Timestamp::now());
    if let Some(advice) = history::advice(&starts, now, safe_command(daemon)) {
        say(&format!("  ! {advice}"));
    }
    let pause = history::pause(&starts, now);
    if !pause.is_zero() {
        say(&format!("  … waiting {} s before this start, to leave the machine to others", pause.as_secs().max(1)));
        std::thread::sleep(pause);
    }
}

/// How a daemon is started with its API server alone.
pub fn safe_command(daemon: &str) -> &'static str {
    if daemon == crate::instance::UP { "troupe up --safe" } else { "troupe control-plane --safe" }
}

/// Starts what `start` makes in a process of this name, tells a service manager, waits for a signal, and stops it again.
fn run<R: Running, F: Future<Output = Result<R>>>(launch: Launch, process: String, start: impl FnOnce(Config, System) -> F) -> Result<()> {
    let say = |line: &str| eprintln!("{line}");
    let pid_file = launch.config.daemon_pid_file(launch.daemon);
    launch.run(say, |config| {
        let threads = actix::System::new();
        threads.block_on(async move {
            let system = System::new(SystemOptions { process, work: work_record::open(&pid_file), ..SystemOptions::default() })
                .context("cannot start the actor system")?;
            let running = start(config, system.clone()).await?;
            notify::ready();
            let end = until_told(&system).await;
            notify::stopping();
            running.stop().await;
            system.shutdown(STOPPING).await;
            end
        })
    })
}

/// Waits for a signal to stop.
///
/// # Errors
/// When units gave up that nobody restarts: the daemon should be started again.
pub async fn until_told(system: &System) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = system.broken() => Err(anyhow::anyhow!("{why}; a supervisor should start troupe again")),
        () = notify::watchdog() => unreachable!("the watchdog is served for ever"),
    }
}
