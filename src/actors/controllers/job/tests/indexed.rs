use serde_json::json;

use super::{
    super::{indexes::Indexes, is_finished, pod::INDEX},
    World, indexed, pairs,
};

#[test]
fn indexed_pods_know_their_index_and_each_index_succeeds_once() {
    let mut world = World::new(indexed(3, json!({"parallelism": 2})));
    world.settle();
    assert_eq!(world.running_indexes(), [0, 1]);
    let pod = world.pod("p2").clone();
    let spec = pod.spec.clone().expect("a spec");
    assert_eq!((spec.hostname.as_deref(), pod.metadata.generate_name.as_deref()), (Some("work-1"), Some("work-1-")));
    assert_eq!(pod.metadata.labels.as_ref().and_then(|labels| labels.get(INDEX)).map(String::as_str), Some("1"));
    let variable = &spec.containers[0].env.as_ref().expect("variables")[0];
    assert_eq!(variable.name, "JOB_COMPLETION_INDEX");
    world.end("p2", "Succeeded", 0);
    world.settle();
    assert_eq!(world.running_indexes(), [0, 2]);
    assert_eq!(world.job.status.as_ref().and_then(|status| status.completed_indexes.as_deref()), Some("1"));
    for index in [0, 2] {
        let name = world.of_index(index);
        world.end(&name, "Succeeded", 0);
    }
    world.settle();
    assert_eq!(world.job.status.as_ref().and_then(|status| status.completed_indexes.as_deref()), Some("0-2"));
    assert_eq!((world.counts(), is_finished(&world.job)), ((0, 3, 0), true));
}

#[test]
fn a_job_of_absurd_size_costs_what_is_done_now() {
    let mut world = World::new(indexed(i32::MAX, json!({"backoffLimitPerIndex": 1})));
    world.job.status = serde_json::from_value(json!({"completedIndexes": "0-99,2147483000-2147483646"})).expect("a status");
    world.step();
    assert_eq!((world.pods.len(), world.running_indexes()[0]), (500, 100));
    for pod in &mut world.pods {
        pod.status.as_mut().expect("a status").phase = Some("Pending".into());
    }
    for _ in 0..5 {
        world.step();
        for pod in &mut world.pods {
            pod.status.as_mut().expect("a status").phase = Some("Pending".into());
        }
    }
    assert_eq!(world.pods.len(), 2000, "no more while none of them run");
    let planned = world.plan();
    assert!(planned.held_back && planned.again_after.is_some(), "{planned:?}");
}

#[test]
fn intervals_that_nobody_should_write_are_read_with_care() {
    let read = |text: &str| Indexes::parse(text, i32::MAX).to_string();
    assert_eq!(read("7,3,5-4,-2,2147483647,1-x,2000000000-2147483647"), "3,7,2000000000-2147483646");
    assert_eq!(Indexes::parse("0-2147483647", i32::MAX).len(), i32::MAX);
    let (odd, even): (Vec<i32>, Vec<i32>) = (0..200_000).partition(|number| number % 2 == 1);
    let of = |numbers: &[i32]| Indexes::parse(&numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(","), i32::MAX);
    assert_eq!((of(&odd).common(&of(&even)), of(&odd).common(&of(&odd))), (0, 100_000));
}

#[test]
fn an_elastic_job_grows_and_shrinks() {
    let mut world = World::new(indexed(2, json!({})));
    let resize = |world: &mut World, size| {
        let spec = world.job.spec.as_mut().expect("a spec");
        (spec.completions, spec.parallelism) = (Some(size), Some(size));
        world.settle();
    };
    world.settle();
    resize(&mut world, 4);
    assert_eq!(world.running_indexes(), [0, 1, 2, 3]);
    let name = world.of_index(3);
    world.end(&name, "Succeeded", 0);
    world.settle();
    resize(&mut world, 2);
    assert_eq!(world.running_indexes(), [0, 1]);
    assert_eq!(world.counts(), (2, 0, 0), "an index that the job has no more does not count");
}

#[test]
fn each_index_has_a_limit_of_its_own() {
    let mut world = World::new(indexed(2, json!({"backoffLimitPerIndex": 1, "backoffLimit": i32::MAX})));
    world.settle();
    let name = world.of_index(0);
    world.end(&name, "Failed", 1);
    world.settle();
    assert_eq!(world.running_indexes(), [1], "the index waits");
    assert!(world.pod(&name).metadata.finalizers.is_some(), "it stays until its count of failures is taken over");
    world.pass(10);
    world.settle();
    let name = world.of_index(0);
    let annotations = world.pod(&name).metadata.annotations.clone().expect("annotations");
    assert_eq!(annotations["batch.kubernetes.io/job-index-failure-count"], "1");
    world.end(&name, "Failed", 1);
    world.settle();
    assert_eq!(world.job.status.as_ref().and_then(|status| status.failed_indexes.as_deref()), Some("0"));
    assert!(!is_finished(&world.job), "the other index goes on");
    let name = world.of_index(1);
    world.end(&name, "Succeeded", 0);
    world.settle();
    assert_eq!(world.conditions(), pairs([("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]));
    assert_eq!(world.counts(), (0, 1, 2));
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let mut world = World::new(indexed(4, json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "backoffLimit": i32::MAX})));
    world.settle();
    for index in [0, 2] {
        let name = world.of_index(index);
        world.end(&name, "Failed", 1);
    }
    world.settle();
    assert_eq!(world.conditions()[1], pairs([("Failed", "MaxFailedIndexesExceeded")])[0]);
    assert_eq!(world.job.status.as_ref().and_then(|status| status.failed_indexes.as_deref()), Some("0,2"));
}

#[test]
fn indexes_are_written_as_intervals() {
    let read = |text: &str| Indexes::parse(text, 10);
    assert_eq!(read("1,3-5,7").len(), 5);
    assert_eq!(read("0,1,2,4,5").to_string(), "0-2,4,5");
    assert_eq!(read("8-20,30").to_string(), "8,9");
    assert_eq!(read("1,x,3").to_string(), "1,3");
    assert_eq!(read("1-3").union(&read("4,6")).to_string(), "1-4,6");
    assert_eq!(read("0,2-4").missing(3, 10), [1, 5, 6]);
    assert_eq!(read("0,2-4").missing(9, 6), [1, 5]);
    assert!(read("2-4").contains(4) && !read("2-4").contains(5));
    assert_eq!(read("1-4,6").common(&read("3-9")), 3);
}
