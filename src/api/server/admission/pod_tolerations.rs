//! `PodTolerationRestriction`: a namespace says what its pods tolerate, and what they may.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_api::{
    document::Document,
    meta::Object,
    resources::kinds::qos_class,
    status::{Reason, Status},
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin, namespace_exists::namespace_of};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// The plugin's configuration: what counts for namespaces that say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodTolerationRestrictionConfiguration {
    default: Vec<Toleration>,
    whitelist: Vec<Toleration>,
}

impl Document for PodTolerationRestrictionConfiguration {
    const GROUP: &'static str = "podtolerationrestriction.admission.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1alpha1"];
    const KIND: &'static str = "Configuration";
}

/// A toleration as annotations and configurations have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Toleration {
    key: String,
    operator: String,
    value: String,
    effect: String,
    toleration_seconds: Option<i64>,
}

impl Toleration {
    fn tree(&self) -> Value {
        let texts = [("key", &self.key), ("operator", &self.operator), ("value", &self.value), ("effect", &self.effect)];
        let mut tree: serde_json::Map<String, Value> =
            texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(field, text)| (field.to_owned(), json!(text))).collect();
        tree.extend(self.toleration_seconds.map(|seconds| ("tolerationSeconds".to_owned(), json!(seconds))));
        Value::Object(tree)
    }

    /// Whether it tolerates all that the other does.
    fn covers(&self, other: &Toleration) -> bool {
        if self == other {
            return true;
        }
        let any_key = self.key.is_empty() && self.operator == "Exists";
        let key = self.key == other.key || any_key;
        let effect = self.effect == other.effect || self.effect.is_empty();
        let as_long = match self.toleration_seconds.filter(|_| self.effect == "NoExecute") {
            Some(seconds) => other.toleration_seconds.is_some_and(|others| others <= seconds),
            None => true,
        };
        let value = match self.operator.as_str() {
            "Exists" => true,
            "Equal" | "" => other.operator == "Equal" && self.value == other.value,
            _ => false,
        };
        key && effect && as_long && value
    }
}

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct PodTolerationRestriction {
    configuration: PodTolerationRestrictionConfiguration,
}

impl PodTolerationRestriction {
    pub fn new(configuration: PodTolerationRestrictionConfiguration) -> Self {
        PodTolerationRestriction { configuration }
    }

    async fn check(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some(tolerations) = request.object().map(tolerations).filter(|all| !all.is_empty()) else { return Ok(()) };
        let (allowed, scope) = match of_namespace(request, ALLOWED).await? {
            Some(own) => (own, "namespace"),
            None => (self.configuration.whitelist.clone(), "cluster"),
        };
        let fits = |toleration: &Toleration| allowed.iter().any(|allowed| allowed.covers(toleration));
        if allowed.is_empty() || tolerations.iter().all(fits) {
            return Ok(());
        }
        let why = format!("pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist");
        Err(Status::new(500, Reason::InternalError, why))
    }
}

impl Plugin for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl MutatingPlugin for PodTolerationRestriction {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let mut more = match request.operation {
            Operation::Create => of_namespace(request, DEFAULTS).await?.unwrap_or_else(|| self.configuration.default.clone()),
            _ => Vec::new(),
        };
        if request.object().is_some_and(|pod| qos_class(pod) != "BestEffort") {
            more.push(Toleration { key: MEMORY_PRESSURE.into(), operator: "Exists".into(), effect: "NoSchedule".into(), ..Toleration::default() });
        }
        if let Some(pod) = request.object_mut().filter(|_| !more.is_empty()) {
            let merged: Vec<Value> = merge(tolerations(pod), more).iter().map(Toleration::tree).collect();
            pod.set(&["spec", "tolerations"], merged);
        }
        self.check(request).await
    }
}

#[async_trait]
impl ValidatingPlugin for PodTolerationRestriction {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if concerns(request) { self.check(request).await } else { Ok(()) }
    }
}

fn concerns(request: &Attributes<'_>) -> bool {
    matches!(request.operation, Operation::Create | Operation::Update) && request.is_main("", "pods")
}

fn tolerations(pod: &Object) -> Vec<Toleration> {
    pod.list(&["spec", "tolerations"]).iter().filter_map(|tree| serde_json::from_value(tree.clone()).ok()).collect()
}

/// What an annotation of the pod's namespace says; nothing where it has none.
async fn of_namespace(request: &Attributes<'_>, annotation: &str) -> Result<Option<Vec<Toleration>>, Status> {
    let namespace = namespace_of(request).await?.to_object();
    match namespace.annotation(annotation) {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(text).map(Some).map_err(Status::internal),
    }
}

/// Both, without those that another covers.
fn merge(mut all: Vec<Toleration>, more: Vec<Toleration>) -> Vec<Toleration> {
    all.extend(more);
    let mut merged: Vec<Toleration> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let before = merged.iter().any(|kept| kept.covers(toleration));
        let behind = all[index + 1..].iter().any(|later| later != toleration && later.covers(toleration));
        if !before && !behind {
            merged.push(toleration.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(tree: Value) -> Toleration {
        serde_json::from_value(tree).expect("a toleration")
    }

    #[test]
    fn the_wider_of_two_is_kept() {
        let one = toleration(json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"}));
        let all_of_key = toleration(json!({"key": "a", "operator": "Exists"}));
        let everything = toleration(json!({"operator": "Exists"}));
        assert!(all_of_key.covers(&one) && everything.covers(&all_of_key) && !one.covers(&all_of_key));
        assert_eq!(merge(vec![one.clone()], vec![all_of_key.clone()]), std::slice::from_ref(&all_of_key));
        assert_eq!(merge(vec![everything.clone()], vec![all_of_key, one]), [everything]);
    }

    #[test]
    fn one_that_ends_does_not_cover_one_that_stays() {
        let minute = toleration(json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}));
        let moment = Toleration { toleration_seconds: Some(5), ..minute.clone() };
        let ever = Toleration { toleration_seconds: None, ..minute.clone() };
        assert!(minute.covers(&moment) && !minute.covers(&ever) && ever.covers(&minute));
    }
}
