//! The signals that end containers (KEP-4960), by the names that the API has for them and the numbers that `runtime.v1` gives them, which are not
//! the kernel's.

/// By number, from 1 on.
#[rustfmt::skip]
const SIGNALS: [&str; 65] = [
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE",
    "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU",
    "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
    "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+2", "SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5", "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8", "SIGRTMIN+9",
    "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15",
    "SIGRTMAX-14", "SIGRTMAX-13", "SIGRTMAX-12", "SIGRTMAX-11", "SIGRTMAX-10", "SIGRTMAX-9", "SIGRTMAX-8", "SIGRTMAX-7", "SIGRTMAX-6", "SIGRTMAX-5",
    "SIGRTMAX-4", "SIGRTMAX-3", "SIGRTMAX-2", "SIGRTMAX-1", "SIGRTMAX",
];

/// The number of a signal; 0, which leaves it to the runtime, for what is none.
pub fn number(name: &str) -> i32 {
    let place = SIGNALS.iter().position(|signal| *signal == name);
    place.and_then(|place| i32::try_from(place + 1).ok()).unwrap_or(0)
}

/// The name of a signal; `None` for 0 and for numbers that are those of none.
pub fn name(number: i32) -> Option<&'static str> {
    SIGNALS.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_a_number_of_its_own_and_the_runtimes() {
        assert!((1..=65).all(|signal| name(signal).is_some_and(|told| number(told) == signal)));
        for (told, expected) in [("SIGTERM", 23), ("SIGUSR1", 29), ("SIGRTMIN", 35), ("SIGRTMIN+15", 50), ("SIGRTMAX-14", 51), ("SIGRTMAX", 65)] {
            assert_eq!(number(told), expected, "{told}");
        }
        assert_eq!((number(""), number("SIGNOPE"), name(0), name(66), name(-1)), (0, 0, None, None, None));
    }
}
