//! What a removal could not remove, and why. It goes on past a failure and tells all of them in the end.

use anyhow::{Error, Result, bail};

/// What is left so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    left: Vec<String>,
}

impl Report {
    /// The value of a step, or its failure noted.
    pub(super) fn attempt<T>(&mut self, step: Result<T>) -> Option<T> {
        step.map_err(|error| self.failed(&error)).ok()
    }

    pub(super) fn failed(&mut self, error: &Error) {
        self.left(format!("{error:#}"));
    }

    /// Something that stays, and why.
    pub(super) fn left(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("  ✘ {what}");
        self.left.push(what);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.left.is_empty()
    }

    /// # Errors
    /// When something is left.
    pub(super) fn end(self) -> Result<()> {
        match self.left.len() {
            0 => Ok(()),
            1 => bail!("something is left ({}): mend that and run troupe down again, it goes on where it stopped", self.left[0]),
            count => bail!("{count} things are left, each told above: mend them and run troupe down again, it goes on where it stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_failures_are_told_and_make_the_whole_fail() {
        let mut report = Report::default();
        assert_eq!(report.attempt(Ok(7)), Some(7));
        assert!(report.is_clean());
        assert_eq!(report.attempt::<()>(Err(anyhow::anyhow!("busy").context("the cgroup a"))), None);
        let one = Report { left: report.left.clone() }.end().expect_err("something is left").to_string();
        assert!(one.contains("the cgroup a: busy"), "{one}");
        report.left("more");
        assert!(report.end().expect_err("two things are left").to_string().starts_with("2 things"));
    }
}
