//! What a daemon gives up when it starts: files that others may read, dumps that show its keys, and rights it does not need.
//!
//! Capabilities belong to threads: the functions here that drop them are called before a second one is started.

use std::collections::HashSet;

use anyhow::{Context, Result};
use caps::{CapSet, Capability};
use nix::sys::{
    prctl::{set_dumpable, set_no_new_privs},
    stat::{Mode, umask},
};

use crate::config::Config;

/// Ports below need a capability.
const FIRST_FREE_PORT: u16 = 1024;

/// What a node does itself: mounts, network, other users' files, processes of pods.
const OF_A_NODE: [Capability; 16] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RESOURCE,
];

/// Makes what this process writes its user's alone, and keeps its memory out of dumps and other processes' sight.
pub fn keep_private() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    if let Err(error) = set_dumpable(false) {
        tracing::warn!(%error, "a dump of this process would show its keys");
    }
}

/// Gives a child that makes files for others the usual mask again. Safe between fork and exec.
pub fn write_for_others() {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
}

/// Leaves a control plane the capability to listen where it is told to, and no other, for good.
///
/// # Errors
/// When the kernel refuses.
pub fn confine_control_plane(config: &Config) -> Result<()> {
    let low = [Some(config.api_port), config.component_port].into_iter().flatten().any(|port| port < FIRST_FREE_PORT);
    let kept: HashSet<_> = low.then_some(Capability::CAP_NET_BIND_SERVICE).into_iter().collect();
    set_no_new_privs().context("cannot forbid new privileges")?;
    keep_bounded(&kept).and_then(|()| keep(&kept)).context("cannot drop capabilities")
}

/// Leaves a node what it does itself. Its children get everything again: a containerd of ours gives it to privileged pods.
///
/// # Errors
/// When the kernel refuses.
pub fn confine_node() -> Result<()> {
    keep(&OF_A_NODE.into()).context("cannot drop capabilities")
}

/// Drops all others of the capabilities that this thread has.
fn keep(kept: &HashSet<Capability>) -> Result<()> {
    let left: HashSet<_> = caps::read(None, CapSet::Permitted)?.intersection(kept).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &left)?;
    Ok(caps::set(None, CapSet::Permitted, &left)?)
}

/// Lets no program that is executed from now on get others either, as far as this process may say that.
fn keep_bounded(kept: &HashSet<Capability>) -> Result<()> {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        return Ok(());
    }
    for dropped in caps::read(None, CapSet::Bounding)?.difference(kept) {
        caps::drop(None, CapSet::Bounding, *dropped)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> HashSet<Capability> {
        caps::read(None, CapSet::Permitted).expect("is told")
    }

    #[test]
    fn a_thread_keeps_what_it_is_left_and_cannot_get_more() {
        let dropping = || {
            let before = held();
            confine_node().expect("dropping is allowed");
            assert!(held().is_subset(&OF_A_NODE.into()) && held().is_subset(&before));
            keep(&HashSet::new()).expect("dropping is allowed");
            assert_eq!(held(), HashSet::new());
            assert_eq!(caps::read(None, CapSet::Effective).expect("is told"), HashSet::new());
            assert!(caps::raise(None, CapSet::Permitted, Capability::CAP_CHOWN).is_err());
        };
        std::thread::spawn(dropping).join().expect("as it should be");
    }
}
