//! Who may use the files of a volume: the pod's `fsGroup`. It is set when a volume is made, before anybody else can write there, and
//! by descriptor. Only volumes of claims outlive pods: their trees are given to the group when a pod begins to use them.

use std::io;

use crate::files::Directory;

const SETGID: u32 = 0o2000;

/// The mode of a written file: the group may read it where there is one.
pub fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

/// The mode of a directory of a written volume: what is made in it belongs to the group, too.
pub fn directory_mode(group: Option<u32>) -> u32 {
    if group.is_some() { 0o775 | SETGID } else { 0o755 }
}

/// Gives a directory that is new a mode and, where there is one, a group.
pub fn own_directory(directory: &Directory, mode: u32, group: Option<u32>) -> io::Result<()> {
    if group.is_some() {
        directory.set_owner(None, group)?;
    }
    // After the owner: changing that may take set-group-id away.
    directory.set_mode(mode)
}

/// The mode of a volume that containers write into.
pub fn shared_mode(group: Option<u32>) -> u32 {
    if group.is_some() { 0o777 | SETGID } else { 0o777 }
}
