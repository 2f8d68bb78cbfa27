//! `Priority`: a pod's priority class becomes its priority and preemption policy.

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, Object, ObjectKey},
    service::Listers,
    status::Status,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Priority;

/// What a pod gets.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

fn classes() -> GroupResource {
    GroupResource::new("scheduling.k8s.io", "priorityclasses")
}

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CHANGES
    }
}

#[async_trait]
impl MutatingPlugin for Priority {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !request.is_main("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => {}
            Operation::Update => {
                keep(request);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let Some(name) = request.object().map(|pod| pod.str(&["spec", "priorityClassName"]).to_owned()) else { return Ok(()) };
        let class = class_for(request, &name).await?;
        let Some(pod) = request.object_mut() else { return Ok(()) };
        if pod.int(&["spec", "priority"]).is_some_and(|priority| priority != class.value) {
            let why = format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                pod.int(&["spec", "priority"]).unwrap_or_default(),
                class.value
            );
            return Err(request.forbidden(why));
        }
        let policy = pod.str(&["spec", "preemptionPolicy"]).to_owned();
        if !policy.is_empty() && policy != class.preemption {
            let why = format!(
                "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
                class.preemption
            );
            return Err(request.forbidden(why));
        }
        if !class.name.is_empty() {
            pod.set(&["spec", "priorityClassName"], class.name);
        }
        pod.set(&["spec", "priority"], class.value);
        pod.set(&["spec", "preemptionPolicy"], class.preemption);
        Ok(())
    }
}

#[async_trait]
impl ValidatingPlugin for Priority {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_main("scheduling.k8s.io", "priorityclasses") {
            return Ok(());
        }
        let Some(class) = request.object() else { return Ok(()) };
        if !is_global_default(class) {
            return Ok(());
        }
        let others = request.reads.listers().list(&classes(), "");
        match others.iter().map(|other| other.to_object()).find(|other| is_global_default(other) && other.name() != class.name()) {
            Some(other) => Err(request.forbidden(format!("PriorityClass {} is already marked as default. Only one default can exist", other.name()))),
            None => Ok(()),
        }
    }
}

/// Who replaces a pod by a manifest does not name what this plugin gave it.
fn keep(request: &mut Attributes<'_>) {
    let Some(old) = request.old else { return };
    let Some(pod) = request.object_mut() else { return };
    for field in ["priority", "preemptionPolicy"] {
        if pod.get(&["spec", field]).is_none()
            && let Some(value) = old.get(&["spec", field])
        {
            pod.set(&["spec", field], value.clone());
        }
    }
}

fn is_global_default(class: &Object) -> bool {
    class.get(&["globalDefault"]).and_then(serde_json::Value::as_bool).unwrap_or(false)
}

async fn class_for(request: &Attributes<'_>, name: &str) -> Result<Class, Status> {
    if name.is_empty() {
        return Ok(default_class(request.reads.listers()));
    }
    let key = ObjectKey::cluster(name);
    let found = match request.reads.listers().get(&classes(), &key) {
        Some(class) => Some(class),
        None => request.reads.live(&classes(), &key).await?,
    };
    match found {
        Some(class) => Ok(class_of(&class.to_object())),
        None => Err(request.forbidden(format!("no PriorityClass with name {name} was found"))),
    }
}

/// The class marked as global default; of several the one with the lowest value. Without one, priority 0.
fn default_class(listers: &dyn Listers) -> Class {
    let all = listers.list(&classes(), "");
    let defaults = all.iter().map(|class| class.to_object()).filter(is_global_default);
    match defaults.min_by_key(|class| class.int(&["value"])) {
        Some(class) => class_of(&class),
        None => Class { name: String::new(), value: 0, preemption: "PreemptLowerPriority".into() },
    }
}

fn class_of(class: &Object) -> Class {
    let policy = class.str(&["preemptionPolicy"]);
    let preemption = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    Class { name: class.name().to_owned(), value: class.int(&["value"]).unwrap_or_default(), preemption: preemption.to_owned() }
}
