use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    history::REVISION,
    model::{Sets, max_surge, max_unavailable},
    plan::{Action, Plan, Snapshot, plan},
};

fn deployment(replicas: i32, image: &str, strategy: Value) -> Deployment {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, "strategy": strategy, "revisionHistoryLimit": 2});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1}, "spec": spec})).expect("a deployment")
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

/// A cluster in which every planned action takes effect, and pods become available when told to.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    made: u32,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        World { deployment, sets: Vec::new(), made: 0 }
    }

    fn plan(&self) -> Plan {
        let old_pods_exist = false;
        plan(Snapshot { deployment: &self.deployment, sets: &self.sets, old_pods_exist }, Timestamp::UNIX_EPOCH)
    }

    fn apply(&mut self, plan: Plan) -> bool {
        let changed = !plan.actions.is_empty();
        for action in plan.actions {
            match action {
                Action::CreateReplicaSet(mut set) => {
                    self.made += 1;
                    set.metadata.uid = Some(format!("u{}", self.made));
                    set.metadata.creation_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(i64::from(self.made)).expect("small")));
                    self.sets.push(Arc::new(*set));
                }
                Action::UpdateReplicaSet(set) => {
                    let at = self.sets.iter().position(|other| other.metadata.uid == set.metadata.uid).expect("known");
                    self.sets[at] = Arc::new(*set);
                }
                Action::DeleteReplicaSet { uid, .. } => self.sets.retain(|set| set.metadata.uid.as_deref() != Some(&uid)),
                Action::Annotate { revision } => drop(self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision)),
                Action::UpdateStatus(status) => self.deployment.status = Some(*status),
                Action::Adopt { .. } | Action::Release { .. } => unreachable!("all sets are owned"),
            }
        }
        changed
    }

    /// The pods of each set exist, and `available` of them at most are available.
    fn settle_pods(&mut self, available: impl Fn(usize, i32) -> i32) {
        for (at, set) in self.sets.iter_mut().enumerate() {
            let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let up = available(at, size).clamp(0, size);
            let some = |number: i32| (number != 0).then_some(number);
            Arc::make_mut(set).status =
                Some(ReplicaSetStatus { replicas: size, ready_replicas: some(up), available_replicas: some(up), ..ReplicaSetStatus::default() });
        }
    }

    /// The ReplicaSet controller's work on one set: pods beyond its size go, and its status tells of the rest.
    fn settle_set(&mut self, at: usize, available: i32) {
        let set = Arc::make_mut(&mut self.sets[at]);
        let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let up = available.min(size);
        set.status = Some(ReplicaSetStatus { replicas: size, available_replicas: (up != 0).then_some(up), ..ReplicaSetStatus::default() });
    }

    fn total(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).sum()
    }

    fn available(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.status.as_ref()?.available_replicas).sum()
    }

    fn roll_out(&mut self) {
        for _ in 0..500 {
            self.settle_pods(|_, size| size);
            let plan = self.plan();
            let changed = self.apply(plan);
            if !changed {
                return;
            }
        }
        panic!("no end: {:?}", self.plan());
    }

    fn set_image(&mut self, image: &str) {
        self.deployment.spec.as_mut().expect("set").template.spec.as_mut().expect("set").containers[0].image = Some(image.into());
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).collect()
    }
}

#[test]
fn a_new_deployment_makes_one_set_and_then_has_nothing_to_do() {
    let mut world = World::new(deployment(3, "a", rolling(json!(1), json!(0))));
    world.roll_out();
    assert_eq!(world.sizes(), [3]);
    assert_eq!(world.plan(), Plan::default());
    let conditions = world.deployment.status.clone().expect("set").conditions.expect("set");
    let reasons: Vec<_> = conditions.iter().filter_map(|condition| condition.reason.clone()).collect();
    assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
}

#[test]
fn sizes_beyond_all_counting_stay_within_what_a_number_can_say() {
    for bounds in [json!("25%"), json!("100%"), json!(i32::MAX)] {
        let mut world = World::new(deployment(i32::MAX, "a", rolling(bounds.clone(), bounds)));
        for image in ["a", "b", "c"] {
            world.set_image(image);
            for share in [0, 1_000, i32::MAX] {
                let plan = world.plan();
                world.apply(plan);
                world.settle_pods(|_, size| size.min(share));
                assert!(world.sizes().iter().all(|size| *size >= 0), "{:?}", world.sizes());
            }
        }
        let total: i64 = world.sizes().into_iter().map(i64::from).sum();
        assert!(total >= i64::from(i32::MAX), "nothing is lost: {:?}", world.sizes());
    }
}

#[test]
fn a_rollback_reuses_the_old_set_under_a_new_revision() {
    let mut world = World::new(deployment(3, "a", rolling(json!(1), json!(0))));
    world.roll_out();
    world.set_image("b");
    world.roll_out();
    assert_eq!(world.sizes(), [0, 3]);
    world.set_image("a");
    world.roll_out();
    assert_eq!(world.sizes(), [3, 0]);
    let annotations = world.sets[0].metadata.annotations.clone().expect("set");
    assert_eq!(annotations[REVISION], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(world.deployment.metadata.annotations.clone().expect("set")[REVISION], "3");
}

#[test]
fn sets_beyond_the_history_limit_are_removed_oldest_first() {
    let mut world = World::new(deployment(1, "a", rolling(json!(1), json!(0))));
    for image in ["a", "b", "c", "d", "e"] {
        world.set_image(image);
        world.roll_out();
    }
    assert_eq!(world.sizes(), [0, 0, 1]);
}

#[test]
fn recreate_takes_all_old_pods_down_first() {
    let mut world = World::new(deployment(2, "a", json!({"type": "Recreate"})));
    world.roll_out();
    world.set_image("b");
    let first = world.plan();
    assert!(matches!(&first.actions[0], Action::UpdateReplicaSet(set) if set.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)));
    assert!(!first.actions.iter().any(|action| matches!(action, Action::CreateReplicaSet(_))));
    world.roll_out();
    assert_eq!(world.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment(3, "a", rolling(json!(1), json!(0))));
    world.roll_out();
    world.deployment.spec.as_mut().expect("set").paused = Some(true);
    world.set_image("b");
    world.deployment.spec.as_mut().expect("set").replicas = Some(5);
    world.roll_out();
    assert_eq!(world.sizes(), [5]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_gives_each_set_its_share() {
    let mut world = in_the_middle(3);
    assert_eq!(world.sizes(), [8, 5]);
    world.deployment.spec.as_mut().expect("set").replicas = Some(15);
    let plan = world.plan();
    world.apply(plan);
    assert_eq!(world.sizes(), [11, 7]);
}

/// While the status of the old set tells of pods that its new size no longer has.
#[test]
fn shrinking_in_a_rollout_that_stands_still_keeps_what_must_be_available() {
    let mut world = World::new(deployment(30, "a", rolling(json!(3), json!(2))));
    world.roll_out();
    world.set_image("b");
    for _ in 0..5 {
        let plan = world.plan();
        world.apply(plan);
        world.settle_pods(|at, size| if at == 0 { size } else { 0 });
    }
    assert_eq!(world.sizes(), [28, 5]);
    world.deployment.spec.as_mut().expect("set").replicas = Some(7);
    for status_follows in [false, false, true, false, true, true] {
        let plan = world.plan();
        world.apply(plan);
        assert!(world.sizes()[0] >= 5, "{:?}", world.sizes());
        if status_follows {
            world.settle_pods(|at, size| if at == 0 { size } else { 0 });
        }
    }
    assert_eq!(world.sizes()[0], 5);
}

/// A Deployment that runs 8 pods of `a` and 5 of `b`, all of them of sets that were scaled for 10 and a surge of 3.
fn in_the_middle(surge: i32) -> World {
    let mut world = World::new(deployment(10, "a", rolling(json!(surge), json!(2))));
    world.roll_out();
    world.set_image("b");
    for _ in 0..3 {
        let plan = world.plan();
        world.apply(plan);
        world.settle_pods(|at, size| if at == 0 { size } else { 0 });
    }
    world
}

#[test]
fn shrinking_takes_most_from_the_largest_set_and_all_where_nothing_is_wanted() {
    let resized = |replicas| {
        let mut world = in_the_middle(3);
        assert_eq!(world.sizes(), [8, 5]);
        world.deployment.spec.as_mut().expect("set").replicas = Some(replicas);
        let plan = world.plan();
        world.apply(plan);
        world.sizes()
    };
    // Of 13 pods 6 are left: 8 × 6 ÷ 13 is 3.7, and 5 × 6 ÷ 13 is 2.3.
    assert_eq!(resized(3), [4, 2]);
    assert_eq!(resized(0), [0, 0]);
}

/// A set of this size, of which so many pods are available by its status.
fn sized(name: &str, size: i32, available: i32) -> Arc<ReplicaSet> {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": name}]}});
    let spec = json!({"replicas": size, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let object = json!({"metadata": {"name": name, "uid": name}, "spec": spec, "status": {"replicas": available, "availableReplicas": available}});
    Arc::new(serde_json::from_value(object).expect("a set"))
}

/// The sizes that a stuck rollout of 7 pods, at most 2 of them unavailable, wants to change.
fn changed_sizes(new: Arc<ReplicaSet>, old: Vec<Arc<ReplicaSet>>) -> Vec<i32> {
    let deployment = deployment(7, "new", rolling(json!(3), json!(2)));
    super::rolling::targets(&deployment, &Sets { new: Some(new), old }).into_iter().map(|(_, size)| size).collect()
}

#[test]
fn pods_that_are_about_to_go_are_not_counted_as_available() {
    // The status is that of the 28 pods which the old set had before it was scaled down to 8.
    assert_eq!(changed_sizes(sized("new", 2, 0), vec![sized("old", 8, 28)]), [] as [i32; 0]);
    assert_eq!(changed_sizes(sized("new", 2, 0), vec![sized("old", 8, 8)]), [5]);
    // Nor those of an old set that has no size any more, or of a new one that was scaled down.
    assert_eq!(changed_sizes(sized("new", 2, 0), vec![sized("older", 0, 20), sized("old", 8, 8)]), [5]);
    assert_eq!(changed_sizes(sized("new", 2, 9), vec![sized("old", 8, 8)]), [3]);
}

#[test]
fn a_stuck_rollout_that_is_scaled_down_keeps_its_ready_pods() {
    let mut world = World::new(deployment(30, "a", rolling(json!(3), json!(2))));
    world.roll_out();
    world.set_image("b");
    for _ in 0..4 {
        let plan = world.plan();
        world.apply(plan);
        world.settle_pods(|at, size| if at == 0 { size } else { 0 });
    }
    assert_eq!(world.sizes(), [28, 5]);
    world.deployment.spec.as_mut().expect("set").replicas = Some(7);
    // Several plans are made and applied before the old set's status follows.
    let mut ready = 28;
    for round in 0..12 {
        let plan = world.plan();
        world.apply(plan);
        ready = ready.min(world.sizes()[0]);
        assert!(ready >= 5, "{:?} leave {ready} pods", world.sizes());
        if round % 3 == 2 {
            world.settle_set(0, ready);
            world.settle_set(1, 0);
        }
    }
    assert_eq!(world.sizes(), [5, 5]);
}

#[test]
fn a_change_of_size_and_template_at_once_scales_the_old_pods_first() {
    let mut world = World::new(deployment(3, "a", rolling(json!(1), json!(0))));
    world.roll_out();
    world.set_image("b");
    world.deployment.spec.as_mut().expect("set").replicas = Some(5);
    let plan = world.plan();
    world.apply(plan);
    assert_eq!(world.sizes(), [5]);
    world.roll_out();
    assert_eq!(world.sizes(), [0, 5]);
}

#[test]
fn a_paused_deployment_without_pods_gets_those_of_its_newest_template_that_ran() {
    let mut world = World::new(deployment(0, "a", rolling(json!(1), json!(0))));
    for image in ["a", "b"] {
        world.set_image(image);
        world.roll_out();
    }
    world.deployment.spec.as_mut().expect("set").paused = Some(true);
    world.set_image("c");
    world.deployment.spec.as_mut().expect("set").replicas = Some(2);
    world.roll_out();
    assert_eq!(world.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_keeps_no_more_history_than_its_limit() {
    let mut world = World::new(deployment(1, "a", rolling(json!(1), json!(0))));
    for image in ["a", "b", "c"] {
        world.set_image(image);
        world.roll_out();
    }
    let spec = world.deployment.spec.as_mut().expect("set");
    (spec.paused, spec.revision_history_limit) = (Some(true), Some(1));
    world.roll_out();
    assert_eq!(world.sizes(), [0, 1]);
}

fn progressing(world: &World) -> (String, String) {
    let conditions = world.deployment.status.clone().expect("set").conditions.expect("set");
    let condition = conditions.into_iter().find(|condition| condition.type_ == "Progressing").expect("there");
    (condition.status, condition.reason.expect("set"))
}

#[test]
fn pods_lost_after_a_rollout_are_no_lack_of_progress() {
    let mut world = World::new(deployment(3, "a", rolling(json!(1), json!(0))));
    world.roll_out();
    world.settle_pods(|_, _| 1);
    let plan = world.plan();
    world.apply(plan);
    assert_eq!(progressing(&world), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(world.deployment.status.as_ref().and_then(|status| status.unavailable_replicas), Some(2));
    assert_eq!(world.plan().again_after, None);
    // Nor is being scaled.
    world.deployment.spec.as_mut().expect("set").replicas = Some(4);
    for _ in 0..3 {
        let plan = world.plan();
        world.apply(plan);
        world.settle_pods(|_, _| 1);
    }
    assert_eq!(progressing(&world), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn nobody_waits_for_the_progress_of_a_deployment_that_goes() {
    let mut world = World::new(deployment(1, "a", rolling(json!(1), json!(0))));
    let plan = world.plan();
    world.apply(plan);
    assert!(world.plan().again_after.is_some());
    world.deployment.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
    assert_eq!(world.plan().again_after, None);
}

#[test]
fn a_rollout_that_timed_out_says_so_while_it_is_paused() {
    let mut world = World::new(deployment(1, "a", rolling(json!(1), json!(0))));
    let pause = |world: &mut World, paused| {
        world.deployment.spec.as_mut().expect("set").paused = Some(paused);
        let plan = world.plan();
        world.apply(plan);
        progressing(world)
    };
    let plan = world.plan();
    world.apply(plan);
    assert_eq!(pause(&mut world, true), ("Unknown".into(), "DeploymentPaused".into()));
    assert_eq!(pause(&mut world, false), ("Unknown".into(), "DeploymentResumed".into()));
    let status = super::status::with_create_error(&world.deployment, "no", Timestamp::UNIX_EPOCH).expect("it is news");
    world.deployment.status = Some(status);
    assert_eq!(progressing(&world), ("False".into(), "ReplicaSetCreateError".into()));
    assert_eq!(super::status::with_create_error(&world.deployment, "no", Timestamp::UNIX_EPOCH), None);
    let conditions = world.deployment.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("set");
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Progressing") {
        condition.reason = Some("ProgressDeadlineExceeded".into());
    }
    assert_eq!(pause(&mut world, true), ("False".into(), "ProgressDeadlineExceeded".into()));
}

#[test]
fn a_rollout_that_stands_still_passes_its_deadline() {
    let mut world = World::new(deployment(1, "a", rolling(json!(1), json!(0))));
    for _ in 0..3 {
        let plan = world.plan();
        world.apply(plan);
        world.settle_pods(|_, _| 0);
    }
    let later = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(601);
    let late = plan(Snapshot { deployment: &world.deployment, sets: &world.sets, old_pods_exist: false }, later);
    let [Action::UpdateStatus(status)] = &late.actions[..] else { panic!("{late:?}") };
    assert!(status.conditions.iter().flatten().any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded")));
}

proptest! {
    /// Whatever the bounds, a rollout ends, never has too many pods, and never takes available pods below the floor.
    #[test]
    fn a_rollout_stays_within_its_bounds(replicas in 1_i32..12, surge in 0_i32..5, unavailable in 0_i32..5, steps in proptest::collection::vec(0_i32..5, 1..60)) {
        let mut world = World::new(deployment(replicas, "a", rolling(json!(surge), json!(unavailable))));
        world.roll_out();
        world.set_image("b");
        let (most, least) = (replicas + max_surge(&world.deployment), replicas - max_unavailable(&world.deployment));
        let mut up = 0;
        for step in steps {
            let plan = world.plan();
            world.apply(plan);
            prop_assert!(world.total() <= most, "{:?} exceed {}", world.sizes(), most);
            // Old pods stay available; new ones come up one after another and stay so.
            world.settle_pods(|at, size| if at == 0 { size } else { up.min(size) });
            prop_assert!(world.available() >= least, "{:?} fall below {}", world.sizes(), least);
            up = (up + step).min(world.sizes().get(1).copied().unwrap_or(0));
        }
        world.roll_out();
        prop_assert_eq!(world.sizes(), vec![0, replicas]);
        prop_assert_eq!(world.plan(), Plan::default());
    }
}
