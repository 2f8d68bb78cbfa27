//! The cluster, or the part of one, that a data directory of this machine holds: an instance.
//!
//! Who starts an instance writes down what was given and what is made of it ([`Record`]), before it is made. All other
//! commands read that; so they need no flags again, and touch nothing that is not written there. The record lies in the
//! data directory, in the run directory and in the machine's [`register`], each complete, so that losing one loses nothing.
//!
//! [`claims`] (pure) says what two instances must not share; [`marks`] say in a directory itself whose it is.

pub mod claim;
pub mod claims;
pub mod find;
pub mod kernel;
pub mod lasting;
pub mod marks;
pub mod nodes;
mod pid_file;
mod record;
pub mod register;

pub use self::{
    pid_file::{PidFile, running, stop},
    record::{Daemon, NAME, Record},
};

/// The daemons, as their pid files are called.
pub const UP: &str = "troupe";
pub const CONTROL_PLANE: &str = "troupe-control-plane";
pub const NODE: &str = "troupe-node";
/// Held by a `troupe down` at work.
pub const DOWN: &str = "troupe-down.pid";
pub const DAEMONS: [&str; 3] = [UP, NODE, CONTROL_PLANE];
