use serde_json::json;

use super::{super::machine::NodeMemory, *};

const GIB: u64 = 1 << 30;

/// A machine of nodes of 10 GiB, the first of which keeps one.
fn policy(nodes: u32) -> MemoryPolicy {
    let node = NodeMemory { total: 10 * GIB, hugepages: BTreeMap::new() };
    let machine = (0..nodes).map(|id| (id, node.clone())).collect();
    let reserved = Reserved::from([(0, Amounts::from([(MEMORY.to_owned(), GIB)]))]);
    MemoryPolicy::new(&machine, &reserved, GIB).expect("a policy")
}

/// A pod of containers by their GiB; `i…` are init containers.
fn pod(uid: &str, containers: &[(&str, u64)]) -> Pod {
    let made = |(name, gib): &(&str, u64)| json!({"name": name, "resources": {"limits": {"cpu": "1", "memory": format!("{gib}Gi")}}});
    let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(|(name, _)| name.starts_with('i'));
    let init: Vec<_> = init.into_iter().map(made).collect();
    let main: Vec<_> = main.into_iter().map(made).collect();
    serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid}, "spec": {"initContainers": init, "containers": main}})).expect("a pod")
}

fn mask(nodes: &[u32]) -> NumaMask {
    nodes.iter().copied().collect()
}

fn hint(nodes: &[u32], preferred: bool) -> Hint {
    Hint { nodes: Some(mask(nodes)), preferred }
}

fn allocate(policy: &MemoryPolicy, state: &mut MemoryState, pod: &Pod, strict: bool) -> Result<(), Refusal> {
    let spec = pod.spec.clone().expect("a spec");
    in_order(&spec).try_for_each(|(container, _)| policy.allocate(state, pod, container, None, strict))
}

fn free(state: &MemoryState) -> Vec<u64> {
    state.nodes.values().map(|node| node.memory_map[MEMORY].free / GIB).collect()
}

#[test]
fn reservations_by_node_are_those_of_the_whole() {
    let machine = MachineMemory::from([(0, NodeMemory { total: GIB, hugepages: BTreeMap::new() })]);
    let why = |reserved: &Reserved, kept| MemoryPolicy::new(&machine, reserved, kept).expect_err("refused");
    let of = |node, name: &str, bytes| Reserved::from([(node, Amounts::from([(name.to_owned(), bytes)]))]);
    assert_eq!(why(&of(3, MEMORY, 1), 1), "the reserved memory configuration references a NUMA node 3 that does not exist on this machine");
    let unequal = why(&of(0, MEMORY, 1 << 20), 2 << 20);
    assert_eq!(unequal, "the total amount \"1Mi\" of type \"memory\" is not equal to the value \"2Mi\" determined by Node Allocatable feature");
    assert_eq!(why(&Reserved::new(), 0), "[memorymanager] you should specify the system reserved memory");
}

#[test]
fn memory_lies_on_few_nodes_which_are_used_alone_or_always_together() {
    let (policy, mut state) = (policy(2), policy(2).initial());
    assert_eq!(free(&state), [9, 10]);
    let hints = |state: &MemoryState, gib: u64| {
        let pod = pod("x", &[("c", gib)]);
        policy.hints(state, &pod, &pod.spec.as_ref().expect("a spec").containers[0]).expect("it is to have some")
    };
    assert_eq!(hints(&state, 10), [hint(&[1], true), hint(&[0, 1], false)]);
    assert_eq!(hints(&state, 11), [hint(&[0, 1], true)]);
    assert_eq!(hints(&state, 20), [Hint::NOWHERE]);
    allocate(&policy, &mut state, &pod("a", &[("c", 4)]), true).expect("there is enough");
    assert_eq!(free(&state), [5, 10]);
    assert_eq!(hints(&state, 11), [Hint::NOWHERE], "the first is used alone");
    let refusal = allocate(&policy, &mut state, &pod("b", &[("c", 11)]), false).expect_err("refused");
    let why = "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available";
    assert_eq!(refusal, Refusal::unexpected(why));
    assert!(release(&mut state, "a") && !release(&mut state, "a"));
    assert_eq!(state, policy.initial());
    allocate(&policy, &mut state, &pod("b", &[("c", 11)]), true).expect("there is enough");
    assert_eq!((free(&state), hints(&state, 1)), (vec![0, 8], vec![hint(&[0, 1], false)]), "both are used together");
    assert_eq!(policy.check(&state), Ok(()));
    release(&mut state, "b");
    assert_eq!(state, policy.initial());
}

#[test]
fn what_init_containers_had_is_had_again() {
    let (policy, mut state) = (policy(1), policy(1).initial());
    allocate(&policy, &mut state, &pod("a", &[("i1", 4), ("i2", 6), ("c", 3), ("d", 2)]), true).expect("there is enough");
    assert_eq!(free(&state), [3], "six at most at a time");
    assert_eq!(policy.check(&state), Ok(()));
    assert_eq!(state.nodes[&0].number_of_assignments, 4);
    release(&mut state, "a");
    assert_eq!(state, policy.initial());
}

#[test]
fn a_whole_pods_memory_lies_together() {
    let (policy, mut state) = (policy(2), policy(2).initial());
    let pod = pod("a", &[("i", 3), ("c", 5), ("d", 5)]);
    assert_eq!(policy.pod_hints(&state, &pod), Some(vec![hint(&[1], true), hint(&[0, 1], false)]));
    let spec = pod.spec.clone().expect("a spec");
    in_order(&spec).try_for_each(|(container, _)| policy.allocate(&mut state, &pod, container, Some(mask(&[1])), true)).expect("there is enough");
    assert_eq!(free(&state), [9, 0]);
    assert_eq!(policy.pod_hints(&state, &pod), Some(vec![hint(&[1], true)]));
}

#[test]
fn what_an_earlier_process_left_has_to_fit_the_machine() {
    let why = Err("[memorymanager] the expected machine state is different from the real one".to_owned());
    assert_eq!(policy(2).check(&policy(1).initial()), why);
    let mut state = policy(2).initial();
    allocate(&policy(2), &mut state, &pod("a", &[("c", 4)]), true).expect("there is enough");
    state.entries.clear();
    assert_eq!(policy(2).check(&state), why, "nobody has what is taken");
}
