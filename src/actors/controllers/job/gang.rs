//! Pods of a job that get nodes together (the feature `WorkloadWithJob`): an indexed job all of whose indexes run at once has a Workload, and a
//! PodGroup of it that its pods are of. What is to be made is decided purely; jobs that began without a group go on without one.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, PodSchedulingGroup},
        scheduling::v1alpha2::{
            GangSchedulingPolicy, PodGroup, PodGroupSchedulingPolicy, PodGroupSpec, PodGroupTemplate, PodGroupTemplateReference,
            TypedLocalObjectReference, Workload, WorkloadPodGroupTemplateReference, WorkloadSpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use troupe_api::{meta::ObjectKey, status::Status, stored::KubeObject};

use super::template::is_indexed;
use crate::{
    controllers::{name_hash, owners::controller_reference},
    runtime::{
        cache::{Cache, Caches},
        controller::{ReconcileContext, Watches},
    },
};

/// Files workloads under the jobs that they name (`namespace/name`).
const BY_JOB: &str = "job";
/// Files groups under the workloads that they name likewise.
const BY_WORKLOAD: &str = "workload";
/// No name is longer.
const LONGEST_NAME: usize = 253;
/// Templates are named by a label.
const LONGEST_LABEL: usize = 63;
/// How names of templates end: each workload has one.
const TEMPLATE_SUFFIX: &str = "-pgt-0";
const API_VERSION: &str = "scheduling.k8s.io/v1alpha2";

/// The groups of jobs.
pub struct Gangs {
    workloads: Cache<Workload>,
    groups: Cache<PodGroup>,
}

impl Gangs {
    pub fn new(caches: &Caches) -> Self {
        let (workloads, groups) = (caches.cache::<Workload>(), caches.cache::<PodGroup>());
        workloads.add_index(BY_JOB, |workload| job_of(workload).map(|key| Arc::from(key.to_string())).into_iter().collect());
        groups.add_index(BY_WORKLOAD, |group| workload_of(group).map(|key| Arc::from(key.to_string())).into_iter().collect());
        Gangs { workloads, groups }
    }

    pub fn watches(&self, watches: &mut Watches<'_>) {
        watches.reads::<Workload>();
        watches.reads::<PodGroup>();
    }

    /// The group of a job's pods, which is made where it is missing; `None` where its pods get nodes one by one.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn of(&self, job: &Job, has_pods: bool, cx: &ReconcileContext) -> Result<Option<Arc<PodGroup>>, Status> {
        if !is_gang(job) {
            return Ok(None);
        }
        let known = self.workloads.by_index(BY_JOB, &key_of(&job.metadata).to_string());
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let workload = match chosen_workload(job, known, has_pods) {
            Chosen::Nothing => return Ok(None),
            Chosen::Known(known) => known,
            Chosen::New => {
                let made = cx.client().namespaced::<Workload>(namespace).create(&new_workload(job)).await?;
                cx.wrote(&self.workloads, &*made);
                cx.tell(job, false, "WorkloadCreated", format!("Created Workload {} for Job {}", name_of(&*made), name_of(job)));
                made
            }
        };
        let known = self.groups.by_index(BY_WORKLOAD, &key_of(&workload.metadata).to_string());
        match chosen_group(job, known) {
            Chosen::Nothing => Ok(None),
            Chosen::Known(known) => Ok(Some(known)),
            Chosen::New => {
                let Some(group) = new_group(job, &workload) else { return Ok(None) };
                let made = cx.client().namespaced::<PodGroup>(namespace).create(&group).await?;
                cx.wrote(&self.groups, &*made);
                Ok(Some(made))
            }
        }
    }
}

fn name_of<K: KubeObject>(object: &K) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The job that a workload names.
fn job_of(workload: &Workload) -> Option<ObjectKey> {
    let reference = workload.spec.controller_ref.as_ref().filter(|reference| reference.api_group.as_deref() == Some("batch"))?;
    let namespace = workload.metadata.namespace.as_deref().unwrap_or_default();
    (reference.kind == "Job" && !reference.name.is_empty()).then(|| ObjectKey::new(namespace, reference.name.as_str()))
}

/// The workload that a group names.
fn workload_of(group: &PodGroup) -> Option<ObjectKey> {
    let reference = group.spec.pod_group_template_ref.as_ref()?.workload.as_ref().filter(|reference| !reference.workload_name.is_empty())?;
    Some(ObjectKey::new(group.metadata.namespace.as_deref().unwrap_or_default(), reference.workload_name.as_str()))
}

/// Whether all indexes of a job run at once, and nobody else groups its pods.
fn is_gang(job: &Job) -> bool {
    let Some(spec) = job.spec.as_ref().filter(|_| is_indexed(job) && job.metadata.deletion_timestamp.is_none()) else { return false };
    let is_grouped = spec.template.spec.as_ref().is_some_and(|spec| spec.scheduling_group.is_some());
    spec.parallelism.is_some_and(|parallelism| parallelism > 1) && spec.completions == spec.parallelism && !is_grouped
}

/// Whether a job never began: one that did before there were groups gets none.
fn is_new(job: &Job, has_pods: bool) -> bool {
    let Some(status) = &job.status else { return !has_pods };
    let was_suspended = status.conditions.iter().flatten().any(|condition| condition.type_ == "Suspended");
    let has_ended = [status.succeeded, status.failed].into_iter().flatten().any(|count| count != 0);
    !has_pods && status.start_time.is_none() && !has_ended && !was_suspended
}

fn is_controlled(meta: &ObjectMeta, job: &Job) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// What is used of what there is.
#[derive(Debug, PartialEq)]
enum Chosen<T> {
    Known(T),
    /// One is to be made.
    New,
    /// None: somebody else made it, there are several, or it is too late.
    Nothing,
}

fn chosen_workload(job: &Job, mut known: Vec<Arc<Workload>>, has_pods: bool) -> Chosen<Arc<Workload>> {
    match (known.len(), known.pop()) {
        (0, _) if is_new(job, has_pods) => Chosen::New,
        (1, Some(only)) if is_controlled(&only.metadata, job) && only.spec.pod_group_templates.len() == 1 => Chosen::Known(only),
        _ => Chosen::Nothing,
    }
}

fn chosen_group(job: &Job, mut known: Vec<Arc<PodGroup>>) -> Chosen<Arc<PodGroup>> {
    match (known.len(), known.pop()) {
        (0, _) => Chosen::New,
        (1, Some(only)) if is_controlled(&only.metadata, job) => Chosen::Known(only),
        _ => Chosen::Nothing,
    }
}

/// A workload whose one template is a gang of all pods.
fn new_workload(job: &Job) -> Workload {
    let name = name_of(job);
    let gang = GangSchedulingPolicy { min_count: job.spec.as_ref().and_then(|spec| spec.parallelism).unwrap_or(1) };
    let template = PodGroupTemplate {
        name: format!("{}{TEMPLATE_SUFFIX}", cut(name, LONGEST_LABEL - TEMPLATE_SUFFIX.len())),
        scheduling_policy: PodGroupSchedulingPolicy { gang: Some(gang), ..PodGroupSchedulingPolicy::default() },
        ..PodGroupTemplate::default()
    };
    let reference = TypedLocalObjectReference { api_group: Some("batch".into()), kind: "Job".into(), name: name.to_owned() };
    let hash = name_hash::of(&[job.metadata.uid.as_deref().unwrap_or_default()]);
    Workload {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", cut(name, LONGEST_NAME - hash.len() - 1))),
            namespace: job.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(job)]),
            ..ObjectMeta::default()
        },
        spec: WorkloadSpec { controller_ref: Some(reference), pod_group_templates: vec![template] },
    }
}

/// A group of the workload's template; `None` where it has none.
fn new_group(job: &Job, workload: &Workload) -> Option<PodGroup> {
    let template = workload.spec.pod_group_templates.first()?;
    let workload_name = name_of(workload).to_owned();
    let of_workload = OwnerReference {
        api_version: API_VERSION.into(),
        kind: "Workload".into(),
        name: workload_name.clone(),
        uid: workload.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(group_name(&workload_name, &template.name)),
        namespace: job.metadata.namespace.clone(),
        owner_references: Some(vec![controller_reference(job), of_workload]),
        ..ObjectMeta::default()
    };
    let reference = WorkloadPodGroupTemplateReference { workload_name, pod_group_template_name: template.name.clone() };
    let spec = PodGroupSpec {
        pod_group_template_ref: Some(PodGroupTemplateReference { workload: Some(reference) }),
        scheduling_policy: template.scheduling_policy.clone(),
        ..PodGroupSpec::default()
    };
    Some(PodGroup { metadata, spec, status: None })
}

/// Both names, as much of them as there is room for, and a hash of all of them.
fn group_name(workload: &str, template: &str) -> String {
    let hash = name_hash::of(&[workload, template]);
    let room = LONGEST_NAME - hash.len() - 2;
    let half = room / 2;
    let (workload, template) = match (workload.len() <= half, template.len() <= half) {
        _ if workload.len() + template.len() <= room => (workload, template),
        (true, _) => (workload, cut(template, room - workload.len())),
        (_, true) => (cut(workload, room - template.len()), template),
        _ => (cut(workload, room - half), cut(template, half)),
    };
    format!("{workload}-{template}-{hash}")
}

/// Names are of ASCII.
fn cut(name: &str, most: usize) -> &str {
    &name[..name.floor_char_boundary(most)]
}

/// The pod as one of a group.
pub fn joined(mut pod: Pod, group: Option<&PodGroup>) -> Pod {
    let Some(group) = group else { return pod };
    let name = name_of(group).to_owned();
    pod.spec.get_or_insert_default().scheduling_group = Some(PodSchedulingGroup { pod_group_name: Some(name.clone()) });
    pod.metadata.owner_references.get_or_insert_default().push(OwnerReference {
        api_version: API_VERSION.into(),
        kind: "PodGroup".into(),
        name,
        uid: group.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(spec: Value, status: Value) -> Job {
        let mut all = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3, "template": {"spec": {"containers": []}}});
        for (field, value) in spec.as_object().expect("an object") {
            all[field] = value.clone();
        }
        let metadata = json!({"name": "train", "namespace": "n", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": all, "status": status})).expect("a job")
    }

    #[test]
    fn jobs_all_of_whose_indexes_run_at_once_are_gangs() {
        let is = |spec: Value| is_gang(&job(spec, json!({})));
        assert!(is(json!({})));
        let grouped = json!({"spec": {"containers": [], "schedulingGroup": {"podGroupName": "g"}}});
        for spec in [
            json!({"completionMode": "NonIndexed"}),
            json!({"parallelism": 2}),
            json!({"parallelism": 1, "completions": 1}),
            json!({"template": grouped}),
        ] {
            assert!(!is(spec.clone()), "{spec}");
        }
    }

    #[test]
    fn only_a_job_that_never_began_gets_a_workload() {
        let chosen = |status: Value, has_pods: bool| chosen_workload(&job(json!({}), status), Vec::new(), has_pods);
        assert_eq!(chosen(json!({}), false), Chosen::New);
        assert_eq!(chosen(json!({}), true), Chosen::Nothing);
        let suspended = json!({"conditions": [{"type": "Suspended", "status": "False"}]});
        for status in [json!({"startTime": "2026-01-01T00:00:00Z"}), json!({"failed": 1}), json!({"succeeded": 1}), suspended] {
            assert_eq!(chosen(status.clone(), false), Chosen::Nothing, "{status}");
        }
    }

    #[test]
    fn a_workload_that_somebody_else_made_is_left_alone() {
        let job = job(json!({}), json!({}));
        let own = Arc::new(new_workload(&job));
        assert_eq!(chosen_workload(&job, vec![own.clone()], true), Chosen::Known(own.clone()));
        let mut stranger = (*own).clone();
        stranger.metadata.owner_references = None;
        assert_eq!(chosen_workload(&job, vec![Arc::new(stranger)], false), Chosen::Nothing);
        assert_eq!(chosen_workload(&job, vec![own.clone(), own.clone()], false), Chosen::Nothing);
        let mut more = (*own).clone();
        more.spec.pod_group_templates.push(PodGroupTemplate::default());
        assert_eq!(chosen_workload(&job, vec![Arc::new(more)], false), Chosen::Nothing);
    }

    #[test]
    fn pods_are_of_the_group_of_the_workload_of_their_job() {
        let job = job(json!({}), json!({}));
        let mut workload = new_workload(&job);
        workload.metadata.uid = Some("w".into());
        assert_eq!(job_of(&workload), Some(ObjectKey::new("n", "train")));
        let group = new_group(&job, &workload).expect("it has a template");
        assert_eq!(workload_of(&group), Some(key_of(&workload.metadata)));
        assert_eq!(group.spec.scheduling_policy.gang.as_ref().map(|gang| gang.min_count), Some(3));
        assert!(is_controlled(&group.metadata, &job) && name_of(&group).starts_with(&format!("{}-train-pgt-0-", name_of(&workload))));
        let pod = joined(Pod::default(), Some(&group));
        let named = pod.spec.as_ref().and_then(|spec| spec.scheduling_group.as_ref()?.pod_group_name.as_deref());
        assert_eq!(named, Some(name_of(&group)));
        assert_eq!(joined(Pod::default(), None), Pod::default());
    }

    #[test]
    fn the_template_of_a_job_with_a_long_name_is_named_by_a_label() {
        let mut long = job(json!({}), json!({}));
        long.metadata.name = Some("j".repeat(61));
        let workload = new_workload(&long);
        assert_eq!(workload.spec.pod_group_templates[0].name, format!("{}-pgt-0", "j".repeat(57)));
        assert!(name_of(&workload).starts_with(&"j".repeat(61)));
    }

    #[test]
    fn names_have_their_room() {
        let (short, long) = ("a".repeat(20), "b".repeat(250));
        for (workload, template) in [(&short, &long), (&long, &short), (&long, &long)] {
            let name = group_name(workload, template);
            assert!((LONGEST_NAME - 1..=LONGEST_NAME).contains(&name.len()), "{name}");
        }
        assert!(group_name(&short, &long).starts_with(&format!("{short}-b")));
    }
}
