//! Which overloads of a function a call means.

use super::Checker;
use crate::expressions::{
    library::{self, Function},
    syntax::ast::{Call, Callee, Kind, Node},
    types::Type,
};

impl Checker<'_> {
    pub(super) fn call(&mut self, node: &mut Node) -> Type {
        let at = node.at;
        let Kind::Call(call) = &mut node.kind else { return Type::Error };
        let ty = self.resolve(at, call);
        node.ty = ty.clone();
        ty
    }

    fn resolve(&mut self, at: usize, call: &mut Call) -> Type {
        let outside = self.may_mix;
        self.may_mix |= &*call.function == "format";
        let mut types: Vec<Type> = call.args.iter_mut().map(|arg| self.node(arg)).collect();
        self.may_mix = outside;
        if let Some(target) = &mut call.target {
            // `sets.contains` is a function's name as a whole.
            let whole = target.qualified_name().map(|prefix| format!("{prefix}.{}", call.function));
            if let Some(function) = whole.as_deref().and_then(|name| self.function(name)) {
                call.function = function.name.into();
                call.target = None;
                return self.chosen(at, call, function, &types);
            }
            types.insert(0, self.node(target));
        }
        match self.function(&call.function) {
            Some(function) => self.chosen(at, call, function, &types),
            None => {
                let name = call.function.clone();
                self.undeclared(at, &name);
                Type::Error
            }
        }
    }

    /// The function of that name, where the environment has it.
    fn function(&self, name: &str) -> Option<&'static Function> {
        library::function(name).filter(|function| self.environment.constructs || !function.name.starts_with(library::OF_PATCHES))
    }

    fn chosen(&mut self, at: usize, call: &mut Call, function: &'static Function, types: &[Type]) -> Type {
        if matches!(function.name, "_&&_" | "_||_") {
            call.callee = Some(Callee { function, overloads: 1 });
            return self.logical(call, types);
        }
        let (mut overloads, mut result) = (0, None);
        for (position, overload) in function.overloads.iter().enumerate() {
            if overload.is_member != call.target.is_some() || overload.args.len() != types.len() {
                continue;
            }
            let (wanted, returned) = overload.instance(&mut self.substitution);
            let pairs: Vec<(&Type, &Type)> = types.iter().zip(&wanted).collect();
            if !self.substitution.all_assignable(&pairs) {
                continue;
            }
            overloads |= 1 << position;
            let returned = self.substitution.apply(&returned, false);
            result = Some(match result {
                None => returned,
                Some(before) if matches!(before, Type::Dyn | Type::Any) || before == returned => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = types.iter().map(|ty| self.substitution.apply(ty, true).to_string()).collect();
            let signature = match call.target {
                Some(_) => format!("{}.({})", shown[0], shown[1..].join(", ")),
                None => format!("({})", shown.join(", ")),
            };
            self.report(at, format!("found no matching overload for '{}' applied to '{signature}'", function.name));
            return Type::Error;
        };
        call.callee = Some(Callee { function, overloads });
        result
    }

    fn logical(&mut self, call: &Call, types: &[Type]) -> Type {
        let mut result = Type::Bool;
        let odd: Vec<(usize, Type)> = call.args.iter().zip(types).map(|(arg, ty)| (arg.at, ty.clone())).collect();
        for (at, ty) in odd {
            if !self.substitution.assignable(&ty, &Type::Bool) {
                self.mismatch(at, &Type::Bool, &ty);
                result = Type::Error;
            }
        }
        result
    }
}
