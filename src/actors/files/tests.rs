use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{
    Directory, InPlace, blocking, directory::proc_path, in_background, open_file_of_container, remove_tree, remove_tree_below, remove_tree_blocking,
};

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Makes directories each in the one before, deeper than any path can name.
fn nest(root: &Path, name: &str, levels: usize) {
    let mut here = Directory::open(root).expect("opens");
    for _ in 0..levels {
        here = here.make_dir(name, 0o755).expect("makes");
    }
    here.create("leaf", 0o600).expect("makes");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("reads").count()
}

#[test]
fn a_tree_deeper_than_stack_and_descriptors_goes() {
    let place = place();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).expect("makes");
    nest(&tree, "d", 20_000);
    nest(&tree, &"long".repeat(60), 500);
    // A small stack shows recursion that a large one would hide.
    let work = std::thread::Builder::new().stack_size(128 << 10).spawn(move || remove_tree_blocking(&tree)).expect("starts");
    work.join().expect("no overflow").expect("removes");
    assert_eq!(fs::read_dir(place.path()).expect("reads").count(), 0);
}

#[tokio::test]
async fn a_wide_tree_goes_in_slices_with_few_descriptors() {
    let place = place();
    let tree = place.path().join("tree");
    for part in 0..10 {
        let part = tree.join(format!("part-{part}"));
        fs::create_dir_all(&part).expect("makes");
        (0..1_000).for_each(|file| drop(fs::write(part.join(file.to_string()), "")));
    }
    let most = Arc::new(AtomicBool::new(false));
    let (watched, before) = (most.clone(), descriptors());
    let watch = tokio::spawn(async move {
        loop {
            // Other tests of this process have some open, too.
            watched.fetch_or(descriptors() > before + 500, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    remove_tree(&tree).await.expect("removes");
    watch.abort();
    assert!(!tree.exists() && !most.load(Ordering::Relaxed));
    remove_tree(&tree).await.expect("what is gone is gone");
    remove_tree(&tree.join("below")).await.expect("so is what was in it");
}

#[test]
fn links_are_removed_and_what_they_lead_to_stays() {
    let place = place();
    let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
    fs::create_dir_all(tree.join("a")).expect("makes");
    fs::create_dir(&outside).expect("makes");
    fs::write(outside.join("kept"), "").expect("writes");
    symlink(&outside, tree.join("a/link")).expect("links");
    symlink("..", tree.join("a/up")).expect("links");
    mkfifo(&tree.join("a/pipe"), Mode::S_IRWXU).expect("makes");
    remove_tree_blocking(&tree).expect("removes");
    assert!(!tree.exists() && outside.join("kept").exists());
    symlink(&outside, &tree).expect("links");
    remove_tree_blocking(&tree).expect("removes the link alone");
    assert!(tree.symlink_metadata().is_err() && outside.join("kept").exists());
}

#[tokio::test]
async fn below_a_directory_no_link_leads_to_what_is_removed() {
    let place = place();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    for made in [root.join("a/b/c"), root.join("a/kept"), outside.join("kept")] {
        fs::create_dir_all(made).expect("makes");
    }
    symlink(&outside, root.join("link")).expect("links");
    let remove = |path: &'static str| remove_tree_below(&root, Path::new(path));
    remove("a/b").await.expect("removes");
    remove("a/b/c/d").await.expect("what is gone is gone");
    assert!(!root.join("a/b").exists() && root.join("a/kept").exists());
    remove("link/kept").await.expect_err("not through the link");
    remove("link").await.expect("the link itself");
    for odd in ["", "/a", "..", "../outside", "a/../../outside", "a/.."] {
        assert_eq!(remove(odd).await.expect_err("is refused").kind(), std::io::ErrorKind::InvalidInput, "{odd:?}");
    }
    assert!(outside.join("kept").exists() && root.join("a").exists() && !root.join("link").exists());
    remove("a/").await.expect("a directory in the root");
    assert!(!root.join("a").exists());
}

#[test]
fn an_interrupted_removal_goes_on() {
    let place = place();
    let tree = place.path().join("tree");
    fs::create_dir_all(tree.join(".removed-1/d")).expect("makes");
    fs::write(tree.join(".removed-2"), "").expect("writes");
    nest(&tree, "d", 200);
    remove_tree_blocking(&tree).expect("removes");
    assert!(!tree.exists());
}

#[test]
fn somebody_who_exchanges_directories_for_links_leads_nobody_out() {
    let place = place();
    let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
    fs::create_dir_all(outside.join("a")).expect("makes");
    fs::write(outside.join("a/kept"), "").expect("writes");
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, root, target) = (stop.clone(), tree.clone(), outside.clone());
    let attacker = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            // Each fails when the removal was faster.
            let _ = fs::create_dir_all(root.join("x/a"));
            let _ = fs::rename(root.join("x"), root.join("y"));
            let _ = symlink(&target, root.join("x"));
            let _ = fs::remove_file(root.join("x"));
            let _ = fs::rename(root.join("y"), root.join("x"));
        }
    });
    for _ in 0..300 {
        // The other one may have made it, and the removal may find no end while somebody writes.
        let _ = fs::create_dir_all(tree.join("x/a"));
        let _ = remove_tree_blocking(&tree);
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().expect("ends");
    assert!(outside.join("a/kept").exists());
    remove_tree_blocking(&tree).expect("removes");
}

#[test]
fn only_regular_files_are_read_and_through_no_link() {
    let place = place();
    let folder = place.path().join("pod/c");
    fs::create_dir_all(&folder).expect("makes");
    fs::write(folder.join("0.log"), "text").expect("writes");
    mkfifo(&folder.join("1.log"), Mode::S_IRWXU).expect("makes");
    symlink("/etc/passwd", folder.join("2.log")).expect("links");
    symlink("/etc", place.path().join("pod/evil")).expect("links");
    assert!(open_file_of_container(&folder.join("0.log")).is_ok());
    for path in ["pod/c/1.log", "pod/c/2.log", "pod/evil/passwd", "pod/c"] {
        assert!(open_file_of_container(&place.path().join(path)).is_err(), "{path}");
    }
}

#[test]
fn names_are_names_and_what_is_made_is_new_and_private() {
    let place = place();
    let directory = Directory::open(place.path()).expect("opens");
    for name in ["..", ".", "a/b", "/a", "", "a/"] {
        assert!(directory.make_dir(name, 0o700).is_err(), "{name}");
        assert!(directory.remove_file(name).is_err(), "{name}");
    }
    fs::write(place.path().join("theirs"), "").expect("writes");
    symlink("theirs", place.path().join("link")).expect("links");
    assert!(directory.create("theirs", 0o600).is_err() && directory.create("link", 0o600).is_err());
    assert!(directory.overwrite("link", 0o600).is_err());
    let file = directory.create("ours", 0o600).expect("makes");
    assert_eq!(file.metadata().expect("is there").permissions().mode() & 0o7777, 0o600);
    assert!(proc_path(&directory).join("ours").exists());
}

#[tokio::test]
async fn work_is_done_in_place_for_as_long_as_somebody_wants_that() {
    let here = std::thread::current().id();
    let place = InPlace::begin();
    assert_eq!(blocking(|| std::thread::current().id()).await, here);
    drop(place);
    assert_ne!(blocking(|| std::thread::current().id()).await, here);
}

#[tokio::test]
async fn work_in_the_background_gets_less_of_the_machine() {
    // SAFETY: the call takes numbers alone.
    let priority = || (std::thread::current().name().map(str::to_owned), unsafe { libc::getpriority(0, 0) });
    let before = priority().1;
    let (name, there) = in_background("background", priority).await;
    assert_eq!(name.as_deref(), Some("background"));
    assert!(there >= 10, "{there}");
    assert_eq!(priority().1, before, "nobody else gets less");
}
