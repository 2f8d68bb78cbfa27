//! A pod's worker: it brings one pod from spec to running containers, keeps it so, and takes it down.
//!
//! In: the pod's versions from the API, changes at the runtime, probe results, time. Out: CRI calls, files and mounts,
//! the pod's status, events. [`plan`] decides, [`apply`] does, [`machine`] remembers, the shell passes messages.

pub mod apply;
pub mod backoff;
pub mod ephemeral;
mod init;
pub mod logs;
pub mod machine;
mod news;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod resize;
pub mod restarts;
pub mod shell;
mod stop;
mod termination_messages;
#[cfg(test)]
mod tests;
