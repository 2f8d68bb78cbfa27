//! `pods/eviction`: a deletion that respects disruption budgets.

mod budget;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use troupe_api::{
    Reason,
    meta::{LabelSelector, Object, Revision, time::format_time},
    service::{ApiReply, Body, DeleteOptions, Propagation},
    status::{FieldError, Status},
    stored::StoredObject,
};

use self::budget::{Healthy, may_ignore_budget, must_stay_as_seen, spend, unhealthy_may_go, violation};
use super::{Subresources, created_nothing};
use crate::apiserver::{
    commit::{CommitError, stored},
    write::Transform,
    writer::Writer,
};

/// Lost races after which an eviction gives up, as upstream.
const TRIES: usize = 20;

/// POST of an Eviction.
pub async fn create(parts: &Subresources, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let (eviction, warnings) = parts.admitted_body(writer, body).await?;
    let name = &*writer.target.name;
    if eviction.name() != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    if eviction.get(&["deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"]) == Some(&Value::Bool(true)) {
        const DETAIL: &str = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid("deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential", true, DETAIL);
        return Err(Status::invalid("policy", "Eviction", name, vec![error]));
    }
    let target = parts.parent_of(&writer.target, name)?;
    let options = delete_options(&eviction, writer.options.dry_run)?;
    Evicting { parts, writer: Writer { target, ..writer.clone() }, options }.evict().await?;
    Ok(created_nothing(warnings))
}

fn delete_options(eviction: &Object, dry_run: bool) -> Result<DeleteOptions, Status> {
    let text = |path: &[&str]| Some(eviction.str(path).to_owned()).filter(|text| !text.is_empty());
    let revision = text(&["deleteOptions", "preconditions", "resourceVersion"]);
    let precondition_revision = revision.map(|revision| revision.parse::<Revision>()).transpose();
    let (mut errors, dry_runs) = (Vec::new(), eviction.list(&["deleteOptions", "dryRun"]));
    if dry_runs.iter().any(|text| text != "All") {
        errors.push(FieldError::not_supported("dryRun", dry_runs.to_vec(), &["All"]));
    }
    let propagation = match eviction.str(&["deleteOptions", "propagationPolicy"]) {
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "" => None,
        other => {
            errors.push(FieldError::not_supported("propagationPolicy", other, &["Foreground", "Background", "Orphan", "nil"]));
            None
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors));
    }
    Ok(DeleteOptions {
        dry_run: dry_run || !dry_runs.is_empty(),
        grace_period_seconds: eviction.int(&["deleteOptions", "gracePeriodSeconds"]),
        precondition_uid: text(&["deleteOptions", "preconditions", "uid"]),
        precondition_revision: precondition_revision.map_err(|error| Status::bad_request(error.to_string()))?,
        propagation,
        ignore_store_read_error: false,
    })
}

/// One eviction under way.
struct Evicting<'a> {
    parts: &'a Subresources,
    /// Addresses the pod.
    writer: Writer,
    options: DeleteOptions,
}

impl Evicting<'_> {
    async fn evict(&self) -> Result<(), Status> {
        let mut tries = 0;
        let pod = loop {
            let pod = self.pod().await?;
            let object = pod.to_object();
            if !may_ignore_budget(&object) {
                break pod;
            }
            // It must not become ready, and so guarded, between this look and its deletion.
            let seen = must_stay_as_seen(&object).then_some(pod.revision);
            match self.mark_and_delete(seen).await {
                Err(status) if status.is_conflict() && self.options.precondition_revision.is_none() && tries < TRIES => tries += 1,
                result => return result,
            }
        };
        let Some(budget) = self.budget_of(&pod).await? else { return self.mark_and_delete(None).await };
        let current = typed(&budget)?;
        if unhealthy_may_go(&current, Healthy::of(&pod.to_object())) {
            let result = self.mark_and_delete(Some(pod.revision)).await;
            return result.map_err(|status| match status.is_conflict() && self.options.precondition_revision.is_none() {
                true => budget::still_processed(&budget.key.name),
                false => status,
            });
        }
        self.spend_budget(budget).await?;
        self.mark_and_delete(None).await
    }

    async fn pod(&self) -> Result<Arc<StoredObject>, Status> {
        let target = &self.writer.target;
        let pod = self.parts.reader.read_live(&target.resource, &target.key()).await?;
        pod.ok_or_else(|| Status::not_found(&target.group_resource(), &target.name))
    }

    /// The one budget that guards the pod.
    async fn budget_of(&self, pod: &StoredObject) -> Result<Option<Arc<StoredObject>>, Status> {
        let resource = self.parts.listers.row("policy", "poddisruptionbudgets").ok_or_else(Status::page_not_found)?;
        let cache = self.parts.listers.cache(&resource)?;
        self.parts.reader.linearize(&cache).await?;
        let mut guards = Vec::new();
        for budget in cache.load().scan(&pod.key.namespace, None) {
            let selector = typed(budget)?.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(LabelSelector::from);
            if selector.is_some_and(|selector| selector.matches_projection(&pod.meta().labels)) {
                guards.push(budget.clone());
            }
        }
        if guards.len() > 1 {
            const WHY: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, Reason::Unknown, WHY));
        }
        Ok(guards.pop())
    }

    /// Takes one disruption from the budget, by compare-and-swap.
    async fn spend_budget(&self, mut budget: Arc<StoredObject>) -> Result<(), Status> {
        let resource = self.parts.listers.row("policy", "poddisruptionbudgets").ok_or_else(Status::page_not_found)?;
        for _ in 0..TRIES {
            let current = typed(&budget)?;
            if let Some(status) = violation(&current) {
                return Err(status);
            }
            if self.options.dry_run {
                return Ok(());
            }
            let status = spend(&current, &self.writer.target.name, self.parts.clock.now());
            let mut new = budget.to_object();
            new.remove(&["metadata", "resourceVersion"]);
            new.set(&["status"], serde_json::to_value(status).map_err(Status::internal)?);
            match self.parts.committer.update(&resource, &new, budget.revision, &self.writer.cause).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Lost(None)) => return Err(Status::not_found(&resource.group_resource(), &budget.key.name)),
                Err(CommitError::Lost(Some(newer))) => budget = stored(&resource, newer)?,
                Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
            }
        }
        let why = format!("Timeout: couldn't update PodDisruptionBudget {:?} due to conflicts", budget.key.name);
        Err(Status::timeout(why))
    }

    /// Notes on the pod why it goes, then deletes it. With `seen`, only if it still is at that revision.
    async fn mark_and_delete(&self, seen: Option<Revision>) -> Result<(), Status> {
        let mut options = self.options.clone();
        options.precondition_revision = options.precondition_revision.or(seen);
        if !options.dry_run {
            let (wanted, now) = (options.clone(), format_time(self.parts.clock.now()));
            let transform: Transform = Arc::new(move |pod| {
                check(pod, &wanted)?;
                let mut marked = pod.clone();
                mark(&mut marked, &now);
                Ok(marked)
            });
            let marked = self.parts.path.update_raw(&self.writer, &transform).await?;
            if options.precondition_revision.is_some() {
                options.precondition_revision = Some(marked.revision);
            }
        }
        self.parts.path.delete_admitted(&self.writer, &options).await.map(drop)
    }
}

fn typed(budget: &Arc<StoredObject>) -> Result<Arc<PodDisruptionBudget>, Status> {
    budget.typed().map_err(Status::internal)
}

/// 409 unless the pod is the one that the caller means.
fn check(pod: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let conflict = |what: &str, wanted: &str, found: &str, might: &str| {
        let why =
            format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {might}");
        Err(Status::conflict(&troupe_api::meta::GroupResource::new("", "Pod"), pod.name(), why))
    };
    if let Some(uid) = options.precondition_uid.as_deref().filter(|uid| *uid != pod.uid()) {
        return conflict("UID", uid, pod.uid(), "deleted and then recreated");
    }
    let wanted = options.precondition_revision.map(|revision| revision.to_string());
    if let Some(revision) = wanted.filter(|revision| revision != pod.resource_version()) {
        return conflict("ResourceVersion", &revision, pod.resource_version(), "modified");
    }
    Ok(())
}

/// Sets the condition `DisruptionTarget`.
fn mark(pod: &mut Object, now: &str) {
    const KIND: &str = "DisruptionTarget";
    let mut conditions = pod.list(&["status", "conditions"]).to_vec();
    let known = conditions.iter().position(|condition| condition["type"] == KIND);
    let since = match known.map(|at| &conditions[at]) {
        Some(condition) if condition["status"] == "True" => condition["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let condition = json!({
        "type": KIND, "status": "True", "lastProbeTime": null, "lastTransitionTime": since,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    pod.set(&["status", "conditions"], conditions);
}
