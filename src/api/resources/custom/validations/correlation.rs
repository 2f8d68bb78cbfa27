//! Which part of an old object a part of a new one stands for (`k8s.io/apiserver/pkg/cel/common/equality.go`).

use serde_json::{Map, Value};

/// A value beside the old one.
#[derive(Clone, Copy)]
enum Pair<'a> {
    Objects(&'a Map<String, Value>, &'a Map<String, Value>),
    Values(&'a Value, &'a Value),
}

type Fields<'a> = &'a Map<String, Value>;

impl<'a> Pair<'a> {
    fn is_same(self) -> bool {
        match self {
            Pair::Objects(new, old) => new == old,
            Pair::Values(new, old) => new == old,
        }
    }

    fn fields(self) -> Option<(Fields<'a>, Fields<'a>)> {
        match self {
            Pair::Objects(new, old) => Some((new, old)),
            Pair::Values(new, old) => Some((new.as_object()?, old.as_object()?)),
        }
    }
}

/// What a place stands for in the old object, or the nearest place around it that stands for something.
#[derive(Clone, Copy, Default)]
pub(super) struct Correlation<'a> {
    current: Option<Pair<'a>>,
    nearest: Option<Pair<'a>>,
}

impl<'a> Correlation<'a> {
    /// Of a whole object.
    pub fn root(new: &'a Map<String, Value>, old: Option<&'a Map<String, Value>>) -> Self {
        Correlation { current: old.map(|old| Pair::Objects(new, old)), nearest: None }
    }

    /// Whether nothing changed here: what was wrong may stay wrong.
    pub fn is_unchanged(self) -> bool {
        self.current.or(self.nearest).is_some_and(Pair::is_same)
    }

    /// Within `allOf` only what stands around it counts.
    pub fn within_all_of(self) -> Self {
        Correlation { current: None, nearest: self.nearest }
    }

    /// A field of an object, or an entry of a map.
    pub fn key(self, name: &str) -> Self {
        let Some(current) = self.current else { return self };
        if self.nearest.is_none() && matches!(name, "apiVersion" | "kind") {
            // Both are written in the same version.
            return Correlation::default();
        }
        let both = current.fields().and_then(|(new, old)| Some(Pair::Values(new.get(name)?, old.get(name)?)));
        Correlation { current: both, nearest: self.current }
    }

    /// An entry of a list, with the old one that it stands for.
    pub fn entry(self, new: &'a Value, old: Option<&'a Value>) -> Self {
        if self.current.is_none() {
            return self;
        }
        Correlation { current: old.map(|old| Pair::Values(new, old)), nearest: self.current }
    }
}
