//! Files and directories that somebody else may change at any time: what pods wrote, and logs beside which pods may write.
//!
//! Nothing here checks a path and uses it afterwards. A name is looked up once, by descriptor, and what was opened is what is read,
//! changed, mounted or removed. Links that others made lead nowhere, other file systems are not entered, devices and pipes are not
//! opened, and trees are walked by loops that hold few descriptors, however deep they are.

pub mod directory;
pub mod grant;
pub mod mounts;
pub mod remove;
#[cfg(test)]
mod tests;
pub mod usage;

pub use directory::{Directory, open_directory_of_container, open_file_of_container, place_and_name};
pub use remove::{remove_tree, remove_tree_blocking};
pub use usage::{DiskUse, Tally, count_tree};

/// Runs blocking file work off the arbiters.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
