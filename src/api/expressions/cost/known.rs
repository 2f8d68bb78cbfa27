//! What is known of an expression before it is evaluated.

use super::Estimate;
use crate::expressions::types::Type;

/// Where in a declaration something stands: the name of a variable, then fields, `@items`, `@values` and `@keys`.
pub(super) type Path = Vec<Box<str>>;

/// The sizes of what is in a list or a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    pub is_list: bool,
    pub key: Estimate,
    pub value: Estimate,
}

/// What is known of an expression.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub cost: Estimate,
    pub size: Option<Estimate>,
    pub within: Option<Within>,
    pub path: Path,
    /// Of the entries of a list, by where they are declared; `None` if it is no list.
    pub items: Option<Estimate>,
    pub ty: Type,
    pub integer: Option<i64>,
    pub is_literal: bool,
}

impl Known {
    pub fn size(&self) -> Estimate {
        self.size.unwrap_or(Estimate::UNKNOWN)
    }
}

impl Known {
    /// An integer that is written down, where a limit is wanted.
    pub fn integer_or(&self, otherwise: u64) -> u64 {
        match self.integer.filter(|_| self.is_literal) {
            Some(number) => u64::try_from(number).unwrap_or(0),
            None => otherwise,
        }
    }
}

impl Within {
    /// What holds the entries of both.
    pub fn or(self, other: Within) -> Within {
        Within { is_list: self.is_list, key: self.key.or(other.key), value: self.value.or(other.value) }
    }
}
