//! `PodNodeSelector`: a namespace says on which nodes its pods may run.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use troupe_api::{
    meta::{Object, names},
    status::Status,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin, namespace_exists::namespace_of};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// What counts for namespaces that say nothing.
const CLUSTER: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// The plugin's configuration: selectors by namespace, and that of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodNodeSelectorConfiguration {
    #[serde(rename = "podNodeSelectorPluginConfig", default)]
    selectors: BTreeMap<String, String>,
}

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct PodNodeSelector {
    by_namespace: BTreeMap<String, Labels>,
}

impl PodNodeSelector {
    /// # Errors
    /// What is wrong with a selector.
    pub fn new(configuration: PodNodeSelectorConfiguration) -> Result<Self, String> {
        let read = |(namespace, text): (String, String)| match labels(&text) {
            Ok(labels) => Ok((namespace, labels)),
            Err(why) => Err(format!("{namespace}: {why}")),
        };
        Ok(PodNodeSelector { by_namespace: configuration.selectors.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    async fn of_namespace(&self, request: &Attributes<'_>) -> Result<Labels, Status> {
        match namespace_of(request).await?.to_object().annotation(ANNOTATION) {
            Some(text) => labels(text).map_err(Status::internal),
            None => Ok(self.by_namespace.get(CLUSTER).cloned().unwrap_or_default()),
        }
    }

    fn check(&self, request: &Attributes<'_>, wanted: &Labels) -> Result<(), Status> {
        let given = request.object().map(selector).unwrap_or_default();
        if wanted.iter().any(|(key, value)| given.get(key).is_some_and(|given| given != value)) {
            return Err(request.forbidden("pod node label selector conflicts with its namespace node label selector"));
        }
        let allowed = self.by_namespace.get(&*request.target.namespace).filter(|labels| !labels.is_empty());
        if allowed.is_some_and(|allowed| given.iter().any(|(key, value)| allowed.get(key) != Some(value))) {
            return Err(request.forbidden("pod node label selector labels conflict with its namespace whitelist"));
        }
        Ok(())
    }
}

impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for PodNodeSelector {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let wanted = self.of_namespace(request).await?;
        let given = request.object().map(selector).unwrap_or_default();
        if let Some(pod) = request.object_mut() {
            for (key, value) in wanted.iter().filter(|(key, _)| !given.contains_key(*key)) {
                pod.map_mut(&["spec", "nodeSelector"]).insert(key.clone(), value.clone().into());
            }
        }
        self.check(request, &wanted)
    }
}

#[async_trait]
impl ValidatingPlugin for PodNodeSelector {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !concerns(request) {
            return Ok(());
        }
        let wanted = self.of_namespace(request).await?;
        self.check(request, &wanted)
    }
}

fn concerns(request: &Attributes<'_>) -> bool {
    request.operation == Operation::Create && request.is_main("", "pods")
}

fn selector(pod: &Object) -> Labels {
    let entries = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// `a=b,c=d` as labels.
fn labels(text: &str) -> Result<Labels, String> {
    let mut all = Labels::new();
    if text.is_empty() {
        return Ok(all);
    }
    for part in text.split(',') {
        let (Some((key, value)), 1) = (part.split_once('='), part.matches('=').count()) else {
            return Err(format!("invalid selector: [{}]", part.split('=').collect::<Vec<_>>().join(" ")));
        };
        let (key, value) = (key.trim(), value.trim());
        let problems = names::qualified(key).into_iter().chain(names::label_value(value)).collect::<Vec<_>>();
        if let Some(problem) = problems.first() {
            return Err(format!("invalid selector: {key}={value}: {problem}"));
        }
        all.insert(key.to_owned(), value.to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_pairs() {
        let read = |text: &str| labels(text).map(|labels| labels.into_iter().collect::<Vec<_>>());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read("env=test, zone = a"), Ok(vec![pair("env", "test"), pair("zone", "a")]));
        assert_eq!(read("env"), Err("invalid selector: [env]".into()));
        assert_eq!(read("a=b=c"), Err("invalid selector: [a b c]".into()));
        assert!(read("a b=c").is_err() && read("a=b c").is_err());
    }
}
