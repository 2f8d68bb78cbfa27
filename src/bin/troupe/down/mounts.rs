//! Mounts below a directory: they end before anything there is removed, so that nothing behind them is.

use std::path::Path;

use anyhow::{Context, Result, bail};
use troupe_actors::files::mounts::{mounts_below, unmount, unshare};

use crate::instance::marks::canonical;

const UNREADABLE: &str = "cannot read the mount table";

/// Unmounts everything below a directory, the deepest first, and the directory where the node has bound it over itself. What it lies on stays.
///
/// # Errors
/// When some mounts resist; the others are gone.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    let mut outcome = Ok(());
    let dir = canonical(dir);
    for point in mounts_below(&dir).context(UNREADABLE)?.into_iter().filter(|point| *point != dir) {
        if let Err(error) = unmount(&point) {
            outcome = Err(error).with_context(|| format!("cannot unmount {}", point.display()));
        }
    }
    outcome?;
    unshare(&dir).with_context(|| format!("cannot unmount {}", dir.display()))
}

/// Refuses a path where something is mounted, or below it: who mounted that there means to keep it.
///
/// # Errors
/// When something is.
pub(super) fn refuse_mounts(path: &Path) -> Result<()> {
    let mounted = mounts_below(path).context(UNREADABLE)?;
    mounted.last().map_or(Ok(()), |point| bail!("{} is mounted", point.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_mounts_at_or_below_it_is_refused() {
        assert!(refuse_mounts(Path::new("/proc/self")).is_ok());
        assert!(refuse_mounts(Path::new("/proc")).is_err() && refuse_mounts(Path::new("/")).is_err());
        assert!(refuse_mounts(Path::new("/nowhere/at/all")).is_ok());
    }
}
