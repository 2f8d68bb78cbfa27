//! How many files and connections this program may have open.

/// Takes as many as the machine's administrator lets it have. The lower limit that processes start with protects programs
/// which use `select`; a server runs out of it with a few hundred clients.
pub fn take_all() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one such structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 || limit.rlim_cur == limit.rlim_max {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one such structure.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the limit of open files stays");
    }
}

/// Gives the program that is about to be started in this process so many, or what it may have. For use between fork and exec.
pub fn raise_to(most: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one such structure, and the calls are async-signal-safe.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return;
        }
        let raised = libc::rlimit { rlim_cur: most.max(limit.rlim_max), rlim_max: most.max(limit.rlim_max) };
        // Beyond the hard limit only the administrator may go.
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) != 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_file_that_is_allowed_is_left() {
        super::take_all();
        let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux tells");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is told");
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1]);
    }
}
