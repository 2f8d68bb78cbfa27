//! Small files that are there whole or not at all, whatever happens meanwhile. Only their owner reads them.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes a file in one step, and waits until it is on disk.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
    make_dir(dir)?;
    let mut draft = name.to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let draft = dir.join(draft);
    let written = write_new(&draft, content).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft); // it may not have been made
    }
    written.and_then(|()| File::open(dir)?.sync_all())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path); // of a process that had this pid and was killed here
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()
}

/// Makes a directory and those above it; what is made is its owner's alone.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes a directory and those above it. Through what is made, and through the directory itself, others may pass to what is theirs, but not see
/// what else is there.
pub fn make_passage(dir: &Path) -> io::Result<()> {
    const PASS: u32 = 0o011;
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        make_passage(above)?;
    }
    make_dir(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & PASS == PASS { Ok(()) } else { fs::set_permissions(dir, Permissions::from_mode(mode | PASS)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_pass_through_a_passage_and_what_was_made_for_it_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let mode = |name: &str| fs::metadata(dir.path().join(name)).expect("is there").permissions().mode() & 0o777;
        make_dir(&dir.path().join("private/old")).expect("makes");
        make_passage(&dir.path().join("private/new/run")).expect("makes");
        make_passage(&dir.path().join("private/old")).expect("is there");
        assert_eq!(["private", "private/new", "private/new/run", "private/old"].map(mode), [0o700, 0o711, 0o711, 0o711]);
    }

    #[test]
    fn a_file_is_replaced_whole_and_read_by_its_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below/file");
        write(&path, b"one").expect("writes");
        write(&path, b"two").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("below")).expect("lists").count(), 1, "no draft is left");
    }
}
