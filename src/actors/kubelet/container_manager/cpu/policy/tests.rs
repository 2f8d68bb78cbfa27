use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::testing::{set, topology},
    *,
};

fn resources(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"cpu": cpu, "memory": "1Gi"}})
}

/// A pod of containers by their CPUs; names tell their kinds: `i…` init containers, `s…` sidecars.
fn pod(uid: &str, containers: &[(&str, &str)]) -> Pod {
    let made = |(name, cpu): &(&str, &str)| {
        let mut container = json!({"name": name, "resources": resources(cpu)});
        if name.starts_with('s') {
            container["restartPolicy"] = "Always".into();
        }
        container
    };
    let is_init = |(name, _): &&(&str, &str)| name.starts_with(['i', 's']);
    let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(is_init);
    let init: Vec<Value> = init.into_iter().map(made).collect();
    let main: Vec<Value> = main.into_iter().map(made).collect();
    let pod = json!({"metadata": {"name": uid, "uid": uid}, "spec": {"initContainers": init, "containers": main}});
    serde_json::from_value(pod).expect("a pod")
}

fn policy(milli_reserved: i64, named: &str, options: PolicyOptions) -> Result<StaticPolicy, String> {
    StaticPolicy::new(topology(1, 1, 4, 2), milli_reserved, &set(named), options)
}

fn usual() -> StaticPolicy {
    policy(500, "", PolicyOptions::default()).expect("a policy")
}

fn allocate(policy: &StaticPolicy, assignments: &mut Assignments, pod: &Pod) -> Result<(), Refusal> {
    let spec = pod.spec.clone().expect("a spec");
    in_order(&spec).try_for_each(|(container, _)| policy.allocate(assignments, pod, container, None))
}

fn shown(assignments: &Assignments, pod: &str) -> Vec<(String, String)> {
    let of_pod = assignments.containers.get(pod).into_iter().flatten();
    of_pod.map(|(name, cpus)| (name.clone(), cpus.to_string())).collect()
}

fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, cpus)| ((*name).to_owned(), (*cpus).to_owned())).collect()
}

#[test]
fn begun_reserved_cpus_count_whole_and_are_nobodys_own() {
    let policy = policy(1500, "", PolicyOptions::default()).expect("a policy");
    let initial = policy.initial();
    assert_eq!(initial.shared, set("0-7"), "those who share run there");
    assert_eq!(policy.available(&initial), set("1-3,5-7"), "a core is reserved");
    let named = StaticPolicy::new(topology(1, 1, 4, 2), 2000, &set("1,6"), PolicyOptions::default()).expect("a policy");
    assert_eq!(named.available(&named.initial()), set("0,2-5,7"));
}

#[test]
fn a_reservation_that_cannot_be_is_refused_in_upstreams_words() {
    let why = |milli: i64, named: &str| policy(milli, named, PolicyOptions::default()).expect_err("refused");
    assert_eq!(why(0, ""), "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero");
    assert_eq!(why(9000, ""), "[cpumanager] unable to reserve the required amount of CPUs (size of  did not equal 9)");
    assert_eq!(why(1000, "9"), "[cpumanager] unable to build the reserved physical CPUs from the reserved set: unknown CPU ID: 9");
}

#[test]
fn guaranteed_containers_of_whole_cpus_have_them_for_themselves() {
    let (policy, mut assignments) = (usual(), usual().initial());
    let two = pod("a", &[("c", "2"), ("d", "1500m")]);
    allocate(&policy, &mut assignments, &two).expect("there is enough");
    assert_eq!(shown(&assignments, "a"), of(&[("c", "1,5")]), "the reserved CPU's core is left alone");
    assert_eq!(assignments.shared, set("0,2-4,6-7"));
    let before = assignments.clone();
    allocate(&policy, &mut assignments, &two).expect("it has them");
    assert_eq!(assignments, before, "doing it again changes nothing");
    let mut burstable = pod("b", &[("c", "1")]);
    burstable.spec.as_mut().expect("a spec").containers[0].resources.as_mut().expect("resources").limits = None;
    allocate(&policy, &mut assignments, &burstable).expect("it shares");
    let mut whole = pod("w", &[("c", "1")]);
    whole.spec.as_mut().expect("a spec").resources = Some(serde_json::from_value(resources("1")).expect("resources"));
    allocate(&policy, &mut assignments, &whole).expect("it shares");
    assert_eq!(assignments, before);
    let refusal = allocate(&policy, &mut assignments, &pod("l", &[("c", "6")])).expect_err("too many");
    let why = "Allocate failed due to not enough cpus available to satisfy request: requested=6, available=5, which is unexpected";
    assert_eq!((refusal.reason, refusal.message.as_str()), ("UnexpectedAdmissionError", why));
    assignments.release("a");
    assert_eq!(assignments, policy.initial());
}

#[test]
fn what_init_containers_had_is_had_by_those_after_them_and_what_sidecars_have_is_not() {
    let (policy, mut assignments) = (usual(), usual().initial());
    let pod = pod("a", &[("i1", "4"), ("s1", "2"), ("i2", "2"), ("c", "2"), ("d", "2")]);
    allocate(&policy, &mut assignments, &pod).expect("there is enough");
    let cpus = |name: &str| assignments.of("a", name).cloned().expect(name);
    let long: Vec<CpuSet> = ["s1", "c", "d"].map(cpus).into();
    for (index, one) in long.iter().enumerate() {
        for other in &long[index + 1..] {
            assert!(one.intersection(other).is_empty(), "{one} and {other} run beside each other");
        }
    }
    assert!(cpus("i2").intersection(&cpus("s1")).is_empty());
    let all = long.iter().fold(CpuSet::default(), |all, cpus| all.union(cpus));
    assert_eq!((all.len(), assignments.known()), (6, set("0-7")));
    assert!(cpus("i1").is_subset(&all.union(&cpus("i2"))), "nothing is lost that was had first");
}

#[test]
fn whole_cores_only_means_no_others() {
    let options = PolicyOptions { full_cores: true, ..PolicyOptions::default() };
    let policy = policy(500, "", options).expect("a policy");
    let mut assignments = policy.initial();
    let refused = |assignments: &mut Assignments, count: &str| {
        let refusal = allocate(&policy, assignments, &pod("x", &[("c", count)])).expect_err("refused");
        assert_eq!(refusal.reason, "SMTAlignmentError");
        refusal.message
    };
    assert_eq!(refused(&mut assignments, "3"), "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2");
    allocate(&policy, &mut assignments, &pod("a", &[("c", "4")])).expect("there is enough");
    let why = "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 2, requested CPUs = 4, CPUs per core = 2";
    assert_eq!(refused(&mut assignments, "4"), why, "the core of the reserved CPU is none");
    allocate(&policy, &mut assignments, &pod("b", &[("c", "2")])).expect("there is enough");
    allocate(&policy, &mut assignments, &pod("b", &[("c", "2")])).expect("what it has it keeps, with no core left");
}

#[test]
fn a_strict_reservation_is_shared_by_nobody() {
    let strict = policy(500, "", PolicyOptions { strict_reservation: true, ..PolicyOptions::default() }).expect("a policy");
    assert_eq!(strict.initial().shared, set("1-7"));
    assert_eq!(strict.check(&strict.initial()), Ok(()));
    let why = "some of strictly reserved cpus: \"0\" are present in defaultCpuSet: \"0-7\"";
    assert_eq!(strict.check(&usual().initial()), Err(why.into()));
    let why = "not all reserved cpus: \"0\" are present in defaultCpuSet: \"1-7\"";
    assert_eq!(usual().check(&strict.initial()), Err(why.into()));
}

#[test]
fn what_an_earlier_process_left_has_to_fit_the_machine() {
    let policy = usual();
    let with = |shared: &str, own: &str| {
        let mut assignments = Assignments { shared: set(shared), ..Assignments::default() };
        assignments.containers.entry("p".into()).or_default().insert("c".into(), set(own));
        policy.check(&assignments)
    };
    assert_eq!(with("0,2-7", "1"), Ok(()));
    assert_eq!(with("", "1"), Err("default cpuset cannot be empty".into()));
    assert_eq!(with("0-7", "1"), Err("pod: p, container: c cpuset: \"1\" overlaps with default cpuset \"0-7\"".into()));
    let why = "current set of available CPUs \"0-7\" doesn't match with CPUs in state \"0,2-8\"";
    assert_eq!(with("0,2-7", "8"), Err(why.into()));
}

fn nodes(mask: &[u32]) -> Option<NumaMask> {
    Some(mask.iter().copied().collect())
}

fn hint(mask: &[u32], preferred: bool) -> Hint {
    Hint { nodes: nodes(mask), preferred }
}

#[test]
fn hints_name_the_numa_nodes_with_enough_cpus() {
    // Two nodes of two cores: CPUs 0-1 and 4-5, 2-3 and 6-7; the first is reserved.
    let policy = StaticPolicy::new(topology(2, 2, 4, 2), 1000, &set("0"), PolicyOptions::default()).expect("a policy");
    let mut assignments = policy.initial();
    let hints = |assignments: &Assignments, cpus: &str| {
        let pod = pod("x", &[("c", cpus)]);
        policy.hints(assignments, &pod, &pod.spec.as_ref().expect("a spec").containers[0])
    };
    let both = || hint(&[0, 1], false);
    assert_eq!(hints(&assignments, "500m"), None);
    assert_eq!(hints(&assignments, "3"), Some(vec![hint(&[0], true), hint(&[1], true), both()]));
    assert_eq!(hints(&assignments, "4"), Some(vec![hint(&[1], true), both()]), "an empty first node would have as many");
    assert_eq!(hints(&assignments, "5"), Some(vec![hint(&[0, 1], true)]));
    assert_eq!(hints(&assignments, "8"), Some(vec![Hint::NOWHERE]));
    let here = pod("a", &[("c", "2")]);
    policy.allocate(&mut assignments, &here, &here.spec.as_ref().expect("a spec").containers[0], nodes(&[1])).expect("enough");
    assert_eq!(shown(&assignments, "a"), of(&[("c", "2,6")]), "on the node that was chosen");
    let again = policy.hints(&assignments, &here, &here.spec.as_ref().expect("a spec").containers[0]);
    assert_eq!(again, Some(vec![hint(&[1], true), both()]), "where they lie");
    let larger = pod("a", &[("c", "3")]);
    assert_eq!(policy.hints(&assignments, &larger, &larger.spec.as_ref().expect("a spec").containers[0]), Some(vec![Hint::NOWHERE]));
    let beyond = pod("b", &[("c", "4")]);
    policy.allocate(&mut assignments, &beyond, &beyond.spec.as_ref().expect("a spec").containers[0], nodes(&[1])).expect("enough");
    assert_eq!(shown(&assignments, "b"), of(&[("c", "1,3,5,7")]), "what is missing there comes from elsewhere");
}

#[test]
fn a_pods_cpus_are_those_that_run_at_once() {
    let count = |containers: &[(&str, &str)]| exclusive_cpus_of_pod(&pod("p", containers));
    assert_eq!(count(&[("i1", "4"), ("s1", "1"), ("i2", "2"), ("c", "1"), ("d", "1")]), 4);
    assert_eq!(count(&[("s1", "1"), ("i1", "4"), ("c", "1")]), 5);
    assert_eq!(count(&[("s1", "2"), ("c", "1"), ("d", "500m")]), 3);
    let policy = StaticPolicy::new(topology(2, 2, 4, 2), 1000, &set("0"), PolicyOptions::default()).expect("a policy");
    let mut assignments = policy.initial();
    let two = pod("p", &[("c", "2"), ("d", "2")]);
    let wanted = Some(vec![hint(&[1], true), hint(&[0, 1], false)]);
    assert_eq!(policy.pod_hints(&assignments, &two), wanted);
    in_order(two.spec.as_ref().expect("a spec"))
        .try_for_each(|(container, _)| policy.allocate(&mut assignments, &two, container, nodes(&[1])))
        .expect("enough");
    assert_eq!(policy.pod_hints(&assignments, &two), wanted, "where they lie");
}

/// A pod comes, or one goes.
#[derive(Clone, Debug)]
enum Change {
    Comes(Vec<(&'static str, u32)>),
    Goes(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let container = |name: &'static str| (0_u32..4).prop_map(move |cpus| (name, cpus));
    let comes = (container("i1"), container("s1"), container("i2"), container("c"), container("d"));
    let comes = comes.prop_map(|(first, sidecar, second, main, other)| Change::Comes(vec![first, sidecar, second, main, other]));
    proptest::collection::vec(prop_oneof![2 => comes, 1 => (0_usize..4).prop_map(Change::Goes)], 1..16)
}

proptest! {
    #[test]
    fn nobody_who_runs_beside_another_shares_with_him_and_no_cpu_is_lost(changes in changes(), full_cores in any::<bool>()) {
        let policy = policy(1000, "", PolicyOptions { full_cores, ..PolicyOptions::default() }).expect("a policy");
        let (mut assignments, mut pods) = (policy.initial(), Vec::new());
        for (number, change) in changes.into_iter().enumerate() {
            match change {
                Change::Comes(containers) => {
                    let uid = format!("p{number}");
                    let texts: Vec<(&str, String)> = containers.iter().map(|(name, cpus)| (*name, if *cpus == 0 { "500m".to_owned() } else { cpus.to_string() })).collect();
                    let borrowed: Vec<(&str, &str)> = texts.iter().map(|(name, cpus)| (*name, cpus.as_str())).collect();
                    let mut tried = assignments.clone();
                    if allocate(&policy, &mut tried, &pod(&uid, &borrowed)).is_ok() {
                        assignments = tried;
                        pods.push((uid, containers));
                    }
                }
                Change::Goes(which) if which < pods.len() => {
                    let (uid, containers) = pods.remove(which);
                    prop_assert_eq!(assignments.release(&uid), containers.iter().any(|(_, cpus)| *cpus > 0));
                }
                Change::Goes(_) => {}
            }
            prop_assert_eq!(policy.check(&assignments), Ok(()));
            let mut taken = CpuSet::default();
            for (uid, containers) in &pods {
                let of_pod = |names: &[&str]| {
                    let wanted = containers.iter().filter(|(name, cpus)| names.contains(name) && *cpus > 0);
                    wanted.map(|(name, cpus)| (assignments.of(uid, name).cloned().unwrap_or_default(), *cpus as usize)).collect::<Vec<_>>()
                };
                let mut all = CpuSet::default();
                for (cpus, count) in of_pod(&["s1", "c", "d"]) {
                    prop_assert_eq!(cpus.len(), count);
                    prop_assert!(cpus.intersection(&all).is_empty());
                    all = all.union(&cpus);
                }
                for (cpus, _) in of_pod(&["i1", "i2"]) {
                    all = all.union(&cpus);
                }
                prop_assert!(all.intersection(&taken).is_empty());
                taken = taken.union(&all);
            }
            prop_assert!(taken.intersection(&assignments.shared).is_empty());
        }
        for (uid, _) in pods {
            assignments.release(&uid);
        }
        prop_assert_eq!(assignments, policy.initial());
    }
}
