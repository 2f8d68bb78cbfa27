//! What a `hostPath` volume says its path is.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use crate::files::{Directory, place_and_name};

/// Makes what may be made, and checks that the path is what the volume says.
///
/// # Errors
/// The reason as an event shows it.
pub fn check(source: &HostPathVolumeSource) -> Result<(), String> {
    let kind = source.type_.as_deref().unwrap_or_default();
    if kind.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| format!("hostPath {}: {error}", source.path);
    let path = Path::new(&source.path);
    let found = match (find(path).map_err(failed)?, kind) {
        (None, "DirectoryOrCreate") => make(path, true).and_then(|()| find(path)).map_err(failed)?,
        (None, "FileOrCreate") => make(path, false).and_then(|()| find(path)).map_err(|error| match error.kind() {
            // Directories above it are not made.
            io::ErrorKind::NotFound => format!("open {}: no such file or directory", source.path),
            _ => failed(error),
        })?,
        (found, _) => found,
    };
    let (holds, wanted) = match kind {
        "Directory" | "DirectoryOrCreate" => (found.is_some_and(|kind| kind.is_dir()), "a directory"),
        "File" | "FileOrCreate" => (found.is_some_and(|kind| kind.is_file()), "a file"),
        "Socket" => (found.is_some_and(|kind| kind.is_socket()), "a socket file"),
        "CharDevice" => (found.is_some_and(|kind| kind.is_char_device()), "a character device"),
        "BlockDevice" => (found.is_some_and(|kind| kind.is_block_device()), "a block device"),
        _ => return Err(format!("hostPath type check failed: unknown type {kind}")),
    };
    if holds { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {wanted}", source.path)) }
}

/// What is at a path, without opening it.
fn find(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) {
        Ok(found) => Ok(Some(found.metadata()?.file_type())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory, with those above it, or an empty file. Nothing that is there by now is touched.
fn make(path: &Path, directory: bool) -> io::Result<()> {
    if directory {
        return make_directories(path);
    }
    let (parent, name) = place_and_name(path)?;
    match Directory::open(parent)?.create(name, 0o644) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes what is missing of a path. Everybody may enter it: this process' own files are private, those of pods are not.
fn make_directories(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    let Some(first) = missing.last().and_then(|path| path.parent()) else { return Ok(()) };
    let mut here = Directory::open(first)?;
    for path in missing.iter().rev() {
        here = here.make_dir(place_and_name(path)?.1, 0o755)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_path_is_made_for_everybody_to_enter() {
        let place = tempfile::tempdir().expect("a directory");
        let source =
            |kind: &str, name: &str| HostPathVolumeSource { path: place.path().join(name).display().to_string(), type_: Some(kind.to_owned()) };
        assert_eq!(check(&source("DirectoryOrCreate", "a/b")), Ok(()));
        assert_eq!(check(&source("FileOrCreate", "a/b/c")), Ok(()));
        let mode = |name: &str| fs::metadata(place.path().join(name)).expect("was made").permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o755, 0o755, 0o644));
        assert!(check(&source("Directory", "d")).is_err(), "nothing is made of what must be there");
        let alone = source("FileOrCreate", "no/such");
        assert_eq!(check(&alone), Err(format!("open {}: no such file or directory", alone.path)));
    }
}
