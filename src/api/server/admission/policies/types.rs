//! The types of a policy's expressions, checked against the kinds that it is asked about: what becomes its status
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`, `typechecking.go`). Nothing else follows from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use troupe_api::{
    expressions::{Declaration, Field, Identity, ObjectType, Type, escape},
    meta::{GroupVersion, GroupVersionKind, Object},
    resources::{
        Registry, SchemaSource,
        custom::{CustomSchema, validations},
        tree::{at, flag, items, text},
        validation::admission::environment::Compiler,
    },
    schema::{Kind, ListType, Node, Schema, Struct},
};

/// Kinds that one rule is checked against.
const MOST_KINDS: usize = 10;
/// How deep fields are known. Kinds that hold themselves would be known without end.
const DEEPEST: usize = 24;
/// The size of what has no bound of its own.
const UNBOUNDED: u64 = u64::MAX;

/// Something that an expression gets wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionWarning {
    /// The path of the field, such as `spec.validations[0].expression`.
    pub field_ref: String,
    pub warning: String,
}

/// Checks a `ValidatingAdmissionPolicy`.
pub fn check(policy: &Object, registry: &Registry) -> Vec<ExpressionWarning> {
    let spec = policy.get(&["spec"]).unwrap_or(&Value::Null);
    let params = params(spec, registry);
    let compilers: Vec<(String, Compiler)> = kinds(spec, registry)
        .into_iter()
        .filter_map(|(group, version, kind)| {
            let declared = declared(&group, &version, &kind, registry)?;
            let mut compiler = Compiler::typed(Some(declared), params.clone());
            for variable in items(spec, &["variables"]) {
                let ty = compiler.check(text(variable, &["expression"])).unwrap_or(Type::Dyn);
                compiler.declare(text(variable, &["name"]), &ty);
            }
            Some((format!("{group}/{version}, Kind={kind}"), compiler))
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in items(spec, &["validations"]).iter().enumerate() {
        for name in ["expression", "messageExpression"] {
            let written = text(validation, &[name]);
            if name == "messageExpression" && written.is_empty() {
                continue;
            }
            let told = compilers.iter().filter_map(|(kind, compiler)| Some(format!("{kind}: {}\n", compiler.check(written).err()?)));
            let told: Vec<String> = told.collect();
            if !told.is_empty() {
                warnings.push(ExpressionWarning { field_ref: format!("spec.validations[{index}].{name}"), warning: told.join("\n") });
            }
        }
    }
    warnings
}

/// The kinds that rules name without wildcards: group, version, kind.
fn kinds(spec: &Value, registry: &Registry) -> BTreeSet<(String, String, String)> {
    let mut kinds = BTreeSet::new();
    for rule in items(spec, &["matchConstraints", "resourceRules"]) {
        let texts = |field: &str| items(rule, &[field]).iter().filter_map(Value::as_str).collect::<BTreeSet<_>>();
        let (groups, versions, mut resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        resources.retain(|name| !name.contains(['*', '/']));
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for resource in &resources {
                    let Some(row) = registry.by_resource(group, resource).filter(|row| row.serves(version)) else { continue };
                    kinds.insert(((*group).to_owned(), (*version).to_owned(), row.kind.to_string()));
                    count += 1;
                    if count == MOST_KINDS {
                        return kinds;
                    }
                }
            }
        }
    }
    kinds
}

/// What is known of parameters: nothing where there are none, and nothing more where their kind is not served.
fn params(spec: &Value, registry: &Registry) -> Option<Option<Declaration>> {
    let kind = at(spec, &["paramKind"]);
    let GroupVersion { group, version } = GroupVersion::parse(text(kind, &["apiVersion"]));
    kind.is_object().then(|| declared(&group, &version, text(kind, &["kind"]), registry))
}

fn declared(group: &str, version: &str, kind: &str, registry: &Registry) -> Option<Declaration> {
    let row = registry.by_kind(group, kind).filter(|row| row.serves(version))?;
    let served = row.version(version);
    if let SchemaSource::Defined(schema) = &served.schema {
        return Some(of_definition(schema, kind));
    }
    let schema = served.schema.get()?;
    Some(of_schema(&schema, &row.gvk(version)))
}

/// A custom resource: all that its definition says of values, and the metadata that every object has.
fn of_definition(schema: &CustomSchema, kind: &str) -> Declaration {
    let (source, known) = (schema.source(), schema.schema());
    let root = known.root_struct();
    if root.preserve_unknown {
        return Declaration::any();
    }
    let own = |field: &troupe_api::schema::Field, name: &str| {
        let inner = at(&source, &["properties", &field.name]);
        validations::declaration(inner, flag(inner, &["x-kubernetes-embedded-resource"]), name)
    };
    let mut fields = BTreeMap::new();
    for field in root.fields() {
        let Some(escaped) = escape(&field.name) else { continue };
        let name = format!("{kind}.{escaped}");
        let is_of_every_object = matches!(&*field.name, "apiVersion" | "kind" | "metadata");
        let declaration = if is_of_every_object { Some(of_node(&field.node, &name, &mut Vec::new())) } else { own(field, &name) };
        if let Some(declaration) = declaration {
            fields.insert(escaped.into(), Field { name: field.name.clone(), declaration });
        }
    }
    Declaration::object(Arc::new(ObjectType { name: kind.into(), fields }), 2)
}

fn of_schema(schema: &Schema, gvk: &GroupVersionKind) -> Declaration {
    of_struct(schema.root_struct(), &gvk.kind, &mut Vec::new())
}

fn of_struct(holder: &Arc<Struct>, name: &str, around: &mut Vec<Box<str>>) -> Declaration {
    let is_within_itself = around.contains(&holder.full_name) && !holder.full_name.is_empty();
    if holder.preserve_unknown || is_within_itself || around.len() >= DEEPEST {
        return Declaration::any();
    }
    around.push(holder.full_name.clone());
    let mut fields = BTreeMap::new();
    for field in holder.fields() {
        let Some(escaped) = escape(&field.name) else { continue };
        let declaration = of_node(&field.node, &format!("{name}.{escaped}"), around);
        fields.insert(escaped.into(), Field { name: field.name.clone(), declaration });
    }
    around.pop();
    Declaration::object(Arc::new(ObjectType { name: name.into(), fields }), 2)
}

fn of_node(node: &Node, name: &str, around: &mut Vec<Box<str>>) -> Declaration {
    let plain = |ty: Type| Declaration::plain(ty, UNBOUNDED, 1);
    match &node.kind {
        Kind::String => plain(Type::String),
        Kind::Bytes => plain(Type::Bytes),
        Kind::Int32 | Kind::Int64 => plain(Type::Int),
        Kind::Bool => plain(Type::Bool),
        Kind::Double => plain(Type::Double),
        Kind::Time | Kind::MicroTime => plain(Type::Timestamp),
        Kind::IntOrString | Kind::Quantity | Kind::Duration | Kind::Any => Declaration::any(),
        Kind::Struct(reference) => of_struct(reference.get(), name, around),
        Kind::List(item) => {
            let identity = match &node.list {
                ListType::Atomic => Identity::Place,
                ListType::Set => Identity::Value,
                ListType::Map(keys) => Identity::Keys(keys.iter().cloned().collect()),
            };
            Declaration::list(of_node(item, &format!("{name}.@idx"), around), identity, UNBOUNDED)
        }
        Kind::Map(value) => Declaration::map(of_node(value, &format!("{name}.@elem"), around), UNBOUNDED),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use troupe_api::resources::builtin;

    fn warnings(spec: Value) -> Vec<ExpressionWarning> {
        let policy = Object::from_value(json!({"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec}));
        check(&policy.expect("an object"), &Registry::new(builtin()))
    }

    fn of(expression: &str, params: Value) -> Vec<ExpressionWarning> {
        let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/status", "statefulsets"]}]);
        let variables = json!([{"name": "replicas", "expression": "object.spec.replicas"}, {"name": "odd", "expression": "object.nothing"}]);
        let validations = json!([{"expression": "true"}, {"expression": expression, "messageExpression": "string(object.spec.replicas)"}]);
        warnings(json!({"matchConstraints": {"resourceRules": rules}, "variables": variables, "validations": validations, "paramKind": params}))
    }

    #[test]
    fn what_fits_no_kind_is_told_of_each() {
        let told = of("object.spec.replicas > '1'", Value::Null);
        let [warning] = &told[..] else { panic!("{told:?}") };
        assert_eq!(warning.field_ref, "spec.validations[1].expression");
        let (first, second) = warning.warning.split_once("\n\n").expect("two kinds");
        assert!(
            first.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"),
            "{first}"
        );
        assert!(second.starts_with("apps/v1, Kind=StatefulSet: ") && second.ends_with('\n'), "{second}");
        for (expression, why) in [
            ("object.spec.nothing == 1", "undefined field 'nothing'"),
            ("variables.replicas == 'x'", "found no matching overload for '_==_' applied to '(int, string)'"),
            ("authorizer.requestResource.check('get').allowed()", "does not support field selection"),
        ] {
            let told = of(expression, Value::Null);
            assert!(told.len() == 1 && told[0].warning.contains(why), "{expression}: {told:?}");
        }
    }

    #[test]
    fn what_fits_or_is_not_known_is_not_told() {
        for expression in [
            "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b' && variables.odd == 5",
            "object.spec.template.spec.containers.all(c, !has(c.securityContext) || c.resources.limits['cpu'] == 1)",
            "authorizer.group('').resource('pods').check('get').allowed() && namespaceObject.metadata.name == request.namespace",
        ] {
            assert!(of(expression, Value::Null).is_empty(), "{expression}");
        }
        assert!(of("params.data['x'] == ''", json!({"apiVersion": "v1", "kind": "ConfigMap"})).is_empty());
        assert!(of("params.anything == ''", json!({"apiVersion": "example.com/v1", "kind": "Thing"})).is_empty());
        assert_eq!(of("params.spec == ''", json!({"apiVersion": "v1", "kind": "ConfigMap"})).len(), 1);
        let any = json!([{"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["deployments"]}]);
        assert!(warnings(json!({"matchConstraints": {"resourceRules": any}, "validations": [{"expression": "object.nothing"}]})).is_empty());
    }

    #[test]
    fn kinds_that_hold_themselves_are_known_so_far() {
        let rules = json!([{"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"], "resources": ["customresourcedefinitions"]}]);
        let expression = "object.spec.versions.all(v, v.schema.openAPIV3Schema.properties.all(p, p != ''))";
        assert!(warnings(json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]})).is_empty());
    }
}
