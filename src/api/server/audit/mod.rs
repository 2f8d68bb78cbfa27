//! Audit: who asked for what, and what came of it, as lines of `audit.k8s.io/v1` events.
//!
//! A request is judged by the [`Policy`] once. What it is and what is answered travels as shared bytes through a bounded
//! queue to one thread, which encodes, writes and rotates. A full queue makes requests wait: nothing is lost.

mod event;
mod log;
mod policy;
mod sink;
mod webhook;

pub use event::{Content, Event, ObjectReference};
pub use log::{LogFile, LogOptions};
pub use policy::{Level, Policy, PolicyError, Stage, Subject, Verdict};
pub use sink::{AuditLog, Backends, Mode, Modes, Record};
pub use webhook::{BatchOptions, Batches, COLLECTORS, Throttle};
