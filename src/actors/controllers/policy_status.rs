//! ValidatingAdmissionPolicy status: what is wrong with the types of a policy's expressions
//! (`pkg/controller/validatingadmissionpolicystatus`). Checked once for each generation.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use serde_json::{Value, json};
use troupe_api::{
    aside,
    meta::{Object, ObjectKey},
    service::{Operation, PatchType, Target, WriteOptions},
    status::Status,
};
use troupe_api_server::admission::policies::types::{self, ExpressionWarning};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

const GROUP: &str = "admissionregistration.k8s.io";
const KIND: &str = "ValidatingAdmissionPolicy";
/// Owns the status, by upstream's name.
const FIELD_MANAGER: &str = "validatingadmissionpolicy-status";
/// A policy is held against the schemas of whole kinds, which takes longer than reading it.
const WORK: usize = aside::SMALL + 1;

/// See the module. Keys are policies.
pub struct PolicyStatusController {
    policies: Cache<ValidatingAdmissionPolicy>,
}

impl PolicyStatusController {
    pub fn new(caches: &Caches) -> Self {
        PolicyStatusController { policies: caches.cache() }
    }
}

/// The generation whose types are not checked yet.
fn unchecked(policy: &ValidatingAdmissionPolicy) -> Option<i64> {
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    policy.metadata.generation.filter(|generation| *generation > observed)
}

/// What to apply as status.
fn plan(name: &str, generation: i64, warnings: &[ExpressionWarning]) -> Value {
    let warnings: Vec<Value> = warnings.iter().map(|one| json!({"fieldRef": one.field_ref, "warning": one.warning})).collect();
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": KIND,
        "metadata": {"name": name},
        "status": {"observedGeneration": generation, "typeChecking": checked},
    })
}

impl Controller for PolicyStatusController {
    const NAME: &'static str = "validatingadmissionpolicy-status";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ValidatingAdmissionPolicy>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(policy) = self.policies.get(key) else { return Ok(Outcome::Done) };
        let Some(generation) = unchecked(&policy.object) else { return Ok(Outcome::Done) };
        let registry = cx.client().service().registry();
        let tree = serde_json::to_value(&*policy.object).ok().and_then(Object::from_value).ok_or_else(|| Status::internal("no object"))?;
        let known = registry.clone();
        let warnings = aside::compute(WORK, move || types::check(&tree, &known)).await;
        let resource = registry.by_kind(GROUP, KIND).ok_or_else(Status::page_not_found)?;
        let target = Target { resource, version: "v1".into(), namespace: "".into(), name: key.name.clone(), subresource: "status".into() };
        let options = WriteOptions { field_manager: FIELD_MANAGER.into(), force: true, ..WriteOptions::default() };
        let body = serde_json::to_vec(&plan(&key.name, generation, &warnings)).map_err(Status::internal)?.into();
        let reply = cx.client().call(target, Operation::Patch { patch_type: PatchType::Apply, body, options }).await?;
        let written = reply.into_stored()?.typed::<ValidatingAdmissionPolicy>().map_err(Status::internal)?;
        cx.wrote(&self.policies, &*written);
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_checked_once() {
        let mut policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({"metadata": {"name": "p", "generation": 2}})).expect("a policy");
        assert_eq!(unchecked(&policy), Some(2));
        let warning = ExpressionWarning { field_ref: "spec.validations[0].expression".into(), warning: "odd".into() };
        let status = plan("p", 2, &[warning])["status"].take();
        policy.status = serde_json::from_value(status).expect("a status");
        assert_eq!(unchecked(&policy), None);
        let checking = policy.status.and_then(|status| status.type_checking).expect("was checked");
        assert_eq!(checking.expression_warnings.map(|warnings| warnings.len()), Some(1));
    }
}
