//! Aggregated ClusterRoles: their rules are those of the roles that their selectors match.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::{Value, json};
use troupe_api::{
    auth::rbac::aggregate::aggregate,
    meta::ObjectKey,
    service::{Operation, PatchType, Target, WriteOptions},
    status::Status,
};

use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// Owns the rules of aggregated roles, by upstream's name.
const FIELD_MANAGER: &str = "clusterrole-aggregation-controller";

/// See the module.
pub struct ClusterRoleAggregationController {
    roles: Cache<ClusterRole>,
}

impl ClusterRoleAggregationController {
    pub fn new(caches: &Caches) -> Self {
        ClusterRoleAggregationController { roles: caches.cache() }
    }
}

impl Controller for ClusterRoleAggregationController {
    const NAME: &'static str = "clusterrole-aggregation";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ClusterRole>();
        let roles = self.roles.clone();
        // Any role may be gathered by any aggregated one; there are few.
        watches.map::<ClusterRole>(move |_| {
            let aggregated = roles.list("").into_iter().filter(|role| role.aggregation_rule.is_some());
            aggregated.map(|role| ObjectKey::cluster(role.metadata.name.clone().unwrap_or_default())).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(role) = self.roles.get(key) else { return Ok(Outcome::Done) };
        if let Some(patch) = plan(&role.object, &self.roles.list("")) {
            self.apply(key, &patch, cx).await?;
        }
        Ok(Outcome::Done)
    }
}

impl ClusterRoleAggregationController {
    /// By server-side apply: whoever else wrote rules loses them, and this controller is seen to own them.
    async fn apply(&self, key: &ObjectKey, patch: &Value, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        let registry = cx.client().service().registry();
        let resource = registry.by_kind("rbac.authorization.k8s.io", "ClusterRole").ok_or_else(Status::page_not_found)?;
        let target = Target { resource, version: "v1".into(), namespace: "".into(), name: key.name.clone(), subresource: "".into() };
        let options = WriteOptions { field_manager: FIELD_MANAGER.into(), force: true, ..WriteOptions::default() };
        let body = serde_json::to_vec(patch).map_err(Status::internal)?.into();
        let reply = cx.client().call(target, Operation::Patch { patch_type: PatchType::Apply, body, options }).await?;
        let written = reply.into_stored()?.typed::<ClusterRole>().map_err(Status::internal)?;
        cx.wrote(&self.roles, &*written);
        Ok(())
    }
}

/// What to apply to `role`; `None` where it aggregates nothing or has the rules already. `roles` is in name order.
fn plan(role: &ClusterRole, roles: &[Arc<ClusterRole>]) -> Option<Value> {
    let rules: Vec<PolicyRule> = aggregate(role, roles)?;
    if role.rules.as_deref().unwrap_or_default() == rules {
        return None;
    }
    Some(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role.metadata.name},
        "rules": rules,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(value: Value) -> Arc<ClusterRole> {
        Arc::new(serde_json::from_value(value).expect("a cluster role"))
    }

    #[test]
    fn one_plan_is_enough() {
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let gathered = role(json!({"metadata": {"name": "a", "labels": {"to": "view"}}, "rules": rules}));
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]});
        let mut view = role(json!({"metadata": {"name": "view"}, "aggregationRule": rule}));
        let patch = plan(&view, &[gathered.clone(), view.clone()]).expect("rules are missing");
        assert_eq!(patch["rules"], rules);
        Arc::make_mut(&mut view).rules = serde_json::from_value(patch["rules"].clone()).expect("rules");
        assert_eq!(plan(&view, &[gathered.clone(), view.clone()]), None);
        assert_eq!(plan(&gathered, &[gathered.clone(), view]), None);
    }
}
