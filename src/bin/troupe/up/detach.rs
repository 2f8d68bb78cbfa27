//! `troupe up --detach`: starts the daemon in a session of its own and returns when the node is Ready.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::config::Config;

/// The line that ends the daemon's progress when everything runs.
pub const READY_LINE: &str = "ready";

/// Starts this program again as a daemon with the same arguments and waits.
pub fn run(config: &Config) -> Result<()> {
    let mirror = config.run_dir.join("progress");
    fs::create_dir_all(&config.run_dir).with_context(|| format!("cannot make {}", config.run_dir.display()))?;
    fs::create_dir_all(&config.data_dir).with_context(|| format!("cannot make {}", config.data_dir.display()))?;
    let _ = fs::remove_file(&mirror); // of an earlier start
    let mut child = spawn(config, &mirror)?;
    follow(&mut child, &mirror, config)
}

fn spawn(config: &Config, mirror: &Path) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(config.log_file())
        .with_context(|| format!("cannot open {}", config.log_file().display()))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "-d");
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(arguments).arg("--progress-file").arg(mirror).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: setsid is async-signal-safe and the closure touches nothing else.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
    command.spawn().context("cannot start the daemon")
}

/// Shows the daemon's progress until it is ready or gone.
fn follow(child: &mut Child, mirror: &Path, config: &Config) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(180);
    let mut shown = 0;
    loop {
        let text = fs::read_to_string(mirror).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        for line in text[..whole].lines().skip(shown) {
            shown += 1;
            if line == READY_LINE {
                return Ok(());
            }
            println!("{line}");
        }
        if let Some(status) = child.try_wait().context("cannot wait for the daemon")? {
            bail!("the daemon ended ({status}); the end of {}:\n{}", config.log_file().display(), tail(&config.log_file()));
        }
        if Instant::now() > deadline {
            bail!(
                "the node is not Ready after 180 s; the daemon goes on trying. The end of {}:\n{}",
                config.log_file().display(),
                tail(&config.log_file())
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
