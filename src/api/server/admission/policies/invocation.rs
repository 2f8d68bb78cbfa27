//! Whom a request concerns: policies by their bindings, each with its parameters.

use std::sync::Arc;

use troupe_api::{meta::Object, status::Status};

use super::{
    index::Hook,
    params,
    policy::{Binding, Policy},
};
use crate::admission::{
    Attributes,
    expressions::Access,
    matching::{self, Matched},
};

/// A policy that is asked about a request.
#[derive(Debug)]
pub struct Invocation {
    pub policy: Arc<Policy>,
    pub binding: Arc<Binding>,
    /// How it sees the object: a position in [`Collected::matched`].
    pub matched: usize,
    pub params: Option<Object>,
}

/// A policy that cannot be asked.
#[derive(Debug)]
pub struct Misconfigured {
    pub policy: Arc<Policy>,
    /// The one that is at fault, if it is not the policy itself.
    pub binding: Option<Arc<Binding>>,
    /// In upstream's words.
    pub message: String,
}

#[derive(Debug)]
pub enum Step {
    Ask(Invocation),
    Fail(Misconfigured),
}

/// Everything that policies have to say about a request, in order, and what they need for it.
#[derive(Debug, Default)]
pub struct Collected {
    pub steps: Vec<Step>,
    pub matched: Vec<Matched>,
    /// The Namespace that the object is in, where somebody looks at it.
    pub namespace: Option<Object>,
    pub access: Option<Access>,
    /// Whether somebody looks at the request.
    pub asks_request: bool,
}

impl Collected {
    /// Finds out whom the request concerns.
    ///
    /// # Errors
    /// 404 where the request's namespace is looked at and does not exist.
    pub async fn of(hooks: &[Arc<Hook>], request: &Attributes<'_>) -> Result<Self, Status> {
        let mut collected = Collected::default();
        for hook in hooks {
            collected.add(hook, request).await;
        }
        collected.provide(request).await?;
        Ok(collected)
    }

    async fn add(&mut self, hook: &Hook, request: &Attributes<'_>) {
        let policy = &hook.policy;
        let matched = match policy.resources.matched(request).await {
            Ok(Some(matched)) => matched,
            Ok(None) => return,
            Err(status) => return self.fail(policy, None, &status.message),
        };
        if let Some(Err(why)) = policy.params.as_ref().map(|kind| params::resource(request, kind)) {
            return self.fail(policy, None, &why);
        }
        for binding in &hook.bindings {
            if let Some(resources) = &binding.resources {
                match resources.matched(request).await {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(status) => {
                        self.fail(policy, Some(binding), &status.message);
                        continue;
                    }
                }
            }
            match params::collect(request, policy, binding).await {
                Ok(found) => {
                    let matched = self.position(&matched);
                    let invocation = |params| Step::Ask(Invocation { policy: policy.clone(), binding: binding.clone(), matched, params });
                    self.steps.extend(found.into_iter().map(invocation));
                }
                Err(why) => self.fail(policy, Some(binding), &why),
            }
        }
    }

    fn fail(&mut self, policy: &Arc<Policy>, binding: Option<&Arc<Binding>>, why: &str) {
        if policy.ignores_failure {
            return;
        }
        let message = format!("failed to configure {}: {why}", if binding.is_some() { "binding" } else { "policy" });
        self.steps.push(Step::Fail(Misconfigured { policy: policy.clone(), binding: binding.cloned(), message }));
    }

    /// Most policies see the object in the same form.
    fn position(&mut self, matched: &Matched) -> usize {
        let is_same = |known: &Matched| known.kind == matched.kind && known.resource.row.plural == matched.resource.row.plural;
        self.matched.iter().position(is_same).unwrap_or_else(|| {
            self.matched.push(matched.clone());
            self.matched.len() - 1
        })
    }

    async fn provide(&mut self, request: &Attributes<'_>) -> Result<(), Status> {
        let needs = self.steps.iter().filter_map(|step| match step {
            Step::Ask(invocation) => Some(invocation.policy.needs),
            Step::Fail(_) => None,
        });
        let (mut namespace, mut authorizer) = (false, false);
        for needs in needs {
            self.asks_request |= needs.request;
            namespace |= needs.namespace;
            authorizer |= needs.authorizer;
        }
        if authorizer {
            self.access = Some(Access::of(request));
        }
        let name = request.namespace();
        if namespace && !name.is_empty() && !request.target.resource.is_namespace() {
            self.namespace = Some(matching::namespace(request, name).await?.to_object());
        }
        Ok(())
    }
}
