//! Expressions that are ready to be evaluated.

use std::collections::BTreeSet;

use super::{
    check::{self, literals::INSTANTIATION},
    cost::{self, Estimate},
    environment::Environment,
    evaluate::{self, Variables},
    meter::{Fault, Meter},
    syntax::{self, ast::Node},
    types::Type,
    values::Val,
};

/// Why an expression cannot be used, as upstream words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is no expression, or its types do not fit.
    Compilation(String),
    /// It is of another type than is wanted: this one.
    WrongType(String),
    /// It is right, but no program can be made of it.
    Instantiation(String),
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    root: Node,
    used: Vec<bool>,
    composed: BTreeSet<Box<str>>,
    /// What an evaluation may cost at least and at most.
    pub cost: Estimate,
}

impl Program {
    /// Compiles an expression that must be of a type.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(text: &str, wanted: &Type, environment: &Environment) -> Result<Self, Failure> {
        let program = Program::compile_any(text, environment)?;
        if program.root.ty == *wanted { Ok(program) } else { Err(Failure::WrongType(program.root.ty.declared_name())) }
    }

    /// Compiles an expression of any type.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile_any(text: &str, environment: &Environment) -> Result<Self, Failure> {
        let mut root = syntax::parse(text).map_err(|issue| Failure::Compilation(issue.shown(text)))?;
        let checked = check::check(&mut root, environment).map_err(|issues| match &issues[..] {
            [issue, ..] if issue.message.starts_with(INSTANTIATION) => Failure::Instantiation(issue.message.clone()),
            issues => Failure::Compilation(syntax::shown(issues, text)),
        })?;
        let cost = cost::estimate(&root, environment);
        Ok(Program { root, used: checked.used, composed: checked.composed, cost })
    }

    /// The type of the result.
    pub fn ty(&self) -> &Type {
        &self.root.ty
    }

    /// How many nodes are within each other.
    pub fn depth(&self) -> usize {
        self.root.depth
    }

    /// The variables beside it that it names.
    pub fn composed(&self) -> &BTreeSet<Box<str>> {
        &self.composed
    }

    /// Whether it reads a field of a variable.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.root.selects(variable, field)
    }

    /// Whether it names a variable, by position in the environment.
    pub fn uses(&self, variable: usize) -> bool {
        self.used.get(variable).copied().unwrap_or(false)
    }

    /// Evaluates it with values of the variables, in the order of the environment; a variable without a value is an error where it is used.
    ///
    /// # Errors
    /// What went wrong in the words of `cel-go`, or that the meter's limit is reached.
    pub fn evaluate<'a>(&'a self, variables: &[Option<Val<'a>>], meter: &mut Meter) -> Result<Val<'a>, Fault> {
        self.evaluate_beside(variables, None, meter)
    }

    /// The same, with variables that stand beside it.
    pub(super) fn evaluate_beside<'a>(
        &'a self,
        variables: &[Option<Val<'a>>],
        composition: Option<&dyn Variables<'a>>,
        meter: &mut Meter,
    ) -> Result<Val<'a>, Fault> {
        evaluate::evaluate(&self.root, variables, composition, meter)
    }
}
