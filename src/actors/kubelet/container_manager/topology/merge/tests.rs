use proptest::prelude::*;

use super::*;

fn mask(nodes: &[u32]) -> NumaMask {
    nodes.iter().copied().collect()
}

fn hint(nodes: &[u32], preferred: bool) -> Hint {
    Hint { nodes: Some(mask(nodes)), preferred }
}

fn machine(nodes: u32) -> NumaNodes {
    NumaNodes { all: (0..nodes).collect(), distances: Vec::new() }
}

const POLICIES: [TopologyPolicy; 3] = [TopologyPolicy::BestEffort, TopologyPolicy::Restricted, TopologyPolicy::SingleNumaNode];

fn two(resources: &[Vec<Hint>]) -> [(Hint, bool); 3] {
    POLICIES.map(|policy| merge(policy, &machine(2), false, resources))
}

#[test]
fn resources_that_agree_lie_together() {
    let cpus = vec![hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)];
    let devices = vec![hint(&[1], true), hint(&[0, 1], false)];
    assert_eq!(two(&[cpus.clone(), devices]), [(hint(&[1], true), true); 3]);
    assert_eq!(two(&[cpus, vec![Hint::ANY]]), [(hint(&[0], true), true); 3], "the lowest node of those that do");
}

#[test]
fn without_a_wish_all_is_let_in() {
    let [best, restricted, single] = two(&[]);
    assert_eq!((best, restricted), ((hint(&[0, 1], true), true), (hint(&[0, 1], true), true)));
    assert_eq!(single, (Hint::ANY, true));
}

#[test]
fn resources_that_disagree_are_let_in_by_best_effort_alone() {
    let (first, second) = (vec![hint(&[0], true), hint(&[0, 1], false)], vec![hint(&[1], true), hint(&[0, 1], false)]);
    let [best, restricted, single] = two(&[first, second]);
    assert_eq!(best, (hint(&[0], false), true));
    assert_eq!(restricted, (hint(&[0], false), false));
    assert!(!single.1);
    assert_eq!(two(&[vec![Hint::NOWHERE]]).map(|(_, let_in)| let_in), [true, false, false]);
}

#[test]
fn what_needs_two_nodes_is_preferred_there_but_on_no_single_one() {
    let [best, restricted, single] = two(&[vec![hint(&[0, 1], true)], vec![Hint::ANY]]);
    assert_eq!((best, restricted), ((hint(&[0, 1], true), true), (hint(&[0, 1], true), true)));
    assert_eq!(single, (Hint { nodes: None, preferred: false }, false));
}

#[test]
fn the_nearest_nodes_are_taken_if_asked() {
    let distances = vec![vec![10, 30, 20], vec![30, 10, 20], vec![20, 20, 10]];
    let three = NumaNodes { distances, ..machine(3) };
    let pairs = vec![hint(&[0, 1], true), hint(&[0, 2], true), hint(&[1, 2], true)];
    let merged = |closest| merge(TopologyPolicy::Restricted, &three, closest, std::slice::from_ref(&pairs)).0;
    assert_eq!((merged(false), merged(true)), (hint(&[0, 1], true), hint(&[0, 2], true)));
}

/// As upstream does it: every combination, one after the other, each compared with the best before it.
fn slow(policy: TopologyPolicy, machine: &NumaNodes, closest: bool, resources: &[Vec<Hint>]) -> (Hint, bool) {
    let mut resources = resources.to_vec();
    if policy == TopologyPolicy::SingleNumaNode {
        for hints in &mut resources {
            hints.retain(|hint| hint.preferred && hint.nodes.is_none_or(|nodes| nodes.count() == 1));
        }
    }
    let mut wanted = 0;
    for hints in &resources {
        if let Some(narrowest) = hints.iter().filter_map(|hint| hint.nodes).map(|nodes| nodes.count()).min() {
            wanted = wanted.max(narrowest);
        }
    }
    let mut all = vec![Vec::new()];
    for hints in &resources {
        all = all.iter().flat_map(|before: &Vec<Hint>| hints.iter().map(move |hint| [before.as_slice(), &[*hint]].concat())).collect();
    }
    let mut best: Option<(NumaMask, bool)> = None;
    for combination in all {
        let masks: Vec<NumaMask> = combination.iter().filter_map(|hint| hint.nodes).collect();
        let merged = masks.iter().fold(machine.all, |all, mask| all.and(*mask));
        let preferred = combination.iter().all(|hint| hint.preferred) && masks.iter().all(|mask| *mask == masks[0]);
        if merged.is_empty() {
            continue;
        }
        let Some((current, current_preferred)) = best else {
            best = Some((merged, preferred));
            continue;
        };
        let average = |mask: NumaMask| {
            let pairs = mask.nodes().flat_map(|from| mask.nodes().map(move |to| (from, to)));
            let sum: u64 = pairs.map(|(from, to)| machine.distances[from as usize][to as usize]).sum();
            sum as f64 / (mask.count() * mask.count()) as f64
        };
        let fitter = if merged.count() != current.count() {
            merged.count() < current.count()
        } else if closest && policy != TopologyPolicy::SingleNumaNode && average(merged) != average(current) {
            average(merged) < average(current)
        } else {
            merged < current
        };
        let takes = match (current_preferred, preferred) {
            (false, true) => true,
            (true, false) => false,
            (true, true) => fitter,
            (false, false) if current.count() > wanted => fitter,
            (false, false) if current.count() == wanted => merged.count() == wanted && fitter,
            (false, false) if merged.count() > wanted => false,
            (false, false) if merged.count() == wanted => true,
            (false, false) => merged.count() > current.count() || merged.count() == current.count() && fitter,
        };
        if takes {
            best = Some((merged, preferred));
        }
    }
    let (nodes, preferred) = best.unwrap_or((machine.all, false));
    let nodes = Some(nodes).filter(|nodes| policy != TopologyPolicy::SingleNumaNode || *nodes != machine.all);
    (Hint { nodes, preferred }, policy == TopologyPolicy::BestEffort || preferred)
}

fn hints(nodes: u32) -> impl Strategy<Value = Vec<Hint>> {
    let mask = (1_u64..1 << nodes).prop_map(move |bits| (0..nodes).filter(|node| bits >> node & 1 == 1).collect::<NumaMask>());
    let some = (mask, any::<bool>()).prop_map(|(nodes, preferred)| Hint { nodes: Some(nodes), preferred });
    let one = prop_oneof![8 => some, 1 => Just(Hint::ANY), 1 => Just(Hint::NOWHERE)];
    proptest::collection::vec(one, 1..6)
}

fn cases() -> impl Strategy<Value = (NumaNodes, Vec<Vec<Hint>>)> {
    (1_u32..5).prop_flat_map(|nodes| {
        let size = nodes as usize;
        let distances = proptest::collection::vec(proptest::collection::vec(10_u64..14, size), size);
        let made = distances.prop_map(move |distances| NumaNodes { distances, ..machine(nodes) });
        (made, proptest::collection::vec(hints(nodes), 0..5))
    })
}

proptest! {
    #[test]
    fn the_best_is_what_looking_at_every_combination_finds((machine, resources) in cases(), closest in any::<bool>()) {
        for policy in POLICIES {
            prop_assert_eq!(merge(policy, &machine, closest, &resources), slow(policy, &machine, closest, &resources), "{:?}", policy);
        }
    }
}
