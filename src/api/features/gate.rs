//! A feature gate.

/// How ripe a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Alpha,
    Beta,
    Stable,
    Deprecated,
}

impl Stage {
    /// As metrics name it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Stable => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

/// What becomes of a feature here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Upstream does not let anybody change it either.
    Locked(bool),
    Always,
    Never,
    /// How upstream does inside what it does anyway: here nothing depends on it, so it may be said.
    Inner(bool),
    /// It is on and off as is said; the value holds where nothing is.
    Switched(bool),
}

/// A feature, its stage and what becomes of it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) name: &'static str,
    pub(super) stage: Stage,
    course: Course,
    /// Admission plugins that do nothing without it.
    pub(super) plugins: &'static [&'static str],
    /// Features without which it cannot be on.
    pub(super) needs: &'static [&'static str],
}

const fn gate(name: &'static str, stage: Stage, course: Course) -> Gate {
    Gate { name, stage, course, plugins: &[], needs: &[] }
}

pub(super) const fn locked(name: &'static str, stage: Stage, on: bool) -> Gate {
    gate(name, stage, Course::Locked(on))
}

pub(super) const fn always(name: &'static str, stage: Stage) -> Gate {
    gate(name, stage, Course::Always)
}

pub(super) const fn never(name: &'static str, stage: Stage) -> Gate {
    gate(name, stage, Course::Never)
}

pub(super) const fn inner(name: &'static str, stage: Stage, on: bool) -> Gate {
    gate(name, stage, Course::Inner(on))
}

pub(super) const fn switched(name: &'static str, stage: Stage, on: bool) -> Gate {
    gate(name, stage, Course::Switched(on))
}

impl Gate {
    pub(super) const fn needing(self, needs: &'static [&'static str]) -> Self {
        Gate { needs, ..self }
    }

    pub(super) const fn with_plugins(self, plugins: &'static [&'static str]) -> Self {
        Gate { plugins, ..self }
    }

    /// Whether it is on where nothing is said.
    pub(super) fn is_on_by_default(&self) -> bool {
        match self.course {
            Course::Always => true,
            Course::Never => false,
            Course::Locked(on) | Course::Inner(on) | Course::Switched(on) => on,
        }
    }

    /// Whether what is said of it, or of its stage, holds.
    pub(super) fn can_change(&self) -> bool {
        matches!(self.course, Course::Inner(_) | Course::Switched(_))
    }

    /// Whether it makes no difference here.
    pub(super) fn is_inner(&self) -> bool {
        matches!(self.course, Course::Inner(_))
    }

    /// Why it cannot have a value: in upstream's words where upstream refuses it, too.
    pub(super) fn refusal(&self, value: bool) -> Option<String> {
        let name = self.name;
        match self.course {
            Course::Locked(on) if on != value => Some(format!("cannot set feature gate {name} to {value}, feature is locked to {on}")),
            Course::Always if !value => Some(format!("cannot set feature gate {name} to false: it is always on here")),
            Course::Never if value => Some(format!("cannot set feature gate {name} to true: there is no such feature here")),
            _ => None,
        }
    }
}
