//! Policies and bindings as their objects describe them, compiled.

use serde_json::Value;
use troupe_api::{
    expressions::{Composed, Program},
    meta::{GroupVersion, LabelSelector, Object},
    resources::{
        tree::{at, items, text},
        validation::admission::environment::{Compiler, Wanted, place},
    },
};

use crate::admission::{
    expressions::{Condition, Expression, Surroundings},
    matching::{MatchResources, selector},
};

/// A policy that is ready to be asked.
#[derive(Debug)]
pub struct Policy {
    pub name: Box<str>,
    pub resources: MatchResources,
    /// Whether what fails counts as if it had not been asked (`failurePolicy: Ignore`).
    pub ignores_failure: bool,
    pub params: Option<ParamKind>,
    pub conditions: Vec<Condition>,
    pub rules: Rules,
    /// What its expressions look at beside the object.
    pub needs: Needs,
    variables: Vec<Composed>,
    compiler: Compiler,
}

/// What a policy says.
#[derive(Debug)]
pub enum Rules {
    Validating { validations: Vec<Validation>, annotations: Vec<Annotation> },
    Mutating { mutations: Vec<Mutation>, reinvoked: bool },
}

#[derive(Debug)]
pub struct Validation {
    pub expression: Expression,
    pub message: Box<str>,
    pub message_expression: Option<Expression>,
    /// `Invalid` where nothing is said.
    pub reason: Option<Box<str>>,
}

/// An annotation of the audit event.
#[derive(Debug)]
pub struct Annotation {
    pub key: Box<str>,
    pub value: Expression,
}

#[derive(Debug)]
pub enum Mutation {
    ApplyConfiguration(Expression),
    JsonPatch(Expression),
}

impl Mutation {
    pub fn expression(&self) -> &Expression {
        match self {
            Mutation::ApplyConfiguration(expression) | Mutation::JsonPatch(expression) => expression,
        }
    }
}

/// The kind of the objects with parameters.
#[derive(Clone, Debug)]
pub struct ParamKind {
    pub version: GroupVersion,
    pub kind: Box<str>,
}

/// What is made only where somebody looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    pub request: bool,
    pub namespace: bool,
    pub authorizer: bool,
}

impl Needs {
    fn of(programs: &[&Program]) -> Self {
        let uses = |variable| programs.iter().any(|program| program.uses(variable));
        Needs {
            request: uses(place::REQUEST),
            namespace: uses(place::NAMESPACE),
            authorizer: uses(place::AUTHORIZER) || uses(place::REQUEST_RESOURCE),
        }
    }
}

impl Policy {
    /// Reads a `ValidatingAdmissionPolicy` or a `MutatingAdmissionPolicy`.
    pub fn read(object: &Object) -> Self {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let params = params(at(spec, &["paramKind"]));
        let mut compiler = Compiler::new(params.is_some(), true);
        let variables = items(spec, &["variables"]).iter().map(|variable| {
            let name = text(variable, &["name"]);
            (name.into(), compiler.variable(name, text(variable, &["expression"])))
        });
        let variables: Vec<Composed> = variables.collect();
        let conditions: Vec<Condition> = items(spec, &["matchConditions"]).iter().map(|one| Condition::read(one, &mut compiler)).collect();
        let rules = match object.kind() {
            "MutatingAdmissionPolicy" => mutating(spec, &mut compiler),
            _ => validating(spec, &mut compiler),
        };
        let mut programs: Vec<&Program> = variables.iter().filter_map(|(_, program)| program.as_ref().ok()).collect();
        programs.extend(conditions.iter().map(|condition| &condition.0).chain(rules.expressions()).filter_map(Expression::program));
        Policy {
            name: object.name().into(),
            resources: MatchResources::of_policy(at(spec, &["matchConstraints"])),
            ignores_failure: text(spec, &["failurePolicy"]) == "Ignore",
            params,
            needs: Needs::of(&programs),
            conditions,
            rules,
            variables,
            compiler,
        }
    }

    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { variables: &self.variables, compiler: &self.compiler }
    }

    pub fn is_reinvoked(&self) -> bool {
        matches!(self.rules, Rules::Mutating { reinvoked: true, .. })
    }
}

impl Rules {
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let (validations, annotations, mutations): (&[Validation], &[Annotation], &[Mutation]) = match self {
            Rules::Validating { validations, annotations } => (validations, annotations, &[]),
            Rules::Mutating { mutations, .. } => (&[], &[], mutations),
        };
        let validations = validations.iter().flat_map(|one| [Some(&one.expression), one.message_expression.as_ref()].into_iter().flatten());
        validations.chain(annotations.iter().map(|one| &one.value)).chain(mutations.iter().map(Mutation::expression))
    }
}

fn params(kind: &Value) -> Option<ParamKind> {
    let version = GroupVersion::parse(text(kind, &["apiVersion"]));
    kind.is_object().then(|| ParamKind { version, kind: text(kind, &["kind"]).into() })
}

fn validating(spec: &Value, compiler: &mut Compiler) -> Rules {
    let some = |value: &Value, field: &str| Some(text(value, &[field])).filter(|text| !text.is_empty()).map(Box::<str>::from);
    let validations = items(spec, &["validations"]).iter().map(|one| Validation {
        expression: Expression::compile(text(one, &["expression"]), compiler, Wanted::Condition),
        message: text(one, &["message"]).into(),
        message_expression: some(one, "messageExpression").map(|text| Expression::compile(&text, compiler, Wanted::Message)),
        reason: some(one, "reason"),
    });
    let validations = validations.collect();
    let annotations = items(spec, &["auditAnnotations"]).iter().map(|one| Annotation {
        key: text(one, &["key"]).into(),
        value: Expression::compile(text(one, &["valueExpression"]), compiler, Wanted::Annotation),
    });
    Rules::Validating { validations, annotations: annotations.collect() }
}

fn mutating(spec: &Value, compiler: &mut Compiler) -> Rules {
    let mutations = items(spec, &["mutations"]).iter().map(|one| match text(one, &["patchType"]) {
        "JSONPatch" => Mutation::JsonPatch(Expression::compile(text(one, &["jsonPatch", "expression"]), compiler, Wanted::JsonPatch)),
        _ => {
            let written = text(one, &["applyConfiguration", "expression"]);
            Mutation::ApplyConfiguration(Expression::compile(written, compiler, Wanted::ApplyConfiguration))
        }
    });
    Rules::Mutating { mutations: mutations.collect(), reinvoked: text(spec, &["reinvocationPolicy"]) == "IfNeeded" }
}

/// A binding: where a policy holds, with which parameters, and what follows.
#[derive(Debug)]
pub struct Binding {
    pub name: Box<str>,
    pub policy: Box<str>,
    /// Wherever the policy is asked, if there are none.
    pub resources: Option<MatchResources>,
    pub params: Option<ParamRef>,
    /// `Deny`, `Warn` and `Audit`, of bindings of validating policies.
    pub actions: Vec<String>,
}

/// Which objects have the parameters.
#[derive(Debug)]
pub struct ParamRef {
    pub name: Box<str>,
    /// Empty for that of the request.
    pub namespace: Box<str>,
    pub selector: Option<LabelSelector>,
    /// Whether it is an error that there are none (`parameterNotFoundAction: Deny`).
    pub must_exist: bool,
}

impl Binding {
    pub fn read(object: &Object) -> Self {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let (resources, reference) = (at(spec, &["matchResources"]), at(spec, &["paramRef"]));
        Binding {
            name: object.name().into(),
            policy: text(spec, &["policyName"]).into(),
            resources: resources.is_object().then(|| MatchResources::of_policy(resources)),
            params: reference.is_object().then(|| ParamRef {
                name: text(reference, &["name"]).into(),
                namespace: text(reference, &["namespace"]).into(),
                selector: reference.get("selector").filter(|selector| !selector.is_null()).map(selector),
                must_exist: text(reference, &["parameterNotFoundAction"]) == "Deny",
            }),
            actions: items(spec, &["validationActions"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}
