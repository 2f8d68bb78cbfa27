//! What this program asks of the kernel about its memory.

use std::{fs, io, ops::Range, thread, time::Duration};

use nix::sys::prctl::set_thp_disable;

/// After so long caches are full that were filled at the start, and what was taken for that is free again.
const FILLED: Duration = Duration::from_secs(4);
/// After so long a daemon has started and does what it will do from then on.
const STARTED: Duration = Duration::from_secs(8);

unsafe extern "C" {
    /// The allocator's: gives the kernel back what is free, everywhere in the process. `force` does not wait until it has been so for a while.
    fn mi_collect(force: bool);
}

/// Takes memory in small pages only. The allocator asks for huge ones, and of what they hold the daemon at rest uses a third.
pub fn refuse_huge_pages() {
    if let Err(error) = set_thp_disable(true) {
        tracing::debug!(%error, "the kernel may still give huge pages");
    }
}

/// Has the kernel kill any pod before this process when the machine's memory is short, as upstream's kubelet does, and before
/// its children, until these say otherwise. Where that is not allowed, the kubelet makes pods less safe instead.
pub fn be_killed_last() {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-999") {
        tracing::debug!(%error, "this process is killed for memory as readily as others");
    }
}

/// Lets a child that lives a life of its own, and pods in it, have huge pages again. Safe between fork and exec.
///
/// # Errors
/// When the kernel knows no such setting.
pub fn allow_huge_pages() -> std::io::Result<()> {
    Ok(set_thp_disable(false)?)
}

/// Gives back what only the start needed, when it is over: free memory, which the allocator keeps until somebody frees more, and the pages of this
/// program's code and constants. Where these are used the kernel maps them again, out of its page cache.
pub fn forget_startup_soon() {
    let forget = || {
        thread::sleep(FILLED);
        give_back();
        thread::sleep(STARTED.saturating_sub(FILLED));
        give_back();
        if let Err(error) = forget_code() {
            tracing::debug!(%error, "the code of the start stays mapped");
        }
    };
    if let Err(error) = thread::Builder::new().name("forget-startup".into()).spawn(forget) {
        tracing::debug!(%error, "the code of the start stays mapped");
    }
}

fn give_back() {
    // The allocator does nothing for a thread that has not taken anything yet.
    drop(std::hint::black_box(Box::new(0_u8)));
    // SAFETY: it may be called at any time by any thread.
    unsafe { mi_collect(true) }
}

fn forget_code() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    for pages in pages_of(&fs::read_to_string("/proc/self/smaps")?, &program.to_string_lossy()) {
        // SAFETY: nothing was ever written to these pages and nothing can be, so that the file has all that they have.
        if unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(pages.start), pages.len(), libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Where a process (proc_pid_smaps(5)) has pages of a file that nobody may write and nobody has written: what the dynamic
/// linker relocated and then locked is the process's own, and lost when it is unmapped.
fn pages_of(smaps: &str, program: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            found.extend(mapping.take().filter(|_| anonymous.trim() == "0 kB"));
        } else if let Some(range) = mapped(line, program) {
            mapping = Some(range);
        }
    }
    found
}

/// The range in the first line about a mapping, if it is one of `program` without the right to write.
fn mapped(line: &str, program: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    (matches!(rights, "r-xp" | "r--p") && path == program).then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_program_never_wrote_is_forgotten() {
        let mapping = |line: &str, anonymous: u32| format!("{line}\nSize: 4 kB\nRss: 4 kB\nAnonymous: {anonymous} kB\nTHPeligible: 0\n");
        let smaps = [
            mapping("1000-2000 r--p 00000000 fe:00 7 /bin/p", 0),
            mapping("2000-5000 r-xp 00001000 fe:00 7 /bin/p", 0),
            mapping("5000-6000 r--p 00004000 fe:00 7 /bin/p", 4),
            mapping("6000-7000 rw-p 00005000 fe:00 7 /bin/p", 0),
            mapping("7000-8000 r-xp 00000000 fe:00 8 /lib/c.so", 0),
            mapping("9000-a000 r-xp 00000000 00:00 0 [vdso]", 0),
        ];
        assert_eq!(pages_of(&smaps.concat(), "/bin/p"), [0x1000..0x2000, 0x2000..0x5000]);
        assert!(pages_of(&smaps.concat(), "/bin/q").is_empty());
        forget_code().expect("the kernel allows");
    }

    #[test]
    fn memory_that_is_free_is_given_back() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/statm").expect("procfs is there");
            text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("its second field is a number")
        };
        let taken: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1; 4096]).collect();
        let before = resident();
        drop(taken);
        give_back();
        assert!(resident() + 8192 < before, "64 MiB are free of {before} pages, {} are left", resident());
    }

    #[test]
    fn a_child_may_have_what_its_parent_refuses() {
        let disabled = || nix::sys::prctl::get_thp_disable().expect("Linux tells");
        refuse_huge_pages();
        assert!(disabled());
        allow_huge_pages().expect("Linux allows");
        assert!(!disabled());
    }
}
