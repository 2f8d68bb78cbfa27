//! What match conditions of webhooks and policies may name, and how they are compiled
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).

use std::sync::{Arc, LazyLock};

use crate::expressions::{Declaration, Environment, Failure, Field, Identity, ObjectType, Program, Type};

/// Compiles a condition.
///
/// # Errors
/// What is wrong with it, as upstream words it.
pub fn compile(expression: &str) -> Result<Program, String> {
    Program::compile(expression.trim(), &Type::Bool, &ENVIRONMENT).map_err(|failure| match failure {
        Failure::Compilation(why) => format!("compilation failed: {why}"),
        Failure::Instantiation(why) => format!("instantiation failed: {why}"),
        Failure::WrongType => "must evaluate to bool".to_owned(),
    })
}

/// What conditions may name, in this order.
pub static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let any = Arc::new(Declaration::any());
    Environment::default().with("object", any.clone()).with("oldObject", any).with("request", Arc::new(request()))
});

/// `admission.k8s.io/v1.AdmissionRequest` without its objects.
fn request() -> Declaration {
    let string = || Declaration::plain(Type::String, u64::MAX, 2);
    let strings = || Declaration::list(string(), Identity::Place, u64::MAX);
    let object = |name: &str, fields: Vec<(&str, Declaration)>| {
        let field = |(name, declaration): (&str, Declaration)| (name.into(), Field { name: name.into(), declaration });
        Declaration::object(Arc::new(ObjectType { name: name.into(), fields: fields.into_iter().map(field).collect() }), 2)
    };
    let kind = || object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(|name| (name, string())).into());
    let resource = || object("kubernetes.GroupVersionResource", ["group", "version", "resource"].map(|name| (name, string())).into());
    let user = vec![("username", string()), ("uid", string()), ("groups", strings()), ("extra", Declaration::map(strings(), u64::MAX))];
    let mut fields = vec![
        ("kind", kind()),
        ("resource", resource()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("userInfo", object("kubernetes.UserInfo", user)),
        ("dryRun", Declaration::plain(Type::Bool, 0, 4)),
        ("options", Declaration::any()),
    ];
    fields.extend(["subResource", "requestSubResource", "name", "namespace", "operation"].map(|name| (name, string())));
    object("kubernetes.AdmissionRequest", fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_compile_is_told() {
        assert!(compile("object.metadata.name ==").is_err_and(|why| why.starts_with("compilation failed: ERROR: <input>:1:")));
        assert!(compile("request.nothing == 'x'").is_err_and(|why| why.contains("undefined field 'nothing'")));
        assert_eq!(compile("'text'").err().as_deref(), Some("must evaluate to bool"));
    }
}
