//! Checks the types of an expression, and finds out what its names and functions are (`cel-go/checker/checker.go`).

mod calls;
mod folds;
pub mod literals;
pub mod messages;

use std::collections::BTreeSet;

use super::{
    Environment, Variable,
    syntax::{
        Issue,
        ast::{Entry, Kind, Literal, Node, Slot},
    },
    types::{Substitution, Type, more_general},
};

/// Errors that are told of one expression.
const MOST_ISSUES: usize = 20;

/// What was found out beside the types.
#[derive(Debug, Default)]
pub struct Checked {
    /// The variables that are used, by position.
    pub used: Vec<bool>,
    /// The composed variables that are used.
    pub composed: BTreeSet<Box<str>>,
}

/// Checks an expression and writes types, slots and callees into it.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn check(node: &mut Node, environment: &Environment) -> Result<Checked, Vec<Issue>> {
    let used = vec![false; environment.variables.len()];
    let mut checker = Checker {
        environment,
        variables: &environment.variables,
        locals: Vec::new(),
        substitution: Substitution::default(),
        issues: Vec::new(),
        used,
        composed: BTreeSet::new(),
        may_mix: false,
    };
    checker.node(node);
    if checker.issues.is_empty() {
        literals::check(node, &mut checker.issues);
    }
    if checker.issues.is_empty() {
        settle(node, &checker.substitution);
        return Ok(Checked { used: checker.used, composed: checker.composed });
    }
    let mut issues = checker.issues;
    issues.sort_by_key(|issue| issue.at);
    issues.truncate(MOST_ISSUES);
    Err(issues)
}

pub(super) struct Checker<'a> {
    environment: &'a Environment,
    variables: &'a [Variable],
    locals: Vec<(Box<str>, Type)>,
    substitution: Substitution,
    issues: Vec<Issue>,
    used: Vec<bool>,
    composed: BTreeSet<Box<str>>,
    /// Lists and maps may be of several types, as where a text is formatted.
    may_mix: bool,
}

impl Checker<'_> {
    fn node(&mut self, node: &mut Node) -> Type {
        let at = node.at;
        let ty = match &mut node.kind {
            Kind::Literal(literal) => of_literal(literal),
            Kind::Name { .. } => return self.name(node),
            Kind::Select { .. } => return self.select(node),
            Kind::OptionalSelect { operand, field } => {
                let of = self.node(operand);
                self.optional(at, &of, field, true)
            }
            Kind::Call(_) => return self.call(node),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Message(message) => self.message(at, message),
            Kind::Fold(fold) => self.fold(at, fold),
        };
        node.ty = ty.clone();
        ty
    }

    fn report(&mut self, at: usize, message: String) {
        self.issues.push(Issue::new(at, message));
    }

    fn undeclared(&mut self, at: usize, name: &str) {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn mismatch(&mut self, at: usize, wanted: &Type, found: &Type) {
        let (wanted, found) = (self.substitution.apply(wanted, false), self.substitution.apply(found, false));
        self.report(at, format!("expected type '{wanted}' but found '{found}'"));
    }

    /// What a name stands for.
    fn lookup(&mut self, name: &str) -> Option<(Slot, Type)> {
        if let Some(at) = self.locals.iter().rposition(|(known, _)| **known == *name) {
            return Some((Slot::Local(at), self.locals[at].1.clone()));
        }
        if let Some(at) = self.variables.iter().position(|variable| *variable.name == *name) {
            self.used[at] = true;
            return Some((Slot::Variable(at), self.variables[at].ty.clone()));
        }
        Type::of_name(name).map(|ty| (Slot::Type, Type::Type(std::sync::Arc::new(ty))))
    }

    fn name(&mut self, node: &mut Node) -> Type {
        let Kind::Name { name, slot } = &mut node.kind else { return Type::Error };
        let found = self.lookup(name);
        let ty = match found {
            Some((found, ty)) => {
                *slot = found;
                ty
            }
            None => {
                let name = name.clone();
                self.undeclared(node.at, &name);
                Type::Error
            }
        };
        node.ty = ty.clone();
        ty
    }

    fn select(&mut self, node: &mut Node) -> Type {
        // `google.protobuf.Duration` is a name as a whole.
        if let Some((name, (slot, ty))) = node.qualified_name().and_then(|name| Some((name.clone(), self.qualified(&name)?))) {
            node.kind = Kind::Name { name: name.into(), slot };
            node.ty = ty.clone();
            return ty;
        }
        let at = node.at;
        let Kind::Select { operand, field, test } = &mut node.kind else { return Type::Error };
        let of = self.node(operand);
        let found = self.optional(at, &of, field, false);
        node.ty = if *test { Type::Bool } else { found };
        node.ty.clone()
    }

    /// Names with points are types, and variables that have such a name.
    fn qualified(&mut self, name: &str) -> Option<(Slot, Type)> {
        let first = name.split('.').next().unwrap_or(name);
        if self.locals.iter().any(|(known, _)| **known == *first) {
            return None;
        }
        let is_field = self.variables.iter().any(|known| *known.name == *first) && !self.variables.iter().any(|known| *known.name == *name);
        if is_field { None } else { self.lookup(name) }
    }

    /// The type of a field, in an optional where the operand is one or the field is asked for with a question mark.
    fn optional(&mut self, at: usize, of: &Type, field: &str, asked: bool) -> Type {
        let (target, is_optional) = self.substitution.apply(of, false).unwrapped();
        let found = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Object(object) => match object.selected(field) {
                Some(found) => found.declaration.ty.clone(),
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Message(name) => messages::field(name, field).unwrap_or_else(|| {
                self.report(at, format!("undefined field '{field}'"));
                Type::Error
            }),
            Type::Variables => match self.environment.composed.get(field) {
                Some(ty) => {
                    self.composed.insert(field.into());
                    ty.clone()
                }
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Parameter(_) => {
                self.substitution.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            other => {
                self.report(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        let found = self.substitution.apply(&found, false);
        if is_optional || asked { Type::optional(found) } else { found }
    }

    fn list(&mut self, elements: &mut [(Node, bool)]) -> Type {
        let mut joined = None;
        for (node, optional) in elements {
            let found = self.node(node);
            let found = self.unwrapped_if(node.at, found, *optional);
            joined = Some(self.joined(node.at, joined, found));
        }
        Type::list(joined.unwrap_or_else(|| self.substitution.fresh()))
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.node(&mut entry.key);
            keys = Some(self.joined(entry.key.at, keys, key));
            let value = self.node(&mut entry.value);
            let value = self.unwrapped_if(entry.value.at, value, entry.optional);
            values = Some(self.joined(entry.value.at, values, value));
        }
        match (keys, values) {
            (Some(key), Some(value)) => Type::map(key, value),
            _ => {
                let key = self.substitution.fresh();
                Type::map(key, self.substitution.fresh())
            }
        }
    }

    fn unwrapped_if(&mut self, at: usize, found: Type, optional: bool) -> Type {
        if !optional {
            return found;
        }
        let (inner, is_optional) = self.substitution.apply(&found, false).unwrapped();
        if !is_optional && !inner.is_dyn_or_error() {
            self.mismatch(at, &Type::optional(inner.clone()), &inner);
        }
        inner
    }

    /// Entries of a list or a map have one type.
    fn joined(&mut self, at: usize, before: Option<Type>, found: Type) -> Type {
        let Some(before) = before else { return found };
        if self.substitution.assignable(&before, &found) {
            return more_general(&before, &found);
        }
        if self.may_mix {
            return Type::Dyn;
        }
        self.mismatch(at, &before, &found);
        Type::Error
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// Writes final types into a tree.
fn settle(node: &mut Node, substitution: &Substitution) {
    node.ty = substitution.apply(&node.ty, true);
    each(node, &mut |child| settle(child, substitution));
}

/// Calls a function with every node right below one.
pub(super) fn each(node: &mut Node, visit: &mut dyn FnMut(&mut Node)) {
    match &mut node.kind {
        Kind::Literal(_) | Kind::Name { .. } => {}
        Kind::Message(message) => message.fields.iter_mut().for_each(|field| visit(&mut field.value)),
        Kind::Select { operand, .. } | Kind::OptionalSelect { operand, .. } => visit(operand),
        Kind::Call(call) => call.target.iter_mut().chain(&mut call.args).for_each(visit),
        Kind::List(elements) => elements.iter_mut().for_each(|(node, _)| visit(node)),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            visit(&mut entry.key);
            visit(&mut entry.value);
        }),
        Kind::Fold(fold) => {
            visit(&mut fold.range);
            fold.condition.iter_mut().chain(&mut fold.result).for_each(visit);
        }
    }
}
