//! Validation rules of definitions (`x-kubernetes-validations`): compiled once a version, checked on every write
//! (`apiextensions-apiserver/pkg/apiserver/schema/cel`).

mod compile;
mod correlation;
mod declare;
mod walk;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::{compile::environment, declare::declaration, walk::Judgement};
use crate::{
    expressions::{Declaration, Meter, Program},
    status::{FieldError, FieldErrorKind},
};

/// What evaluating one rule may cost at most (`celconfig.PerCallLimit`).
const MOST_PER_RULE: u64 = 1_000_000;
/// What evaluating all rules of an object may cost at most (`celconfig.RuntimeCELCostBudget`).
pub const MOST_PER_OBJECT: u64 = 10_000_000;
/// Rules that cost so much at most take less than a millisecond.
const QUICK: u64 = 5_000;

/// The rules of one version.
#[derive(Debug, Default)]
pub struct Validations {
    root: Option<Place>,
    /// Whether an object may take longer to check than an event loop may be held.
    pub is_slow: bool,
}

/// A place in objects where there are rules, or below which there are.
#[derive(Debug)]
pub struct Place {
    rules: Vec<Rule>,
    /// The type, as the schema names it.
    kind: Box<str>,
    declaration: Option<Arc<Declaration>>,
    /// Sorted by name.
    properties: Vec<(Box<str>, Place)>,
    values: Option<Box<Place>>,
    items: Option<Box<Place>>,
    /// The keys by which entries of the list are told apart.
    keys: Option<Arc<[Box<str>]>>,
    /// Rules within `allOf`.
    all: Vec<Place>,
}

#[derive(Debug)]
struct Rule {
    /// What could not be compiled says why.
    program: Result<Program, String>,
    message_program: Option<Program>,
    message_expression: Box<str>,
    message: Box<str>,
    /// As errors name it: the message, or the rule itself.
    shown: Box<str>,
    reason: FieldErrorKind,
    /// Where errors are told of, below the place of the rule.
    field_path: Box<str>,
    uses_old: bool,
    /// It is checked also where there is no old value.
    optional_old: bool,
}

impl Validations {
    /// The rules of a schema. Those that do not compile, which were stored before they were looked at, are told of when they are checked.
    pub fn new(schema: &Value) -> Self {
        let declared = declare::declaration(schema, true, "self");
        let mut cost = 0;
        let root = compile::place(schema, schema, declared.as_ref(), 1, &mut cost);
        Validations { root, is_slow: cost > QUICK }
    }

    /// The rules of whole objects, and below them; `None` where there are none.
    pub fn root(&self) -> Option<&Place> {
        self.root.as_ref()
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Everything that is wrong with an object, which is new or takes the place of an old one. `known` is what is wrong with it already:
    /// an object that is not as its schema says is not looked at.
    pub fn check(&self, object: &Map<String, Value>, old: Option<&Map<String, Value>>, known: &[FieldError]) -> Judgement {
        let Some(root) = &self.root else { return Judgement::default() };
        if known.iter().any(is_blocking) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return Judgement { errors: vec![FieldError::invalid("<nil>", Value::Null, detail)], ..Judgement::default() };
        }
        walk::check(root, object, old, if self.is_slow { Meter::new } else { Meter::quick })
    }
}

impl Place {
    /// The rules of a field that the schema names, and below it.
    pub fn property(&self, name: &str) -> Option<&Place> {
        self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok().map(|at| &self.properties[at].1)
    }

    /// The rules of entries of a list.
    pub fn entries(&self) -> Option<&Place> {
        self.items.as_deref()
    }

    /// Everything that is wrong with a value that is put where there is none: once as one that was there before, once as a new one, since
    /// rules may tell the two apart. `budget` is what that may cost.
    pub fn check_default(&self, value: &Value, budget: &mut u64) -> Vec<FieldError> {
        let (kept, left) = walk::check_value(self, value, Some(value), *budget);
        let (errors, left) = match kept.is_empty() {
            true => {
                let (new, left_new) = walk::check_value(self, value, None, *budget);
                (new, left.min(left_new))
            }
            false => (kept, left),
        };
        *budget = left;
        errors
    }
}

fn is_blocking(error: &FieldError) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}
