//! The machine's register of instances: a copy of each one's record in one place, where others find it.
//!
//! It lies in memory (`/run`) and ends with the boot, as all does that instances could collide in.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Record, kernel};
use crate::durable;

const DIR: &str = "/run/troupe-instances";

/// The record of an instance.
pub fn file(id: &str) -> PathBuf {
    Path::new(DIR).join(format!("{id}.json"))
}

/// Keeps others from registering until it is dropped.
///
/// # Errors
/// When the register cannot be written.
pub fn lock() -> Result<File> {
    durable::make_dir(Path::new(DIR)).and_then(|()| kernel::lock(&Path::new(DIR).join("lock"))).with_context(|| format!("cannot lock {DIR}"))
}

/// All registered instances that still have a record of their own, or something in the kernel. Others' directories were removed
/// by hand: they are forgotten. Who cannot be read is told and left out.
pub fn all() -> Vec<Record> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    let boot = kernel::boot().unwrap_or_default();
    let mut found = Vec::new();
    for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        match Record::read_file(&path) {
            Ok(Some(record)) if has_own(&record) || record.lives(&boot) => found.push(record),
            Ok(_) => {
                let _ = fs::remove_file(&path); // somebody else may have done so
            }
            Err(error) => eprintln!("! {error:#}"),
        }
    }
    found
}

/// Whether an instance has its own copy: its directories may have been removed by hand.
fn has_own(record: &Record) -> bool {
    let own = |dir: &Path| Record::read(dir).ok().flatten().is_some_and(|own| own.id == record.id);
    own(&record.data_dir) || own(&record.run_dir)
}

/// Other instances of which something lives.
pub fn neighbours(id: &str) -> Vec<Record> {
    let boot = kernel::boot().unwrap_or_default();
    all().into_iter().filter(|record| record.id != id && record.lives(&boot)).collect()
}

/// Takes an instance out.
///
/// # Errors
/// When its record cannot be removed.
pub fn remove(id: &str) -> std::io::Result<()> {
    match fs::remove_file(file(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
