//! `PodSecurity`: holds pods to the Pod Security Standards that their namespace's labels name.
//!
//! Pods that break what is enforced are refused. What is only audited or warned of is told, for pods and for the templates
//! of their controllers; a namespace that comes to enforce more is told which of its pods would be refused.

mod checks;
mod config;
mod metrics;
mod namespaces;
mod policy;
mod updates;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    resources::tree,
    status::{FieldError, Status, aggregate},
    stored::StoredObject,
};

use self::{
    checks::{PodView, Violation, in_detail, violations},
    policy::PREFIX,
};
pub use self::{
    config::{Configuration, ConfigurationError, Exemptions},
    metrics::COLLECTORS,
    policy::{Level, LevelVersion, Policy, Version},
};
use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Debug)]
pub struct PodSecurity {
    configuration: Arc<Configuration>,
}

impl Default for PodSecurity {
    fn default() -> Self {
        PodSecurity::new(Configuration::default())
    }
}

/// Subresources of pods whose requests carry no pod, or cannot change its spec. All others are looked at.
const IGNORED_SUBRESOURCES: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for PodSecurity {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let Some(object) = request.object() else { return Ok(()) };
        let resource = &request.target.resource;
        match resource.pod {
            Some([]) => self.validate_pod(request, object).await,
            Some(path) => {
                self.look_at_template(request, object.at(path)).await;
                Ok(())
            }
            None if resource.group.is_empty() && &*resource.plural == "namespaces" => self.validate_namespace(request, object).await,
            None => Ok(()),
        }
    }
}

impl PodSecurity {
    pub fn new(configuration: Configuration) -> Self {
        metrics::prepare();
        PodSecurity { configuration: Arc::new(configuration) }
    }

    async fn validate_pod(&self, request: &Attributes<'_>, pod: &Object) -> Result<(), Status> {
        if IGNORED_SUBRESOURCES.contains(&&*request.target.subresource) || self.exempts(request) {
            return Ok(());
        }
        let namespace = namespace_of(request).await.map_err(|why| {
            metrics::failed(true, request);
            let status = Status::internal(format!("failed to lookup namespace \"{}\"", request.target.namespace));
            annotate(request, "error", format!("{}: {}", status.message, why.message));
            status
        })?;
        let (policy, errors) = self.policy_of(&namespace);
        if errors.is_empty() && policy.is_privileged() {
            metrics::evaluated(true, policy.enforce, "enforce", request);
            annotate(request, "enforce-policy", LevelVersion::PRIVILEGED.to_string());
            return Ok(());
        }
        if let (Operation::Update, Some(old)) = (request.operation, request.old)
            && !updates::is_significant(pod, old)
        {
            return Ok(());
        }
        self.evaluate(request, pod.root(), policy, &errors, true)
    }

    /// Audits and warns; controllers are never refused.
    async fn look_at_template(&self, request: &Attributes<'_>, template: Option<&Map<String, Value>>) {
        if !request.target.subresource.is_empty() || self.exempts(request) {
            return;
        }
        let namespace = match namespace_of(request).await {
            Ok(namespace) => namespace,
            Err(why) => {
                metrics::failed(true, request);
                return annotate(request, "error", format!("failed to lookup namespace \"{}\": {}", request.target.namespace, why.message));
            }
        };
        let (policy, errors) = self.policy_of(&namespace);
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        let Some(template) = template.filter(|_| !errors.is_empty() || !silent) else { return };
        self.evaluate(request, template, policy, &errors, false).expect("only what is enforced is refused");
    }

    /// Holds a pod or a template against the modes of a policy.
    fn evaluate(
        &self,
        request: &Attributes<'_>,
        pod: &Map<String, Value>,
        policy: Policy,
        errors: &[FieldError],
        enforce: bool,
    ) -> Result<(), Status> {
        let pod = PodView::new(pod);
        if self.configuration.exemptions.runtime_classes.contains(tree::text(pod.spec, &["runtimeClassName"])) {
            metrics::exempted(request);
            annotate(request, "exempt", "runtimeClass");
            return Ok(());
        }
        if !errors.is_empty() {
            metrics::failed(false, request);
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            annotate(request, "error", format!("Failed to parse policy: {}", aggregate(&errors)));
        }
        let mut results = Results { pod, known: Vec::new() };
        let refusal = enforce.then(|| self.enforce(request, policy.enforce, &mut results)).flatten();
        if let Some(words) = results.in_words("would violate", policy.audit) {
            annotate(request, "audit-violations", words);
            metrics::evaluated(false, policy.audit, "audit", request);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let Some(words) = results.in_words("would violate", policy.warn) {
            request.notices.warn(words);
            metrics::evaluated(false, policy.warn, "warn", request);
        }
        Ok(())
    }

    /// The refusal of a pod that breaks what is enforced.
    fn enforce(&self, request: &Attributes<'_>, policy: LevelVersion, results: &mut Results<'_>) -> Option<Status> {
        annotate(request, "enforce-policy", policy.to_string());
        let words = results.in_words("violates", policy);
        metrics::evaluated(words.is_none(), policy, "enforce", request);
        words.map(|words| request.forbidden(words))
    }

    fn policy_of(&self, namespace: &StoredObject) -> (Policy, Vec<FieldError>) {
        Policy::of_labels(|name| namespace.meta().labels.get(name), self.configuration.defaults)
    }

    /// Whether the request's namespace or user is not looked at.
    fn exempts(&self, request: &Attributes<'_>) -> bool {
        let exemptions = &self.configuration.exemptions;
        let reason = match () {
            () if exemptions.namespaces.contains(&*request.target.namespace) => "namespace",
            () if exemptions.usernames.contains(&request.user.name) => "user",
            () => return false,
        };
        metrics::exempted(request);
        annotate(request, "exempt", reason);
        true
    }
}

/// What breaks `policy` in a pod, in upstream's words; nothing where all is well.
pub fn verdict(policy: LevelVersion, pod: &Object) -> Option<String> {
    let found = violations(policy, &PodView::new(pod.root()));
    (!found.is_empty()).then(|| in_detail(&found))
}

/// What the policies of one request find in its pod; each is asked once.
struct Results<'a> {
    pod: PodView<'a>,
    known: Vec<(LevelVersion, Vec<Violation>)>,
}

impl Results<'_> {
    /// What breaks `policy`; nothing where all is well.
    fn in_words(&mut self, verb: &str, policy: LevelVersion) -> Option<String> {
        if !self.known.iter().any(|(known, _)| *known == policy) {
            self.known.push((policy, violations(policy, &self.pod)));
        }
        let (_, found) = self.known.iter().find(|(known, _)| *known == policy)?;
        (!found.is_empty()).then(|| format!("{verb} PodSecurity \"{policy}\": {}", in_detail(found)))
    }
}

fn annotate(request: &Attributes<'_>, name: &str, text: impl Into<String>) {
    request.notices.annotate(format!("{PREFIX}{name}"), text);
}

async fn namespace_of(request: &Attributes<'_>) -> Result<Arc<StoredObject>, Status> {
    let namespaces = GroupResource::new("", "namespaces");
    let key = ObjectKey::cluster(request.target.namespace.clone());
    if let Some(namespace) = request.reads.listers().get(&namespaces, &key) {
        return Ok(namespace);
    }
    let namespace = request.reads.live(&namespaces, &key).await?;
    namespace.ok_or_else(|| Status::not_found(&namespaces, &key.name))
}
