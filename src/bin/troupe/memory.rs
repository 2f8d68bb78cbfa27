//! What this program asks of the kernel about its memory.

use nix::sys::prctl::set_thp_disable;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_may_have_what_its_parent_refuses() {
        let disabled = || nix::sys::prctl::get_thp_disable().expect("Linux tells");
        refuse_huge_pages();
        assert!(disabled());
        allow_huge_pages().expect("Linux allows");
        assert!(!disabled());
    }
}
