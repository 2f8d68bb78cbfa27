//! On which NUMA nodes devices lie, for the topology manager, and the choice of those that lie where it says. Pure, as upstream's
//! (`devicemanager/topology_hints.go`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::state::{Choice, Resource, State};
use crate::kubelet::container_manager::{
    cpu::policy::{at_once, in_order},
    topology::{mask::NumaMask, merge::Hint},
};

impl State {
    /// Where the devices of each resource that a container asks for could lie on a machine of these NUMA nodes.
    pub fn hints(&self, machine: NumaMask, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let of_resource = |(resource, count): (String, usize)| {
            let key = (uid.to_owned(), container.name.clone(), resource);
            let has = self.held.get(&key).map(|held| held.devices.clone()).unwrap_or_default();
            let (again, taken) = self.of_others(pod, uid, &container.name, &key.2);
            self.resource_hints(machine, &key.2, count, &has, &again, &taken)
        };
        self.asked(container).into_iter().map(of_resource).collect()
    }

    /// The same of all devices of a pod.
    pub fn pod_hints(&self, machine: NumaMask, pod: &Pod) -> Vec<Vec<Hint>> {
        let Some(spec) = &pod.spec else { return Vec::new() };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let resources: BTreeSet<String> = in_order(spec).flat_map(|(container, _)| self.asked(container)).map(|(resource, _)| resource).collect();
        let of_resource = |resource: String| {
            let of_container = |container: &Container| self.asked(container).into_iter().find(|(asked, _)| *asked == resource);
            let count = at_once(spec, |container| of_container(container).map_or(0, |(_, count)| count));
            let held = |own: bool| {
                let held = self.held.iter().filter(|((pod, _, of), _)| *of == resource && (pod == uid) == own);
                held.flat_map(|(_, held)| held.devices.iter().cloned()).collect::<BTreeSet<_>>()
            };
            self.resource_hints(machine, &resource, count, &held(true), &BTreeSet::new(), &held(false))
        };
        resources.into_iter().map(of_resource).collect()
    }

    /// Of devices that are had already those of where they lie.
    fn resource_hints(
        &self,
        machine: NumaMask,
        resource: &str,
        count: usize,
        has: &BTreeSet<String>,
        again: &BTreeSet<String>,
        taken: &BTreeSet<String>,
    ) -> Vec<Hint> {
        let Some(known) = self.resources.get(resource).filter(|known| !known.nodes.is_empty()) else { return vec![Hint::ANY] };
        let hints = if has.is_empty() {
            let well = known.devices.iter().filter(|(_, is_well)| **is_well).map(|(id, _)| id);
            let free = well.filter(|id| !taken.contains(*id) && !again.contains(*id)).cloned().collect();
            known.hints(machine, &free, again, count)
        } else if has.len() == count {
            known.hints(machine, has, &BTreeSet::new(), count)
        } else {
            Vec::new()
        };
        if hints.is_empty() { vec![Hint::NOWHERE] } else { hints }
    }

    /// Narrows a choice to devices of these NUMA nodes, as far as they have enough; then to others of some node, then to those of none.
    ///
    /// # Errors
    /// When they have not as many, and others will not do.
    pub fn near(&self, resource: &str, choice: Choice, nodes: NumaMask, strict: bool) -> Result<Choice, String> {
        let Choice::Of { mut must, available, count } = choice else { return Ok(Choice::Nothing) };
        let Some(known) = self.resources.get(resource).filter(|known| !known.nodes.is_empty()) else {
            return Ok(Choice::Of { must, available, count });
        };
        for distance in 0..3 {
            let group = available.iter().filter(|id| known.distance(id, nodes) == distance && !must.contains(*id));
            let group: BTreeSet<String> = group.cloned().collect();
            if must.len() + group.len() >= count {
                return Ok(Choice::Of { available: must.union(&group).cloned().collect(), must, count });
            }
            if strict {
                let left = must.len() + group.len();
                return Err(format!("others took devices of {resource} on the NUMA nodes that were chosen. Requested: {count}, Available: {left}"));
            }
            must.extend(group);
        }
        Ok(Choice::Of { must, available, count })
    }
}

impl Resource {
    /// 0 for a device on one of these nodes, 1 for one on another, 2 for one on none.
    fn distance(&self, id: &str, nodes: NumaMask) -> u8 {
        match self.nodes.get(id) {
            Some(of) if of.and(nodes).is_empty() => 1,
            Some(_) => 0,
            None => 2,
        }
    }

    /// The sets of nodes with enough free devices and with all that are to be used again. As few nodes as would do if none were taken are
    /// preferred.
    fn hints(&self, machine: NumaMask, free: &BTreeSet<String>, again: &BTreeSet<String>, count: usize) -> Vec<Hint> {
        let hosts: BTreeSet<u32> = self.nodes.values().flat_map(|nodes| nodes.and(machine).nodes()).collect();
        let masks = NumaMask::all_of(&hosts);
        let near = |id: &String, mask: NumaMask| self.distance(id, mask) == 0;
        let could = |mask: &NumaMask| self.devices.keys().filter(|id| near(id, *mask)).count() >= count;
        let least = masks.iter().filter(|mask| could(mask)).map(|mask| mask.count()).min().unwrap_or(hosts.len());
        let fits = |mask: &NumaMask| {
            let placed = again.iter().filter(|id| self.nodes.contains_key(*id));
            let (here, elsewhere): (Vec<&String>, Vec<&String>) = placed.partition(|id| near(id, *mask));
            elsewhere.is_empty() && here.len() + free.iter().filter(|id| near(id, *mask)).count() >= count
        };
        let fitting = masks.into_iter().filter(fits);
        fitting.map(|mask| Hint { nodes: Some(mask), preferred: mask.count() == least }).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            proto::{Device, HEALTHY, NumaNode, Topology},
            state::Held,
        },
        *,
    };

    const GPU: &str = "example.com/gpu";

    fn mask(nodes: &[u32]) -> NumaMask {
        nodes.iter().copied().collect()
    }

    fn hint(nodes: &[u32], preferred: bool) -> Hint {
        Hint { nodes: Some(mask(nodes)), preferred }
    }

    /// Devices by their nodes.
    fn state(devices: &[(&str, &[i64])]) -> State {
        let device = |(id, nodes): &(&str, &[i64])| {
            let nodes: Vec<NumaNode> = nodes.iter().map(|id| NumaNode { id: *id }).collect();
            let topology = Some(Topology { nodes }).filter(|topology| !topology.nodes.is_empty());
            Device { id: (*id).to_owned(), health: HEALTHY.into(), topology }
        };
        let mut state = State::default();
        state.set(GPU, &devices.iter().map(device).collect::<Vec<_>>());
        state
    }

    fn pod(uid: &str, containers: &[(&str, &str)]) -> Pod {
        let made = |(name, count): &(&str, &str)| json!({"name": name, "resources": {"limits": {"example.com/gpu": count}}});
        let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(|(name, _)| name.starts_with('i'));
        let list = |all: Vec<&(&str, &str)>| all.into_iter().map(made).collect::<Vec<_>>();
        let spec = json!({"initContainers": list(init), "containers": list(main)});
        serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": spec})).expect("a pod")
    }

    fn hold(state: &mut State, pod: &str, container: &str, devices: &[&str]) {
        let devices = devices.iter().map(|id| (*id).to_owned()).collect();
        state.held.insert((pod.to_owned(), container.to_owned(), GPU.to_owned()), Held { devices, response: Default::default() });
    }

    fn hints(state: &State, pod: &Pod, index: usize) -> Vec<Vec<Hint>> {
        state.hints(mask(&[0, 1, 2]), pod, &pod.spec.as_ref().expect("a spec").containers[index])
    }

    #[test]
    fn hints_name_the_nodes_with_enough_devices() {
        let mut four = state(&[("a", &[0]), ("b", &[0]), ("c", &[1]), ("d", &[9])]);
        let both = || hint(&[0, 1], false);
        assert_eq!(hints(&four, &pod("p", &[("c", "1")]), 0), [vec![hint(&[0], true), hint(&[1], true), both()]]);
        assert_eq!(hints(&four, &pod("p", &[("c", "2")]), 0), [vec![hint(&[0], true), both()]]);
        assert_eq!(hints(&four, &pod("p", &[("c", "4")]), 0), [vec![Hint::NOWHERE]], "no node of this machine has the last one");
        hold(&mut four, "other", "c", &["a"]);
        assert_eq!(hints(&four, &pod("p", &[("c", "2")]), 0), [vec![both()]], "one node would have had as many");
        hold(&mut four, "p", "c", &["b", "c"]);
        assert_eq!(hints(&four, &pod("p", &[("c", "2")]), 0), [vec![both()]], "where they lie");
        assert_eq!(hints(&four, &pod("p", &[("c", "1")]), 0), [vec![Hint::NOWHERE]], "it asks for others than it has");
        assert_eq!(hints(&state(&[("a", &[])]), &pod("p", &[("c", "1")]), 0), [vec![Hint::ANY]], "they lie nowhere");
    }

    #[test]
    fn what_init_containers_had_is_had_again() {
        let mut two = state(&[("a", &[0]), ("b", &[1])]);
        let pod = pod("p", &[("i", "1"), ("c", "1")]);
        hold(&mut two, "p", "i", &["b"]);
        assert_eq!(hints(&two, &pod, 0), [vec![hint(&[1], true), hint(&[0, 1], false)]]);
    }

    #[test]
    fn a_whole_pods_devices_lie_together() {
        let mut three = state(&[("a", &[0]), ("b", &[1]), ("c", &[1])]);
        let two = pod("p", &[("i", "1"), ("c", "1"), ("d", "1")]);
        let wanted = [vec![hint(&[1], true), hint(&[0, 1], false)]];
        assert_eq!(three.pod_hints(mask(&[0, 1]), &two), wanted);
        hold(&mut three, "p", "c", &["b"]);
        hold(&mut three, "p", "d", &["c"]);
        assert_eq!(three.pod_hints(mask(&[0, 1]), &two), wanted);
        hold(&mut three, "o", "c", &["a"]);
        assert_eq!(three.pod_hints(mask(&[0, 1]), &pod("q", &[("c", "1")])), [vec![Hint::NOWHERE]]);
    }

    #[test]
    fn the_nearest_devices_are_chosen() {
        let all = state(&[("a", &[]), ("b", &[1]), ("c", &[0]), ("d", &[0, 1])]);
        let chosen = |count: usize, strict: bool| {
            let choice = all.choose(&pod("p", &[("c", "1")]), "c", GPU, count).expect("there are as many");
            all.near(GPU, choice, mask(&[0]), strict)
        };
        let of = |must: &[&str], available: &[&str], count: usize| {
            let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
            Ok(Choice::Of { must: set(must), available: set(available), count })
        };
        assert_eq!(chosen(1, true), of(&[], &["c", "d"], 1));
        assert_eq!(chosen(3, false), of(&["c", "d"], &["b", "c", "d"], 3));
        assert_eq!(chosen(4, false), of(&["b", "c", "d"], &["a", "b", "c", "d"], 4));
        let why = "others took devices of example.com/gpu on the NUMA nodes that were chosen. Requested: 3, Available: 2";
        assert_eq!(chosen(3, true), Err(why.into()));
    }
}
