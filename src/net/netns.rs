//! Work inside another network namespace, on a thread of its own.

use std::{fs::File, io, path::Path, thread};

use nix::sched::{CloneFlags, setns};

/// Runs `work` in the network namespace at `path`. Processes it starts are inside, too; the calling thread stays where it is.
pub fn run<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || -> io::Result<T> {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
