//! Programs of others that the node runs: what they are told at their standard input, what they answer and complain of, and their end when they
//! take too long.

use std::{
    io,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

/// How long the last words of a program that has ended may take to come: a helper that stays behind may keep its pipes open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub longest: Duration,
    /// Bytes of its answer that are kept.
    pub answer: u64,
    /// Bytes of its complaints that are kept.
    pub complaint: u64,
}

/// A program that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub answer: Heard,
    pub complaint: Heard,
}

impl Ended {
    /// How it failed; `None` where it did not.
    pub fn failure(&self) -> Option<String> {
        let how = || self.status.code().map_or_else(|| self.status.to_string(), |code| format!("exit status {code}"));
        (!self.status.success()).then(how)
    }
}

/// What a program wrote.
#[derive(Debug, Default)]
pub struct Heard {
    pub bytes: Vec<u8>,
    /// There was more than is kept.
    pub is_cut: bool,
}

impl Heard {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Keeps so many bytes. The rest is read and dropped, so that nobody waits to be heard.
    async fn hear(&mut self, pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<()> {
        let Some(mut pipe) = pipe else { return Ok(()) };
        (&mut pipe).take(most).read_to_end(&mut self.bytes).await?;
        self.is_cut = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await? > 0;
        Ok(())
    }
}

/// A process with all that it started, which end with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has an id until it was waited for.
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // Nobody may be left.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Runs a program until it ends; `None` when that takes too long: then it is ended with all that it has started. What one that ends by itself leaves
/// running runs on.
///
/// # Errors
/// When it cannot be started, or its words cannot be read.
pub async fn run(mut command: Command, question: &[u8], limits: Limits) -> io::Result<Option<Ended>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut running = Running(command.spawn()?);
    match timeout(limits.longest, talk(&mut running.0, question, limits)).await {
        Ok(ended) => ended.map(Some),
        Err(_) => Ok(None),
    }
}

/// Tells the question and hears answer and complaints until the process has ended.
async fn talk(child: &mut Child, question: &[u8], limits: Limits) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut answer, mut complaint) = (Heard::default(), Heard::default());
    let status = {
        let ask = async move {
            let Some(mut stdin) = stdin else { return };
            // It may answer without listening.
            let _ = stdin.write_all(question).await;
        };
        let hearing = async {
            let ((), answered, complained) = tokio::join!(ask, answer.hear(stdout, limits.answer), complaint.hear(stderr, limits.complaint));
            answered.and(complained)
        };
        let mut hearing = pin!(hearing);
        tokio::select! {
            heard = &mut hearing => {
                heard?;
                child.wait().await?
            }
            status = child.wait() => {
                if let Ok(heard) = timeout(LAST_WORDS, hearing).await {
                    heard?;
                }
                status?
            }
        }
    };
    Ok(Ended { status, answer, complaint })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::signal::kill;

    use super::*;

    const LIMITS: Limits = Limits { longest: Duration::from_secs(60), answer: 100, complaint: 10 };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn lives(pid: i32) -> bool {
        // One that nobody has waited for yet has ended all the same.
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !status.is_empty() && !status.contains(") Z ")
    }

    #[tokio::test]
    async fn what_a_program_says_is_kept_as_far_as_there_is_room() {
        let ended = run(shell("cat; echo 0123456789abcdef >&2; exit 3"), b"question", LIMITS).await.expect("runs").expect("ends");
        assert_eq!((ended.answer.text(), ended.answer.is_cut), ("question".into(), false));
        assert_eq!((ended.complaint.text(), ended.complaint.is_cut), ("0123456789".into(), true));
        assert_eq!(ended.failure().as_deref(), Some("exit status 3"));
        assert!(run(shell("exit 0"), b"", LIMITS).await.expect("runs").expect("ends").failure().is_none());
        assert!(run(Command::new("/nonexistent"), b"", LIMITS).await.is_err());
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let place = tempfile::tempdir().expect("a directory");
        let noted = place.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", noted.display());
        let limits = Limits { longest: Duration::from_secs(2), ..LIMITS };
        assert!(run(shell(&script), b"", limits).await.expect("runs").is_none());
        let pid: i32 = std::fs::read_to_string(&noted).expect("noted").trim().parse().expect("a number");
        let until = Instant::now() + Duration::from_secs(10);
        while lives(pid) {
            assert!(Instant::now() < until, "it lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_stays_behind_holds_nobody_up_and_runs_on() {
        let began = Instant::now();
        let ended = run(shell("sleep 60 & echo $!"), b"", LIMITS).await.expect("runs").expect("ends");
        assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
        let pid: i32 = ended.answer.text().trim().parse().expect("a number");
        assert!(lives(pid));
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("is ended");
    }
}
