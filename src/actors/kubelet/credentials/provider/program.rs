//! Running a provider's program: the question at its standard input, the answer at its standard output.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::process::Command;

use super::{
    config::ProviderConfig,
    protocol::{self, Response},
};
use crate::kubelet::programs::{self, Limits};

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
        let failed = |why: String, complaint: String| Failure::Process { name: self.name.clone(), image: image.to_owned(), why, complaint };
        let mut command = Command::new(&self.path);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        let limits = Limits { longest: self.longest, answer: LONGEST_ANSWER, complaint: LONGEST_COMPLAINT };
        let ended = programs::run(command, &question, limits).await.map_err(|error| failed(error.to_string(), String::new()))?;
        let ended = ended.ok_or_else(|| failed("context deadline exceeded".into(), String::new()))?;
        if ended.answer.is_cut {
            return Err(failed(format!("its answer is longer than {LONGEST_ANSWER} bytes"), String::new()));
        }
        if let Some(why) = ended.failure() {
            return Err(failed(why, ended.complaint.text()));
        }
        protocol::response(&self.version, &ended.answer.bytes).map_err(Failure::Answer)
    }
}
