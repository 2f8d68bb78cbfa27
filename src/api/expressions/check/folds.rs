//! The types of macros.

use super::Checker;
use crate::expressions::{
    library,
    syntax::ast::{Fold, Macro, Node},
    types::Type,
};

impl Checker<'_> {
    pub(super) fn fold(&mut self, at: usize, fold: &mut Fold) -> Type {
        let of = self.node(&mut fold.range);
        let of = self.substitution.apply(&of, false);
        if fold.kind == Macro::Bind {
            return self.bind(at, fold, of);
        }
        if matches!(fold.kind, Macro::OptMap | Macro::OptFlatMap) {
            return self.optional_fold(at, fold, &of);
        }
        let (key, item) = self.entries(fold.range.at, &of, fold.key.is_some());
        let outside = self.locals.len();
        if let Some(name) = &fold.key {
            self.locals.push((name.clone(), key.clone()));
        }
        self.locals.push((fold.item.clone(), item.clone()));
        if let Some(condition) = &mut fold.condition {
            self.holds(condition);
        }
        let result = fold.result.as_mut().map(|result| (result.at, self.node(result)));
        self.locals.truncate(outside);
        let produced = result.as_ref().map_or_else(|| item.clone(), |(_, ty)| ty.clone());
        match fold.kind {
            Macro::Collect => Type::list(produced),
            Macro::TransformMap => Type::map(key, produced),
            Macro::TransformMapEntry => self.entry_map(fold.range.at, &produced),
            Macro::SortBy => self.sorted(at, of, &produced),
            _ => Type::Bool,
        }
    }

    /// A value that has a name within an expression.
    fn bind(&mut self, at: usize, fold: &mut Fold, of: Type) -> Type {
        if !self.environment.binds {
            self.undeclared(at, "bind");
        }
        self.locals.push((fold.item.clone(), of));
        let result = fold.result.as_mut().map_or(Type::Error, |result| self.node(result));
        self.locals.pop();
        result
    }

    /// A condition that must be true or false.
    fn holds(&mut self, condition: &mut Node) {
        let ty = self.node(condition);
        if !self.substitution.assignable(&Type::Bool, &ty) {
            let message_type = self.substitution.apply(&ty, true);
            self.report(condition.at, format!("expected type 'bool' but found '{message_type}'"));
        }
    }

    /// What the variables of a macro are; the first is not used where there is one.
    fn entries(&mut self, at: usize, of: &Type, two: bool) -> (Type, Type) {
        match of {
            Type::List(of) => (Type::Int, (**of).clone()),
            Type::Map(of) if two => (of.0.clone(), of.1.clone()),
            Type::Map(of) => (of.0.clone(), of.0.clone()),
            Type::Dyn | Type::Error | Type::Parameter(_) => {
                self.substitution.assignable(&Type::Dyn, of);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                self.report(at, format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"));
                (Type::Error, Type::Error)
            }
        }
    }

    fn entry_map(&mut self, at: usize, produced: &Type) -> Type {
        let produced = self.substitution.apply(produced, false);
        let any = Type::map(self.substitution.fresh(), self.substitution.fresh());
        if self.substitution.assignable(&any, &produced) {
            return self.substitution.apply(&any, false);
        }
        self.report(at, format!("found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), {produced})'"));
        Type::Error
    }

    /// Keys must be of a type that has an order.
    fn sorted(&mut self, at: usize, of: Type, key: &Type) -> Type {
        let sort = library::function("sort").map_or(&[][..], |function| &function.overloads);
        let keys = Type::list(key.clone());
        if sort.iter().any(|overload| self.substitution.assignable(&keys, &overload.args[0])) {
            return of;
        }
        let (of, keys) = (self.substitution.apply(&of, true), self.substitution.apply(&keys, true));
        self.report(at, format!("found no matching overload for '@sortByAssociatedKeys' applied to '{of}.({keys})'"));
        Type::Error
    }

    fn optional_fold(&mut self, at: usize, fold: &mut Fold, of: &Type) -> Type {
        let (inner, is_optional) = of.unwrapped();
        if !is_optional && !inner.is_dyn_or_error() {
            self.report(at, format!("found no matching overload for 'hasValue' applied to '{of}.()'"));
        }
        self.locals.push((fold.item.clone(), inner));
        let result = fold.result.as_mut().map_or(Type::Error, |result| self.node(result));
        self.locals.pop();
        if fold.kind == Macro::OptMap {
            return Type::optional(result);
        }
        let result = self.substitution.apply(&result, false);
        if !matches!(result, Type::Optional(_)) && !result.is_dyn_or_error() {
            self.report(at, format!("found no matching overload for '_?_:_' applied to '(bool, {result}, optional_type(dyn))'"));
        }
        result
    }
}
