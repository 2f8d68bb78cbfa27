//! Match conditions of authorization webhooks: expressions over the spec of a `SubjectAccessReview`.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use troupe_api::{
    expressions::{Declaration, Environment, Failure, Field, Identity, Meter, ObjectType, Program, Type, Val, from_json},
    status::aggregate,
};

/// What all conditions of a webhook may cost together.
const MOST: u64 = 2_500_000;

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let text = || Declaration::plain(Type::String, u64::MAX, 2);
    let texts = || Declaration::list(text(), Identity::Place, u64::MAX);
    let requirement = || object("kubernetes.SelectorRequirement", vec![("key", text()), ("operator", text()), ("values", texts())]);
    let selector =
        |name: &str| object(name, vec![("rawSelector", text()), ("requirements", Declaration::list(requirement(), Identity::Place, u64::MAX))]);
    let mut resource: Vec<_> = ["namespace", "verb", "group", "version", "resource", "subresource", "name"].map(|name| (name, text())).into();
    resource.push(("fieldSelector", selector("kubernetes.FieldSelectorAttributes")));
    resource.push(("labelSelector", selector("kubernetes.LabelSelectorAttributes")));
    let spec = vec![
        ("resourceAttributes", object("kubernetes.ResourceAttributes", resource)),
        ("nonResourceAttributes", object("kubernetes.NonResourceAttributes", vec![("path", text()), ("verb", text())])),
        ("user", text()),
        ("groups", texts()),
        ("extra", Declaration::map(texts(), u64::MAX)),
        ("uid", text()),
    ];
    Environment::default().with("request", Arc::new(object("kubernetes.SubjectAccessReviewSpec", spec)))
});

fn object(name: &str, fields: Vec<(&str, Declaration)>) -> Declaration {
    let field = |(name, declaration): (&str, Declaration)| (name.into(), Field { name: name.into(), declaration });
    Declaration::object(Arc::new(ObjectType { name: name.into(), fields: fields.into_iter().map(field).collect() }), 2)
}

/// # Errors
/// What is wrong with the condition, as upstream words it.
pub fn compile(text: &str) -> Result<Program, String> {
    Program::compile(text, &Type::Bool, &ENVIRONMENT).map_err(|failure| match failure {
        Failure::Compilation(why) => format!("compilation failed: {why}"),
        Failure::Instantiation(why) => why,
        Failure::WrongType(_) => "must evaluate to bool".to_owned(),
    })
}

/// Conditions of one webhook.
pub struct Conditions(Vec<(String, Program)>);

impl Conditions {
    /// # Errors
    /// What is wrong with one.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        texts.iter().map(|text| Ok((text.clone(), compile(text)?))).collect::<Result<_, String>>().map(Conditions)
    }

    /// Whether all hold for a spec. One that does not hold decides; else those that cannot be evaluated do.
    ///
    /// # Errors
    /// What went wrong.
    pub fn hold(&self, spec: &Value) -> Result<bool, String> {
        let mut failures = Vec::new();
        let mut meter = Meter::new(MOST);
        for (text, program) in &self.0 {
            let failed = |why: &str| format!("cel evaluation error: expression '{text}' resulted in error: {why}");
            meter.begin();
            let shown = from_json(spec, &ENVIRONMENT.variables[0].declaration).map_err(|fault| failed(fault.text()))?;
            match program.evaluate(&[Some(shown)], &mut meter) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(_) => failures.push(failed("it is no boolean")),
                Err(fault) => failures.push(failed(fault.text())),
            }
        }
        if failures.is_empty() { Ok(true) } else { Err(aggregate(&failures)) }
    }
}
