//! The types of messages that expressions construct (`k8s.io/apiserver/pkg/cel/mutation`): patches, and parts of objects to be applied.

use super::Checker;
use crate::expressions::{syntax::ast::Message, types::Type};

/// An operation of a JSON patch.
pub const JSON_PATCH: &str = "JSONPatch";
/// An object to be applied; `Object.spec` is what stands in its field `spec`.
pub const OBJECT: &str = "Object";

/// Whether a name is one of an object to be applied, or of something in it.
pub fn is_object(name: &str) -> bool {
    name.strip_prefix(OBJECT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The type of a field of a message, if it may have one of that name.
pub(super) fn field(message: &str, field: &str) -> Option<Type> {
    match (message, field) {
        (JSON_PATCH, "op" | "path" | "from") => Some(Type::String),
        (JSON_PATCH, "value") => Some(Type::Dyn),
        (JSON_PATCH, _) => None,
        _ => Some(Type::Dyn),
    }
}

impl Checker<'_> {
    pub(super) fn message(&mut self, at: usize, message: &mut Message) -> Type {
        let name = &*message.name;
        if !self.environment.constructs || name != JSON_PATCH && !is_object(name) {
            let name = message.name.clone();
            self.undeclared(at, &name);
            return Type::Error;
        }
        let ty = Type::Message(name.into());
        for initializer in &mut message.fields {
            let found = self.node(&mut initializer.value);
            let found = self.unwrapped_if(initializer.value.at, found, initializer.optional);
            let name = &*initializer.name;
            let Some(wanted) = field(&message.name, name) else {
                self.report(initializer.at, format!("undefined field '{name}'"));
                continue;
            };
            if !self.substitution.assignable(&wanted, &found) {
                let found = self.substitution.apply(&found, false);
                self.report(initializer.at, format!("expected type of field '{name}' is '{wanted}' but provided type is '{found}'"));
            }
        }
        ty
    }
}
