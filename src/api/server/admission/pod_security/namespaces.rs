//! Namespaces: their labels must be readable, and whoever makes them stricter is told which pods would be refused.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use troupe_api::{
    meta::{GroupResource, Object},
    resources::tree,
    status::{FieldError, Status},
    stored::StoredObject,
};

use super::{
    Exemptions, PodSecurity,
    checks::{PodView, in_short, violations},
    policy::{Level, LevelVersion, PREFIX, Policy},
};
use crate::admission::{Attributes, Operation};

/// How many pods are looked at, and for how long, when a namespace becomes stricter.
const MOST_PODS: usize = 3000;
const LONGEST: Duration = Duration::from_secs(1);
/// Pods looked at before others get a turn.
const AT_ONCE: usize = 16;

impl PodSecurity {
    pub(super) async fn validate_namespace(&self, request: &Attributes<'_>, namespace: &Object) -> Result<(), Status> {
        if !request.target.subresource.is_empty() {
            return Ok(());
        }
        let policy_of = |namespace: &Object| self.policy_of_labels(namespace);
        let (policy, errors) = policy_of(namespace);
        let exempt = self.configuration.exemptions.namespaces.contains(namespace.name());
        let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
            if exempt && errors.is_empty() {
                self.warn_of_exemption(request, namespace, &policy);
            }
            return checked(namespace, errors);
        };
        let (old_policy, old_errors) = policy_of(old);
        if errors != old_errors {
            checked(namespace, errors)?;
        }
        if !is_stricter(policy.enforce, old_policy.enforce) {
            return Ok(());
        }
        if exempt {
            self.warn_of_exemption(request, namespace, &policy);
            return Ok(());
        }
        let pods = request.reads.listers().list(&GroupResource::new("", "pods"), namespace.name());
        let inspection = Inspection { policy: policy.enforce, exemptions: &self.configuration.exemptions };
        let ends = request.reads.clock().instant() + LONGEST;
        for warning in inspection.warnings(namespace.name(), pods, || request.reads.clock().instant() >= ends).await {
            request.notices.warn(warning);
        }
        Ok(())
    }

    fn policy_of_labels(&self, namespace: &Object) -> (Policy, Vec<FieldError>) {
        Policy::of_labels(|name| namespace.label(name), self.configuration.defaults)
    }

    /// Labels of an exempt namespace do nothing.
    fn warn_of_exemption(&self, request: &Attributes<'_>, namespace: &Object, policy: &Policy) {
        if policy.is_privileged() || policy.is_equivalent(&self.configuration.defaults) {
            return;
        }
        let is_labelled = |mode: &str| ["", "-version"].iter().any(|suffix| namespace.label(&format!("{PREFIX}{mode}{suffix}")).is_some());
        let ignored = policy.modes().into_iter().filter(|(mode, policy)| policy.level != Level::Privileged && is_labelled(mode));
        let ignored = ignored.map(|(mode, policy)| format!("{mode}={policy}")).collect::<Vec<_>>().join(", ");
        let name = namespace.name();
        request.notices.warn(format!("namespace \"{name}\" is exempt from Pod Security, and the policy ({ignored}) will be ignored"));
    }
}

fn checked(namespace: &Object, errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "Namespace", namespace.name(), errors)) }
}

/// Whether pods that were allowed may be refused from now on.
fn is_stricter(new: LevelVersion, old: LevelVersion) -> bool {
    new != old && new.level != Level::Privileged && (new.version != old.version || new.level > old.level)
}

/// The look at the pods of a namespace that becomes stricter.
struct Inspection<'a> {
    policy: LevelVersion,
    exemptions: &'a Exemptions,
}

impl Inspection<'_> {
    async fn warnings(&self, namespace: &str, pods: Vec<Arc<StoredObject>>, is_over: impl Fn() -> bool) -> Vec<String> {
        let mut total = pods.len();
        let mut checked = 0;
        // By what is wrong: the first name, and how many.
        let mut found: BTreeMap<String, (Arc<str>, usize)> = BTreeMap::new();
        for pod in in_order(pods) {
            if checked == MOST_PODS || is_over() {
                break;
            }
            let object = pod.to_object();
            let view = PodView::new(object.root());
            if self.exemptions.runtime_classes.contains(tree::text(view.spec, &["runtimeClassName"])) {
                total -= 1;
                continue;
            }
            checked += 1;
            let violations = violations(self.policy, &view);
            if !violations.is_empty() {
                let (first, count) = found.entry(in_short(&violations)).or_insert_with(|| (pod.key.name.clone(), 0));
                *count += 1;
                if pod.key.name < *first {
                    *first = pod.key.name.clone();
                }
            }
            if checked % AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        let mut warnings = Vec::new();
        if checked < total {
            warnings.push(format!("new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"));
        }
        if !found.is_empty() {
            warnings.push(format!("existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{}\"", self.policy));
        }
        let mut of_pods: Vec<_> = found.into_iter().map(|(why, (first, count))| format!("{}: {why}", pods_in_words(&first, count))).collect();
        of_pods.sort_unstable();
        warnings.append(&mut of_pods);
        warnings
    }
}

/// `web-1 (and 2 other pods)`
fn pods_in_words(first: &str, count: usize) -> String {
    match count {
        1 => first.to_owned(),
        2 => format!("{first} (and 1 other pod)"),
        count => format!("{first} (and {} other pods)", count - 1),
    }
}

/// One pod of each controller first: those of one controller are alike.
fn in_order(pods: Vec<Arc<StoredObject>>) -> impl Iterator<Item = Arc<StoredObject>> {
    let mut seen = HashSet::new();
    let (first, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let controller = pod.meta().owner_references.iter().find(|owner| owner.controller);
        controller.is_none_or(|controller| seen.insert(controller.uid.clone()))
    });
    first.into_iter().chain(others)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::pod_security::Version;

    fn pod(name: &str, controller: Option<&str>, spec: Value) -> Arc<StoredObject> {
        let owners = controller.map(|uid| json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}]));
        let metadata = json!({"name": name, "namespace": "n", "uid": name, "ownerReferences": owners.unwrap_or(json!([]))});
        let object = Object::from_value(json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec})).expect("an object");
        Arc::new(StoredObject::from_object(&object).expect("it encodes"))
    }

    async fn warnings(pods: Vec<Arc<StoredObject>>, exemptions: &Exemptions, looks: usize) -> Vec<String> {
        let policy = LevelVersion { level: Level::Baseline, version: Version::Latest };
        let left = std::cell::Cell::new(looks);
        let is_over = || left.replace(left.get().saturating_sub(1)) == 0;
        Inspection { policy, exemptions }.warnings("n", pods, is_over).await
    }

    #[tokio::test]
    async fn pods_with_the_same_fault_are_told_together() {
        let bad = json!({"hostNetwork": true});
        let worse = json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {}}]});
        let mut pods: Vec<_> = ["c", "b", "d"].map(|name| pod(name, None, bad.clone())).into();
        pods.extend([
            pod("good", None, json!({})),
            pod("z", None, worse.clone()),
            pod("e", Some("u"), worse),
            pod(
                "a",
                None,
                json!({"hostPID": true, "volumes": [{"name": "v", "hostPath": {}}], "containers": [{"name": "x", "ports": [{"hostPort": 1}]}]}),
            ),
        ]);
        assert_eq!(
            warnings(pods, &Exemptions::default(), usize::MAX).await,
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a: host namespaces, hostPath volumes, hostPort",
                "b (and 2 other pods): host namespaces",
                "e (and 1 other pod): host namespaces, hostPath volumes",
            ]
        );
    }

    #[tokio::test]
    async fn one_pod_of_each_controller_is_looked_at_before_time_is_up() {
        let bad = json!({"hostNetwork": true});
        let good = |name: &str| pod(name, Some("many"), json!({}));
        let pods = vec![good("a"), good("b"), good("c"), pod("d", Some("other"), bad.clone()), pod("e", None, bad)];
        assert_eq!(
            warnings(pods, &Exemptions::default(), 3).await,
            [
                "new PodSecurity enforce level only checked against the first 3 of 5 existing pods",
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "d (and 1 other pod): host namespaces",
            ]
        );
    }

    #[tokio::test]
    async fn no_more_than_3000_pods_are_looked_at_and_exempt_classes_do_not_count() {
        let many: Vec<_> = (0..3002).map(|n| pod(&format!("p{n}"), None, json!({"runtimeClassName": if n == 0 { "kata" } else { "" }}))).collect();
        let exemptions = Exemptions { runtime_classes: ["kata".to_owned()].into(), ..Exemptions::default() };
        let told = warnings(many, &exemptions, usize::MAX).await;
        assert_eq!(told, ["new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods"]);
    }

    #[test]
    fn only_what_can_refuse_more_is_stricter() {
        let of = |text: &str| LevelVersion::parse(text).expect("a policy");
        let cases = [
            ("baseline:latest", "baseline:latest", false),
            ("privileged:v1.1", "restricted:latest", false),
            ("baseline:latest", "restricted:latest", false),
            ("restricted:latest", "baseline:latest", true),
            ("baseline:v1.30", "restricted:latest", true),
            ("baseline:latest", "privileged:v1.1", true),
        ];
        for (new, old, want) in cases {
            assert_eq!(is_stricter(of(new), of(old)), want, "{old} to {new}");
        }
    }
}
