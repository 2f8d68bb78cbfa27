//! What expressions may name.

use std::{collections::BTreeMap, sync::Arc};

use super::types::{Declaration, Type};

/// A variable that expressions may name.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: Box<str>,
    pub ty: Type,
    /// What is known of what it holds; of an optional variable, of what is in it.
    pub declaration: Arc<Declaration>,
}

/// What an expression may name.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub variables: Vec<Variable>,
    /// The types of the variables that stand beside an expression, as `variables.name`.
    pub composed: BTreeMap<Box<str>, Type>,
    /// Whether patches and parts of objects can be constructed.
    pub constructs: bool,
    /// Whether `cel.bind` names values.
    pub binds: bool,
}

impl Environment {
    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, declaration: Arc<Declaration>) -> Self {
        self.variables.push(Variable { name: name.into(), ty: declaration.ty.clone(), declaration });
        self
    }

    /// With a place that has no name here.
    #[must_use]
    pub fn without(self) -> Self {
        self.with("", Arc::new(Declaration::any()))
    }

    /// With one more variable that may be absent.
    #[must_use]
    pub fn with_optional(mut self, name: &str, declaration: Arc<Declaration>) -> Self {
        self.variables.push(Variable { name: name.into(), ty: Type::optional(declaration.ty.clone()), declaration });
        self
    }
}
