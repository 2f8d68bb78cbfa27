//! Whether a value of one type may stand where another is wanted, and what follows for parameters (`cel-go/checker/types.go`).

use std::{collections::HashMap, sync::Arc};

use super::Type;

/// What is known of parameters.
#[derive(Debug, Default)]
pub struct Substitution {
    known: HashMap<usize, Type>,
    next: usize,
    /// Parameters that were bound, in order, so that a failed try can be undone.
    trail: Vec<(usize, Option<Type>)>,
}

/// Types are within each other no deeper than this.
const DEEPEST: usize = 100;

impl Substitution {
    /// A parameter that nothing is known of.
    pub fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Parameter(super::unify::LETTERS + self.next)
    }

    /// The type with everything that is known of its parameters; what is unknown becomes `dyn` where `finally`.
    pub fn apply(&self, ty: &Type, finally: bool) -> Type {
        self.applied(ty, finally, 0)
    }

    fn applied(&self, ty: &Type, finally: bool, depth: usize) -> Type {
        if depth > DEEPEST {
            return Type::Dyn;
        }
        let inner = |ty: &Arc<Type>| Arc::new(self.applied(ty, finally, depth + 1));
        match ty {
            Type::Parameter(number) => match self.known.get(number) {
                Some(found) => self.applied(found, finally, depth + 1),
                None if finally => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(of) => Type::List(inner(of)),
            Type::Optional(of) => Type::Optional(inner(of)),
            Type::Type(of) => Type::Type(inner(of)),
            Type::Map(of) => Type::map(self.applied(&of.0, finally, depth + 1), self.applied(&of.1, finally, depth + 1)),
            other => other.clone(),
        }
    }

    /// Whether `from` may stand where `to` is wanted; what follows for parameters is kept only then.
    pub fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.all_assignable(&[(to, from)])
    }

    /// Whether all of them may.
    pub fn all_assignable(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        let mark = self.trail.len();
        let fits = pairs.iter().all(|(to, from)| self.unify(to, from, 0));
        if !fits {
            while self.trail.len() > mark {
                if let Some((number, before)) = self.trail.pop() {
                    match before {
                        Some(ty) => self.known.insert(number, ty),
                        None => self.known.remove(&number),
                    };
                }
            }
        }
        fits
    }

    fn bind(&mut self, number: usize, ty: Type) {
        let before = self.known.insert(number, ty);
        self.trail.push((number, before));
    }

    fn unify(&mut self, to: &Type, from: &Type, depth: usize) -> bool {
        if depth > DEEPEST {
            return false;
        }
        match (to, from) {
            (Type::Parameter(a), Type::Parameter(b)) if a == b => true,
            (Type::Parameter(number), other) => self.bound(*number, other, depth, true),
            (other, Type::Parameter(number)) => self.bound(*number, other, depth, false),
            (to, from) if to.is_dyn_or_error() || from.is_dyn_or_error() => true,
            (Type::Null, other) | (other, Type::Null) => takes_null(other),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.unify(a, b, depth + 1),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0, depth + 1) && self.unify(&a.1, &b.1, depth + 1),
            (a, b) => a == b,
        }
    }

    /// A parameter beside a type. What is known of the parameter is widened where the type is wider.
    fn bound(&mut self, number: usize, other: &Type, depth: usize, parameter_first: bool) -> bool {
        match self.known.get(&number).cloned() {
            Some(known) => {
                let fits = if parameter_first { self.unify(&known, other, depth + 1) } else { self.unify(other, &known, depth + 1) };
                if fits {
                    let wider = more_general(&known, other);
                    if wider != known && !self.occurs(number, &wider, 0) {
                        self.bind(number, wider);
                    }
                }
                fits
            }
            None if self.occurs(number, other, 0) => false,
            None => {
                self.bind(number, other.clone());
                true
            }
        }
    }

    fn occurs(&self, number: usize, within: &Type, depth: usize) -> bool {
        if depth > DEEPEST {
            return true;
        }
        match within {
            Type::Parameter(found) => *found == number || self.known.get(found).is_some_and(|ty| self.occurs(number, ty, depth + 1)),
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.occurs(number, of, depth + 1),
            Type::Map(of) => self.occurs(number, &of.0, depth + 1) || self.occurs(number, &of.1, depth + 1),
            _ => false,
        }
    }
}

/// Null is a value of objects and of times, not of numbers and texts.
fn takes_null(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Object(_) | Type::Message(_) | Type::Variables | Type::Duration | Type::Timestamp | Type::Named(_) | Type::Optional(_)
    )
}

/// The one of two types that fit each other which says less.
pub fn more_general(one: &Type, other: &Type) -> Type {
    if is_as_general(one, other) { one.clone() } else { other.clone() }
}

fn is_as_general(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Any, _) | (Type::Parameter(_), Type::Parameter(_)) => true,
        (_, Type::Dyn | Type::Any) => false,
        (Type::Parameter(_), _) => false,
        (_, Type::Parameter(_)) => true,
        (Type::Null, other) => *other == Type::Null,
        (_, Type::Null) => true,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => is_as_general(a, b),
        (Type::Map(a), Type::Map(b)) => is_as_general(&a.0, &b.0) && is_as_general(&a.1, &b.1),
        _ => true,
    }
}

/// Parameters of signatures have numbers below this.
pub(super) const LETTERS: usize = 26;
