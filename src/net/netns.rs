//! Network namespaces: work inside another one on a thread of its own, and those with names, as `ip netns` makes them.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where namespaces with names are.
const NAMED: &str = "/run/netns";

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

/// The file that leads to a namespace with a name.
pub fn path(name: &str) -> PathBuf {
    Path::new(NAMED).join(name)
}

/// Whether a namespace of this name can be entered. A file that leads nowhere is none.
pub fn exists(name: &str) -> bool {
    run(&path(name), || ()).is_ok()
}

/// Makes a namespace with a name, unless there is one. True when it is new.
pub fn create(name: &str) -> io::Result<bool> {
    if exists(name) {
        return Ok(false);
    }
    share_names()?;
    let place = path(name);
    let _ = fs::remove_file(&place); // somebody was killed before the namespace was there
    File::options().write(true).create_new(true).open(&place)?;
    let made = thread::scope(|scope| {
        let make = || -> io::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(mount(Some("/proc/thread-self/ns/net"), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        };
        scope.spawn(make).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if made.is_err() {
        let _ = fs::remove_file(&place); // it leads nowhere
    }
    made.map(|()| true)
}

/// Takes a namespace its name; it ends with the last process inside. One that is gone is no failure.
pub fn delete(name: &str) -> io::Result<()> {
    let place = path(name);
    // Not mounted: somebody was killed before it was.
    let _ = umount2(&place, MntFlags::MNT_DETACH);
    match fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Names that are given and taken here are so in all mount namespaces, as `ip netns` has it.
fn share_names() -> io::Result<()> {
    fs::create_dir_all(NAMED)?;
    let share = || mount(None::<&str>, NAMED, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_ok() {
        return Ok(());
    }
    mount(Some(NAMED), NAMED, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(share()?)
}
