//! A Service's ports as pods serve them. Pure.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// A port as slices group by it: name, protocol, number, application protocol.
pub type PortKey = (String, String, i32, Option<String>);

/// The port sets of one Service have no more ports than this together, with the Service's labels, which each slice has: every pod may serve its
/// named ports under other numbers, and as many ports times as many pods as a user likes are no object's size any more.
pub const MOST_PORTS: usize = 100_000;

/// What pods have, by the ports that they serve.
#[derive(Debug)]
pub struct Groups<T> {
    pub of: BTreeMap<Vec<PortKey>, Vec<T>>,
    /// So many pods serve other port sets than those that there is room for.
    pub left_out: usize,
}

/// Whoever serves ports by their names.
pub trait ServesPorts {
    fn named_ports(&self) -> NamedPorts<'_>;
}

/// Groups what pods have by the ports that they serve.
pub fn by_ports<'a, P: ServesPorts + 'a, T>(service: &Service, pods: impl Iterator<Item = (&'a P, T)>) -> Groups<T> {
    let declared: Vec<&ServicePort> = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).collect();
    let named = declared.iter().any(|port| matches!(port.target_port, Some(IntOrString::String(_))));
    let mut groups = Groups { of: BTreeMap::new(), left_out: 0 };
    if named {
        // The numbers alone tell port sets apart; the rest is the Service's.
        let each = declared.len() + service.metadata.labels.as_ref().map_or(0, BTreeMap::len);
        let mut numbered: BTreeMap<Vec<Option<i32>>, Vec<T>> = BTreeMap::new();
        for (pod, item) in pods {
            let numbers = numbers(&declared, &pod.named_ports());
            if let Some(known) = numbered.get_mut(&numbers) {
                known.push(item);
            } else if numbered.is_empty() || each * (numbered.len() + 1) <= MOST_PORTS {
                numbered.insert(numbers, vec![item]);
            } else {
                groups.left_out += 1;
            }
        }
        for (numbers, items) in numbered {
            groups.of.entry(served(&declared, &numbers)).or_default().extend(items);
        }
        return groups;
    }
    // All pods serve the same numbers, however many there are of both.
    let all: Vec<T> = pods.map(|(_, item)| item).collect();
    if !all.is_empty() {
        groups.of.insert(served(&declared, &numbers(&declared, &NamedPorts::new())), all);
    }
    groups
}

/// The number of each port of a Service on a pod; nothing where the pod does not name its target.
fn numbers(declared: &[&ServicePort], named: &NamedPorts<'_>) -> Vec<Option<i32>> {
    let number = |port: &&ServicePort| match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named.get(&(name.as_str(), port.protocol.as_deref().unwrap_or("TCP"))).copied(),
    };
    declared.iter().map(number).collect()
}

/// The numbers of a pod's ports, by name and protocol.
pub type NamedPorts<'a> = HashMap<(&'a str, &'a str), i32>;

/// The first container that declares a name has it.
impl ServesPorts for Pod {
    fn named_ports(&self) -> NamedPorts<'_> {
        let mut named = NamedPorts::new();
        let Some(spec) = &self.spec else { return named };
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        for port in spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten()) {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if let Some(name) = &port.name {
                named.entry((name, protocol)).or_insert(port.container_port);
            }
        }
        named
    }
}

/// The ports of a Service under these numbers. One that has none is not served.
fn served(declared: &[&ServicePort], numbers: &[Option<i32>]) -> Vec<PortKey> {
    let key = |(port, number): (&&ServicePort, &Option<i32>)| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        Some((port.name.clone().unwrap_or_default(), protocol, (*number)?, port.app_protocol.clone()))
    };
    let mut ports: Vec<PortKey> = declared.iter().zip(numbers).filter_map(key).collect();
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};
    use serde_json::json;

    use super::*;

    /// A Service of so many ports, which a pod has by name.
    fn wide(ports: usize) -> (Service, Pod) {
        let of_service = (1..=ports).map(|n| json!({"name": format!("s{n}"), "port": n, "targetPort": format!("p{n}")}));
        let of_pod = (1..=ports).map(|n| json!({"name": format!("p{n}"), "containerPort": n}));
        let service = json!({"metadata": {"name": "s"}, "spec": {"ports": of_service.collect::<Vec<_>>()}});
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "ports": of_pod.collect::<Vec<_>>()}]}});
        (serde_json::from_value(service).expect("a service"), serde_json::from_value(pod).expect("a pod"))
    }

    /// What this thread worked, not what it waited for others; the shortest of three.
    fn time_of(ports: usize) -> Duration {
        let (service, pod) = wide(ports);
        let worked = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("threads have clocks"));
        let once = || {
            let begun = worked();
            let groups = by_ports(&service, [(&pod, ())].into_iter());
            assert_eq!(groups.of.keys().map(Vec::len).collect::<Vec<_>>(), [ports]);
            worked() - begun
        };
        (0..3).map(|_| once()).min().expect("three")
    }

    #[test]
    fn names_are_looked_up_and_not_searched_for() {
        let (few, many) = (time_of(1000), time_of(8000));
        assert!(many < few * 24 + Duration::from_millis(20), "{few:?} for 1,000 ports and {many:?} for 8,000");
    }

    #[test]
    fn the_first_container_with_a_name_serves_it_and_sidecars_do_too() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i", "ports": [{"name": "init", "containerPort": 1}]},
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "b", "containerPort": 2}]}],
            "containers": [{"name": "c", "ports": [{"name": "a", "containerPort": 3}]}, {"name": "d", "ports": [{"name": "a", "containerPort": 4}]}]}});
        let ports = ["a", "b", "init"].map(|name| json!({"name": name, "port": 80, "targetPort": name}));
        let service: Service = serde_json::from_value(json!({"spec": {"ports": ports}})).expect("a service");
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let groups = by_ports(&service, [(&pod, ())].into_iter());
        let numbers: Vec<_> = groups.of.keys().flatten().map(|(name, _, number, _)| (name.as_str(), *number)).collect();
        assert_eq!(numbers, [("a", 3), ("b", 2)]);
    }

    #[test]
    fn pods_that_each_serve_other_numbers_are_kept_as_long_as_there_is_room() {
        let (service, first) = wide(3000);
        let other = |at: i32| {
            let mut pod = first.clone();
            let ports = pod.spec.as_mut().and_then(|spec| spec.containers[0].ports.as_mut()).expect("ports");
            ports[0].container_port = 10_000 + at;
            pod
        };
        let pods: Vec<Pod> = (0..60).map(|at| other(at / 2)).chain((100..110).map(other)).collect();
        let groups = by_ports(&service, pods.iter().map(|pod| (pod, ())));
        let ports: usize = groups.of.keys().map(Vec::len).sum();
        assert!(ports <= MOST_PORTS, "{ports} ports");
        assert_eq!((groups.of.len(), groups.left_out), (33, 7), "one slice's worth of ports for each set");
        assert_eq!(groups.of.values().map(Vec::len).sum::<usize>(), 63, "pods of one set stand together");
    }
}
