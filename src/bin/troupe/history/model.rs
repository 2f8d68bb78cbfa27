//! A start and its end.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// One start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    pub at: String,
    pub pid: i32,
    /// The machine's boot.
    pub boot: String,
    /// The API server alone.
    #[serde(default)]
    pub safe: bool,
    /// How many processes of its cgroup had been killed for memory before.
    #[serde(default)]
    pub memory_kills: Option<MemoryKills>,
    #[serde(default)]
    pub end: Option<Ended>,
}

/// The end of a start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ended {
    /// When it was, or else when it was noticed.
    pub at: String,
    pub how: How,
}

/// What a process ended by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", tag = "by", content = "why")]
pub enum How {
    /// A signal to stop, in good order.
    Stopped,
    /// An error that it told.
    Failed(String),
    /// A panic or a fatal signal, with its last words.
    Fatal(String),
    /// The kernel, for memory.
    OutOfMemory,
    /// Nothing tells of it: somebody's SIGKILL.
    Killed,
    /// The machine stopped under it.
    MachineStopped,
}

impl How {
    /// It ended by what it did itself, and may do so again.
    pub fn is_a_crash(&self) -> bool {
        matches!(self, How::Failed(_) | How::Fatal(_) | How::OutOfMemory)
    }

    /// It is known only since somebody noticed it.
    pub fn leaves_no_time(&self) -> bool {
        matches!(self, How::OutOfMemory | How::Killed | How::MachineStopped)
    }

    /// It did not end in good order.
    pub fn is_unclean(&self) -> bool {
        self.is_a_crash() || *self == How::Killed
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Stopped => f.write_str("stopped in good order"),
            How::Failed(why) => write!(f, "ended with an error: {why}"),
            How::Fatal(line) => write!(f, "died: {line}"),
            How::OutOfMemory => f.write_str("killed by the kernel for memory: its memory cgroup, or the machine, has too little"),
            How::Killed => f.write_str("killed (SIGKILL) by nobody who left word"),
            How::MachineStopped => f.write_str("ended with the machine"),
        }
    }
}

/// How many processes of a cgroup the kernel has killed for memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MemoryKills {
    pub(super) file: PathBuf,
    pub(super) count: u64,
}
