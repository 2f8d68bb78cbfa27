//! What this program asks of the kernel about its memory.

use std::{fs, io, ops::Range, thread, time::Duration};

use nix::sys::prctl::set_thp_disable;

/// After so long a daemon has started and does what it will do from then on.
const STARTED: Duration = Duration::from_secs(8);

/// Takes memory in small pages only. The allocator asks for huge ones, and of what they hold the daemon at rest uses a third.
pub fn refuse_huge_pages() {
    if let Err(error) = set_thp_disable(true) {
        tracing::debug!(%error, "the kernel may still give huge pages");
    }
}

/// Lets a child that lives a life of its own, and pods in it, have huge pages again. Safe between fork and exec.
///
/// # Errors
/// When the kernel knows no such setting.
pub fn allow_huge_pages() -> std::io::Result<()> {
    Ok(set_thp_disable(false)?)
}

/// Unmaps this program's code once, when the start is over: most of what was mapped only the start needed. Where code is
/// used the kernel maps it again, out of its page cache.
pub fn forget_startup_code_soon() {
    let forget = || {
        thread::sleep(STARTED);
        if let Err(error) = forget_code() {
            tracing::debug!(%error, "the code of the start stays mapped");
        }
    };
    if let Err(error) = thread::Builder::new().name("forget-startup".into()).spawn(forget) {
        tracing::debug!(%error, "the code of the start stays mapped");
    }
}

fn forget_code() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    for code in code_of(&fs::read_to_string("/proc/self/maps")?, &program.to_string_lossy()) {
        // SAFETY: these pages are never written, so that the file still has all that they had.
        if unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(code.start), code.len(), libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Where a process's map (proc_pid_maps(5)) has executable pages of a file that nobody may write.
fn code_of(maps: &str, program: &str) -> Vec<Range<usize>> {
    let code = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (rights == "r-xp" && path == program).then_some(address(start)?..address(end)?)
    });
    code.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself_is_forgotten() {
        let maps = "1000-2000 r--p 00000000 fe:00 7 /bin/p\n2000-5000 r-xp 00001000 fe:00 7 /bin/p\n5000-6000 rw-p 00004000 fe:00 7 /bin/p\n\
            7000-8000 r-xp 00000000 fe:00 8 /lib/c.so\n9000-a000 r-xp 00000000 00:00 0 [vdso]\n";
        assert!(code_of(maps, "/bin/p") == vec![Range { start: 0x2000, end: 0x5000 }]);
        forget_code().expect("the kernel allows");
        assert!(code_of(maps, "/bin/q").is_empty());
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
