//! Running a provider's program: the question at its standard input, the answer at its standard output.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{
    config::ProviderConfig,
    protocol::{self, Response},
};

/// Bytes of an answer.
const LONGEST_ANSWER: u64 = 1 << 20;
/// Bytes that are kept of what it complains of.
const LONGEST_COMPLAINT: u64 = 4 << 10;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("error execing credential provider plugin {name} for image {image}: {why}: {complaint}")]
    Process { name: String, image: String, why: String, complaint: String },
    #[error("{0}")]
    Answer(String),
}

impl Failure {
    /// It did not end well, whatever it said.
    pub(super) fn is_of_process(&self) -> bool {
        matches!(self, Failure::Process { .. })
    }
}

/// A program and how it is called.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    path: PathBuf,
    version: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    longest: Duration,
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

impl Program {
    pub(super) fn new(config: &ProviderConfig, bin_dir: &Path, longest: Duration) -> Self {
        Program {
            name: config.name.clone(),
            path: bin_dir.join(&config.name),
            version: config.api_version.clone(),
            args: config.args.clone(),
            env: config.env.clone(),
            longest,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks it. Its environment is this process' with what is configured over it, as upstream.
    ///
    /// # Errors
    /// When it fails, takes too long, or its answer cannot be read or is too long.
    pub(super) async fn run(&self, image: &str, token: &str, annotations: &BTreeMap<String, String>) -> Result<Response, Failure> {
        let question = protocol::request(&self.version, image, token, annotations);
        let failed = |why: String, complaint: &[u8]| Failure::Process {
            name: self.name.clone(),
            image: image.to_owned(),
            why,
            complaint: String::from_utf8_lossy(complaint).into_owned(),
        };
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut running = Running(command.spawn().map_err(|error| failed(error.to_string(), b""))?);
        let outcome = timeout(self.longest, talk(&mut running.0, &question)).await;
        let (answer, complaint, status) = match outcome {
            Err(_) => return Err(failed("context deadline exceeded".into(), b"")),
            Ok(Err(error)) => return Err(failed(error.to_string(), b"")),
            Ok(Ok(ended)) => ended,
        };
        if !status.success() {
            let why = status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"));
            return Err(failed(why, &complaint));
        }
        protocol::response(&self.version, &answer).map_err(Failure::Answer)
    }
}

/// Tells the question and hears answer and complaints until the process has ended.
async fn talk(child: &mut Child, question: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>, ExitStatus)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ask = async move {
        let Some(mut stdin) = stdin else { return };
        // It may answer without listening.
        let _ = stdin.write_all(question).await;
    };
    let ((), answer, complaint, status) = tokio::join!(ask, hear(stdout, LONGEST_ANSWER), hear(stderr, LONGEST_COMPLAINT), child.wait());
    let ((answer, is_whole), (complaint, _)) = (answer?, complaint?);
    if !is_whole {
        return Err(io::Error::other(format!("its answer is longer than {LONGEST_ANSWER} bytes")));
    }
    Ok((answer, complaint, status?))
}

/// So many bytes, and whether that was all. The rest is read and dropped, so that nobody waits to be heard.
async fn hear(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<(Vec<u8>, bool)> {
    let Some(mut pipe) = pipe else { return Ok((Vec::new(), true)) };
    let mut heard = Vec::new();
    (&mut pipe).take(most).read_to_end(&mut heard).await?;
    let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok((heard, rest == 0))
}
