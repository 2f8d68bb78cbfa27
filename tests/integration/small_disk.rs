//! A disk that is easily filled.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statvfs::statvfs,
};

/// A small file system, gone when dropped: keep it shorter than the cluster on it.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// At a place that is made where it is missing.
    pub fn at(path: PathBuf, mib: u64) -> Self {
        fs::create_dir_all(&path).expect("a mount point");
        let options = format!("size={mib}m,mode=700");
        mount(Some("small"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("root may mount");
        SmallDisk { path }
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// The bytes that are free.
    pub fn free(&self) -> u64 {
        let stat = statvfs(&self.path).expect("asks");
        stat.blocks_available() * stat.fragment_size()
    }

    /// Fills it but for `left` bytes.
    pub fn fill(&self, left: u64) {
        let filler = File::options().create(true).append(true).open(self.filler()).expect("creates");
        loop {
            let excess = self.free().saturating_sub(left);
            if excess == 0 {
                return;
            }
            let length = filler.metadata().expect("asks").len();
            match fallocate(&filler, FallocateFlags::empty(), length.cast_signed(), excess.cast_signed()) {
                // Somebody else was faster.
                Ok(()) | Err(Errno::ENOSPC | Errno::EINTR) => {}
                Err(error) => panic!("cannot fill the disk: {error}"),
            }
        }
    }

    /// Takes away what filled it.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: somebody may still use it. A kubelet may have mounted its directory once more over itself.
        let mut ended = umount2(&self.path, MntFlags::MNT_DETACH);
        while ended.is_ok() {
            ended = umount2(&self.path, MntFlags::MNT_DETACH);
        }
        if let Err(error) = ended
            && error != Errno::EINVAL
        {
            eprintln!("{} is not unmounted: {error}", self.path.display());
        }
        // What was below it has gone with it; where more is, others remove it.
        let _ = fs::remove_dir(&self.path);
    }
}
