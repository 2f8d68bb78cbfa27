//! What expressions of webhooks and admission policies may name, and how they are compiled
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).

use std::sync::{Arc, LazyLock};

use crate::expressions::{
    AUTHORIZER, Declaration, Environment, Failure, Field, Identity, JSON_PATCH, MOST_DEPTH, OBJECT, ObjectType, Program, RESOURCE_CHECK, Type,
};

/// The variables, in this order.
pub mod place {
    pub const OBJECT: usize = 0;
    pub const OLD_OBJECT: usize = 1;
    pub const REQUEST: usize = 2;
    pub const NAMESPACE: usize = 3;
    pub const PARAMS: usize = 4;
    pub const AUTHORIZER: usize = 5;
    pub const REQUEST_RESOURCE: usize = 6;
    pub const VARIABLES: usize = 7;
}

const NAMES_OF_AUTHORIZER: [(usize, &str); 2] = [(place::AUTHORIZER, "authorizer"), (place::REQUEST_RESOURCE, "authorizer.requestResource")];

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// True or false.
    Condition,
    /// The message of a validation; it must not ask the authorizer.
    Message,
    /// The value of an audit annotation, or null where there shall be none.
    Annotation,
    /// A part of the object.
    ApplyConfiguration,
    /// A list of operations.
    JsonPatch,
}

impl Wanted {
    fn types(self) -> Vec<Type> {
        match self {
            Wanted::Condition => vec![Type::Bool],
            Wanted::Message => vec![Type::String],
            Wanted::Annotation => vec![Type::String, Type::Null],
            Wanted::ApplyConfiguration => vec![Type::Message(OBJECT.into())],
            Wanted::JsonPatch => vec![Type::list(Type::Message(JSON_PATCH.into()))],
        }
    }
}

/// Compiles the expressions of one webhook or policy.
#[derive(Debug)]
pub struct Compiler {
    environment: Environment,
    /// How deep composed variables are, by name.
    depths: std::collections::HashMap<Box<str>, usize>,
}

impl Compiler {
    /// For expressions that may name parameters, and variables that are composed.
    pub fn new(has_params: bool, has_variables: bool) -> Self {
        let any = || Arc::new(Declaration::any());
        let plain = |ty: Type| Arc::new(Declaration::plain(ty, 0, 0));
        let mut environment = Environment::default().with("object", any()).with("oldObject", any());
        environment = environment.with("request", REQUEST.clone()).with("namespaceObject", NAMESPACE.clone());
        environment = if has_params { environment.with("params", any()) } else { environment.without() };
        environment = environment.with("authorizer", plain(AUTHORIZER)).with("authorizer.requestResource", plain(RESOURCE_CHECK));
        environment = if has_variables { environment.with("variables", plain(Type::Variables)) } else { environment.without() };
        Compiler { environment, depths: Default::default() }
    }

    /// For the types of expressions: `object` and `params` are of types that are known. `authorizer.requestResource` there is none then.
    pub fn typed(object: Option<Declaration>, params: Option<Option<Declaration>>) -> Self {
        let mut compiler = Compiler::new(params.is_some(), true);
        let mut declare = |at: usize, declaration: Declaration| {
            let variable = &mut compiler.environment.variables[at];
            (variable.ty, variable.declaration) = (declaration.ty.clone(), Arc::new(declaration));
        };
        if let Some(object) = object {
            declare(place::OBJECT, object.clone());
            declare(place::OLD_OBJECT, object);
        }
        if let Some(params) = params.flatten() {
            declare(place::PARAMS, params);
        }
        compiler.environment.variables[place::REQUEST_RESOURCE].name = "".into();
        compiler
    }

    /// Compiles a variable and keeps its type for the expressions after it.
    ///
    /// # Errors
    /// What is wrong with it, as upstream words it; others may name it all the same.
    pub fn variable(&mut self, name: &str, text: &str) -> Result<Program, String> {
        let compiled = Program::compile_any(text, &self.environment).map_err(worded).and_then(|program| {
            let below = program.composed().iter().filter_map(|name| self.depths.get(name)).max();
            let depth = program.depth() + below.copied().unwrap_or(0);
            if depth > MOST_DEPTH {
                return Err(format!("compilation failed: expression recursion limit exceeded: {MOST_DEPTH}"));
            }
            self.depths.insert(name.into(), depth);
            Ok(program)
        });
        let ty = compiled.as_ref().map_or(Type::Dyn, |program| known(program.ty()));
        self.environment.composed.insert(name.into(), ty);
        compiled
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, as upstream words it.
    pub fn compile(&mut self, text: &str, wanted: Wanted) -> Result<Program, String> {
        self.environment.constructs = matches!(wanted, Wanted::ApplyConfiguration | Wanted::JsonPatch);
        for (at, name) in NAMES_OF_AUTHORIZER {
            self.environment.variables[at].name = if wanted == Wanted::Message { "" } else { name }.into();
        }
        let compiled = Program::compile_any(text, &self.environment).map_err(worded);
        for (at, name) in NAMES_OF_AUTHORIZER {
            self.environment.variables[at].name = name.into();
        }
        self.environment.constructs = false;
        let (program, types) = (compiled?, wanted.types());
        if types.contains(program.ty()) {
            return Ok(program);
        }
        let (found, names) = (program.ty().declared_name(), types.iter().map(Type::declared_name).collect::<Vec<_>>());
        Err(match &names[..] {
            [name] => format!("must evaluate to {name} but got {found}"),
            names => format!("must evaluate to one of [{}] but got {found}", names.join(" ")),
        })
    }

    /// Checks the types of an expression, whatever it comes to.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, text: &str) -> Result<Type, String> {
        match Program::compile_any(text, &self.environment) {
            Ok(program) => Ok(program.ty().clone()),
            Err(Failure::Compilation(why) | Failure::Instantiation(why) | Failure::WrongType(why)) => Err(why),
        }
    }

    /// Keeps the type of a variable whose expression is only checked.
    pub fn declare(&mut self, name: &str, ty: &Type) {
        self.environment.composed.insert(name.into(), known(ty));
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn worded(failure: Failure) -> String {
    match failure {
        Failure::Compilation(why) => format!("compilation failed: {why}"),
        Failure::Instantiation(why) => why,
        Failure::WrongType(found) => format!("got {found}"),
    }
}

/// What is kept of the type of a variable (`convertCelTypeToDeclType`): of objects and of what libraries have, nothing.
fn known(ty: &Type) -> Type {
    match ty {
        Type::List(of) => Type::list(known(of)),
        Type::Map(of) => Type::map(known(&of.0), known(&of.1)),
        Type::Bool | Type::Bytes | Type::Double | Type::Duration | Type::Int | Type::Null | Type::String | Type::Timestamp | Type::Uint => ty.clone(),
        _ => Type::Dyn,
    }
}

fn string() -> Declaration {
    Declaration::plain(Type::String, u64::MAX, 2)
}

fn object(name: &str, fields: Vec<(&str, Declaration)>) -> Declaration {
    let field = |(name, declaration): (&str, Declaration)| (name.into(), Field { name: name.into(), declaration });
    Declaration::object(Arc::new(ObjectType { name: name.into(), fields: fields.into_iter().map(field).collect() }), 2)
}

fn strings() -> Declaration {
    Declaration::list(string(), Identity::Place, u64::MAX)
}

/// `admission.k8s.io/v1.AdmissionRequest` without its objects.
static REQUEST: LazyLock<Arc<Declaration>> = LazyLock::new(|| {
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
    Arc::new(object("kubernetes.AdmissionRequest", fields))
});

/// What is shown of a Namespace.
static NAMESPACE: LazyLock<Arc<Declaration>> = LazyLock::new(|| {
    let time = || Declaration::plain(Type::Timestamp, 32, 21);
    let int = || Declaration::plain(Type::Int, 0, 1);
    let texts = |names: &[&'static str]| names.iter().map(|name| (*name, string())).collect::<Vec<_>>();
    let mut condition = texts(&["status", "type", "message", "reason"]);
    condition.push(("lastTransitionTime", time()));
    let conditions = Declaration::list(object("kubernetes.NamespaceCondition", condition), Identity::Place, u64::MAX);
    let mut metadata = texts(&["name", "generateName", "namespace", "UID", "resourceVersion"]);
    metadata.extend([("labels", Declaration::map(string(), u64::MAX)), ("annotations", Declaration::map(string(), u64::MAX))]);
    metadata.extend([("creationTimestamp", time()), ("deletionTimestamp", time())]);
    metadata.extend([("generation", int()), ("deletionGracePeriodSeconds", int()), ("finalizers", strings())]);
    let parts = vec![
        ("metadata", object("kubernetes.NamespaceMetadata", metadata)),
        ("spec", object("kubernetes.NamespaceSpec", vec![("finalizers", strings())])),
        ("status", object("kubernetes.NamespaceStatus", vec![("conditions", conditions), ("phase", string())])),
    ];
    Arc::new(object("kubernetes.Namespace", parts))
});

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(text: &str, wanted: Wanted) -> Result<(), String> {
        Compiler::new(true, true).compile(text, wanted).map(drop)
    }

    #[test]
    fn what_does_not_compile_is_told() {
        for (text, wanted, why) in [
            ("object.metadata.name ==", Wanted::Condition, "compilation failed: ERROR: <input>:1:"),
            ("request.nothing == 'x'", Wanted::Condition, "undefined field 'nothing'"),
            ("variables.x", Wanted::Condition, "undefined field 'x'"),
            ("'text'", Wanted::Condition, "must evaluate to bool but got string"),
            ("object.x", Wanted::Condition, "must evaluate to bool but got dyn"),
            ("1", Wanted::Annotation, "must evaluate to one of [string null_type] but got int"),
            ("string(authorizer.group('').resource('pods').check('get').allowed())", Wanted::Message, "undeclared reference to 'authorizer'"),
            ("Object{}", Wanted::Condition, "undeclared reference to 'Object'"),
            ("jsonpatch.escapeKey('a/b') == ''", Wanted::Condition, "undeclared reference to"),
            ("{'spec': 1}", Wanted::ApplyConfiguration, "must evaluate to Object but got map(string, int)"),
            ("[JSONPatch{op: 1}]", Wanted::JsonPatch, "expected type of field 'op' is 'string' but provided type is 'int'"),
            ("[JSONPatch{opp: ''}]", Wanted::JsonPatch, "undefined field 'opp'"),
            ("[Object{}]", Wanted::JsonPatch, "must evaluate to list(JSONPatch) but got list(Object)"),
        ] {
            let told = compiled(text, wanted);
            assert!(told.as_ref().is_err_and(|told| told.contains(why)), "{text}: {told:?}");
        }
    }

    #[test]
    fn all_that_policies_may_name_compiles() {
        for (text, wanted) in [
            ("authorizer.requestResource.check('get').allowed() && authorizer.path('/x').check('get').reason() == ''", Wanted::Condition),
            (
                "authorizer.serviceAccount('n', 'a').group('').resource('pods').subresource('x').namespace('n').name('p').check('get').errored()",
                Wanted::Condition,
            ),
            ("namespaceObject.metadata.labels['a'] == params.a && namespaceObject.status.phase == 'Active'", Wanted::Condition),
            ("has(object.a) ? null : null", Wanted::Annotation),
            ("Object{spec: Object.spec{replicas: 1, template: Object.spec.template{}, ?x: object.?x}}", Wanted::ApplyConfiguration),
            ("has(object.x) ? Object{} : Object{metadata: Object.metadata{labels: {'a': 'b'}}}", Wanted::ApplyConfiguration),
            ("[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: Object.a{b: 1}}]", Wanted::JsonPatch),
            ("object.list.map(x, JSONPatch{op: 'remove', path: string(x)})", Wanted::JsonPatch),
        ] {
            assert_eq!(compiled(text, wanted), Ok(()), "{text}");
        }
    }

    #[test]
    fn variables_are_known_to_those_after_them_by_their_types() {
        let mut compiler = Compiler::new(false, true);
        assert!(compiler.variable("a", "variables.b").is_err_and(|why| why.contains("undefined field 'b'")));
        assert!(compiler.variable("n", "1 + 1").is_ok());
        assert!(compiler.variable("l", "[variables.n]").is_ok());
        assert!(compiler.compile("variables.l[0] == 2 && variables.a", Wanted::Condition).is_ok());
        assert!(compiler.compile("variables.l", Wanted::Condition).is_err_and(|why| why == "must evaluate to bool but got list(int)"));
        assert!(compiler.compile("params == null", Wanted::Condition).is_err_and(|why| why.contains("undeclared reference to 'params'")));
    }

    #[test]
    fn variables_ask_for_each_other_only_so_deep() {
        let mut compiler = Compiler::new(false, true);
        compiler.variable("v0", "[1]").expect("compiles");
        let failed = (1..1000).find_map(|at| compiler.variable(&format!("v{at}"), &format!("[variables.v{}]", at - 1)).err());
        assert!(failed.is_some_and(|why| why.ends_with("recursion limit exceeded: 400")));
    }
}
