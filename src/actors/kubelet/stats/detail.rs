//! One look at the cgroups of the machine, its pods and their containers, for `/metrics/cadvisor`.

use std::collections::BTreeMap;

use troupe_cri::{
    Runtime,
    names::PodIdentity,
    proto::{PodSandboxFilter, PodSandboxState},
};

use super::{
    cgroup::{CgroupUsage, Cgroups, Group},
    interfaces::{self, Interfaces},
    open_files,
    sample::{ContainerUsage, Sample},
};
use crate::files::blocking;

/// What one cgroup uses, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The cgroup's path.
    pub id: String,
    /// The runtime's id of the container or the sandbox.
    pub name: String,
    pub image: String,
    pub container: String,
    pub namespace: String,
    pub pod: String,
    /// Nanoseconds since 1970.
    pub created_at: Option<u64>,
    pub usage: CgroupUsage,
    pub layer_bytes: Option<u64>,
    /// Of sandboxes with a network of their own, and of the machine.
    pub interfaces: Interfaces,
}

/// Those of everything that `sample`, the cgroups below `parent` and the kubelet's `own` tell of.
pub async fn details(runtime: &dyn Runtime, parent: &str, own: Option<&str>, sample: &Sample) -> Vec<Detail> {
    let sandboxes = runtime.list_pod_sandboxes(PodSandboxFilter::default()).await.unwrap_or_default();
    let ready = sandboxes.into_iter().filter(|sandbox| sandbox.state == i32::from(PodSandboxState::SandboxReady));
    let identity = |sandbox: &troupe_cri::proto::PodSandbox| PodIdentity::from_labels(|name| sandbox.labels.get(name));
    let sandboxes: BTreeMap<String, PodIdentity> = ready.filter_map(|sandbox| Some((sandbox.id.clone(), identity(&sandbox)?))).collect();
    let (parent, own, sample) = (parent.to_owned(), own.map(str::to_owned), sample.clone());
    blocking(move || {
        let Ok(cgroups) = Cgroups::of(&parent) else { return Vec::new() };
        let mut groups = cgroups.list();
        let own = own.filter(|own| groups.iter().all(|group| group.path != *own));
        groups.extend(own.map(|path| Group { path, pod: None, container: None }));
        gather(
            groups,
            &sandboxes,
            &sample,
            |group| {
                let open_files = group.container.as_ref().and_then(|_| open_files::of_processes(&cgroups.processes(group)));
                CgroupUsage { open_files, ..cgroups.usage(group) }
            },
            |group| {
                let pid = cgroups.processes(group).into_iter().next();
                pid.and_then(interfaces::of_process).unwrap_or_default()
            },
        )
    })
    .await
}

/// Puts together what is known. Containers without a cgroup here are told of by what the runtime knows.
fn gather(
    groups: Vec<Group>,
    sandboxes: &BTreeMap<String, PodIdentity>,
    sample: &Sample,
    usage: impl Fn(&Group) -> CgroupUsage,
    network: impl Fn(&Group) -> Interfaces,
) -> Vec<Detail> {
    let pods: BTreeMap<&str, &PodIdentity> = sandboxes.values().chain(sample.pods.keys()).map(|pod| (pod.uid.as_str(), pod)).collect();
    let containers = sample.pods.iter().flat_map(|(pod, containers)| containers.iter().map(move |container| (pod, container)));
    let mut containers: BTreeMap<&str, (&PodIdentity, &ContainerUsage)> = containers.map(|known| (known.1.id.as_str(), known)).collect();
    let mut all = Vec::new();
    for group in groups {
        let mut detail = Detail { usage: usage(&group), id: group.path.clone(), ..Detail::default() };
        match group.container.as_deref() {
            Some(id) => {
                let Some((pod, container)) =
                    containers.remove(id).map(|(pod, container)| (pod, Some(container))).or_else(|| Some((sandboxes.get(id)?, None)))
                else {
                    continue;
                };
                detail.name = id.to_owned();
                detail.belongs_to(pod);
                match container {
                    Some(container) => detail.is(container),
                    None => detail.interfaces = network(&group),
                }
            }
            None => match group.pod.as_deref() {
                Some(uid) => match pods.get(uid) {
                    Some(pod) => detail.belongs_to(pod),
                    None => continue,
                },
                None if group.path == "/" => detail.is_machine(sample),
                None => {}
            },
        }
        all.push(detail);
    }
    for (pod, container) in containers.into_values() {
        let mut detail = Detail { id: container.id.clone(), name: container.id.clone(), usage: told(container), ..Detail::default() };
        detail.belongs_to(pod);
        detail.is(container);
        all.push(detail);
    }
    all
}

impl Detail {
    fn belongs_to(&mut self, pod: &PodIdentity) {
        self.namespace.clone_from(&pod.namespace);
        self.pod.clone_from(&pod.name);
    }

    fn is(&mut self, container: &ContainerUsage) {
        self.container.clone_from(&container.name);
        self.image.clone_from(&container.image);
        self.created_at = u64::try_from(container.created_at).ok();
        self.layer_bytes = container.layer_bytes;
    }

    /// The root's cgroup tells little of its own.
    fn is_machine(&mut self, sample: &Sample) {
        let node = &sample.node;
        self.usage.cpu = self.usage.cpu.or(Some(node.cpu_nanoseconds));
        self.usage.memory = Some(node.working_set());
        self.usage.inactive_file = None;
        self.created_at = u64::try_from(node.booted).ok().map(|booted| booted * 1_000_000_000);
        self.interfaces = interfaces::of_machine();
    }
}

/// What a runtime knows of a container.
fn told(container: &ContainerUsage) -> CgroupUsage {
    CgroupUsage {
        cpu: container.cpu_nanoseconds,
        memory: container.memory.or(container.working_set),
        inactive_file: container.memory.zip(container.working_set).map(|(memory, working_set)| memory.saturating_sub(working_set)),
        rss: container.rss,
        page_faults: container.page_faults,
        major_page_faults: container.major_page_faults,
        ..CgroupUsage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::stats::tests::sample;

    fn group(path: &str, pod: Option<&str>, container: Option<&str>) -> Group {
        Group { path: path.into(), pod: pod.map(str::to_owned), container: container.map(str::to_owned) }
    }

    #[test]
    fn cgroups_bear_the_names_of_whom_they_are() {
        let sandboxes = BTreeMap::from([("box".to_owned(), PodIdentity { namespace: "ns".into(), name: "web".into(), uid: "u1".into() })]);
        let groups = vec![
            group("/", None, None),
            group("/kubepods", None, None),
            group("/kubepods/podu1", Some("u1"), None),
            group("/kubepods/podu1/id-a", Some("u1"), Some("id-a")),
            group("/kubepods/podu1/box", Some("u1"), Some("box")),
            group("/kubepods/podgone", Some("gone"), None),
            group("/kubepods/podgone/x", Some("gone"), Some("x")),
        ];
        let network = |_: &Group| Interfaces::from([("eth0".to_owned(), interfaces::Traffic::default())]);
        let all = gather(groups, &sandboxes, &sample(), |_| CgroupUsage { cpu: Some(9), ..CgroupUsage::default() }, network);
        let shown = |detail: &Detail| {
            let Detail { id, name, namespace, pod, container, .. } = detail;
            format!("{id} {name:?} {namespace}/{pod}/{container} {:?}", detail.usage.cpu)
        };
        assert_eq!(
            all.iter().map(shown).collect::<Vec<_>>(),
            [
                "/ \"\" // Some(9)",
                "/kubepods \"\" // Some(9)",
                "/kubepods/podu1 \"\" ns/web/ Some(9)",
                "/kubepods/podu1/id-a \"id-a\" ns/web/a Some(9)",
                "/kubepods/podu1/box \"box\" ns/web/ Some(9)",
                "id-b \"id-b\" ns/web/b Some(500000000)",
            ],
            "a container that has no cgroup here is told of by what the runtime knows"
        );
        assert_eq!((all[4].interfaces.len(), all[3].interfaces.len()), (1, 0));
        assert_eq!(all[3].image, "busybox");
    }
}
