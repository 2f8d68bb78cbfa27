//! Arguments of plugins: what is wrong with them, in upstream's words, and what follows from them.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, TopologySpreadConstraint};
use serde::de::DeserializeOwned;
use serde_json::Value;
use troupe_api::{
    expressions::go_duration,
    meta::names,
    resources::validation::{
        Field,
        pod::{node_selector, node_term},
    },
    status::{FieldError, FieldErrorKind},
};

use crate::scheduler::{
    features::Features,
    plugins::{Arguments, DeviceTimeouts, ScoringStrategy, ShapePoint, Strategy, Weighted},
    preemption::Tries,
    spread::SpreadDefaults,
};

const STRATEGIES: [&str; 3] = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks the arguments of a plugin.
pub fn validate(plugin: &str, args: &Field<'_>, features: Features, errors: &mut Vec<FieldError>) {
    match plugin {
        "DefaultPreemption" => preemption(args, errors),
        "DynamicResources" => devices(args, errors),
        "InterPodAffinity" => within(&args.child("hardPodAffinityWeight"), 0, 100, errors),
        "NodeAffinity" => affinity(&args.child("addedAffinity"), errors),
        "NodeResourcesBalancedAllocation" => balance(&args.child("resources"), errors),
        "NodeResourcesFit" => fit(args, errors),
        "PodTopologySpread" => spread(args, errors),
        "VolumeBinding" => volumes(args, features, errors),
        _ => {}
    }
}

fn within(number: &Field<'_>, low: i64, high: i64, errors: &mut Vec<FieldError>) {
    if number.number().is_some_and(|number| !(low..=high).contains(&number)) {
        errors.push(number.invalid(format!("not in valid range [{low}, {high}]")));
    }
}

fn preemption(args: &Field<'_>, errors: &mut Vec<FieldError>) {
    let (percentage, absolute) = (args.child("minCandidateNodesPercentage"), args.child("minCandidateNodesAbsolute"));
    within(&percentage, 0, 100, errors);
    if absolute.int() < 0 {
        errors.push(absolute.invalid("not in valid range [0, inf)"));
    }
    if percentage.number() == Some(0) && absolute.number() == Some(0) {
        errors.push(percentage.invalid("cannot be zero at the same time as minCandidateNodesAbsolute"));
        errors.push(absolute.invalid("cannot be zero at the same time as minCandidateNodesPercentage"));
    }
}

fn affinity(added: &Field<'_>, errors: &mut Vec<FieldError>) {
    let required = added.child(REQUIRED);
    if required.is_set() {
        node_selector(errors, &required);
    }
    for preferred in added.child(PREFERRED).each() {
        node_term(errors, &preferred.child("preference"), false);
    }
}

fn balance(resources: &Field<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for resource in resources.each() {
        let (name, weight) = (resource.child("name"), resource.child("weight"));
        if !seen.insert(name.text().to_owned()) {
            errors.push(name.duplicate());
        }
        if !matches!(weight.int(), 0 | 1) {
            errors.push(weight.invalid("must be 1"));
        }
    }
}

fn fit(args: &Field<'_>, errors: &mut Vec<FieldError>) {
    for resource in args.child("ignoredResources").each() {
        resource.judge(errors, names::qualified(resource.text()));
    }
    for group in args.child("ignoredResourceGroups").each() {
        if group.text().contains('/') {
            errors.push(group.invalid("resource group name can't contain '/'"));
        }
        group.judge(errors, names::qualified(group.text()));
    }
    let strategy = args.child("scoringStrategy");
    if !strategy.is_set() {
        return;
    }
    let (kind, ratio) = (strategy.child("type"), strategy.child("requestedToCapacityRatio"));
    if !STRATEGIES.contains(&kind.text()) {
        errors.push(FieldError::not_supported(kind, kind.text(), &STRATEGIES));
    }
    for resource in strategy.child("resources").each() {
        let weight = resource.child("weight");
        if !(0..=100).contains(&weight.int()) {
            errors.push(weight.invalid(format!("resource weight of {} not in valid range (0, 100]", resource.child("name").text())));
        }
    }
    match (kind.text() == STRATEGIES[2], ratio.is_set()) {
        (true, true) => function_shape(&ratio.child("shape"), errors),
        (true, false) => errors.push(ratio.required("must be specified when type is RequestedToCapacityRatio")),
        (false, true) => errors.push(ratio.forbidden("must be nil when type is not RequestedToCapacityRatio")),
        (false, false) => {}
    }
}

fn function_shape(shape: &Field<'_>, errors: &mut Vec<FieldError>) {
    if shape.items().is_empty() {
        errors.push(shape.required("at least one point must be specified"));
        return;
    }
    let at = |index: usize| shape.index(index).child("utilization").int();
    if let Some(index) = (1..shape.items().len()).find(|index| at(index - 1) >= at(*index)) {
        errors.push(shape.index(index).child("utilization").invalid_as(at(index), "values must be sorted in increasing order"));
    }
    for point in shape.each() {
        within(&point.child("utilization"), 0, 100, errors);
        within(&point.child("score"), 0, 10, errors);
    }
}

fn spread(args: &Field<'_>, errors: &mut Vec<FieldError>) {
    let (kind, constraints) = (args.child("defaultingType"), args.child("defaultConstraints"));
    match kind.text() {
        "" | "System" if !constraints.items().is_empty() => errors.push(kind.invalid_as("System", "when .defaultConstraints are not empty")),
        "" | "System" | "List" => {}
        _ => errors.push(kind.not_supported(&["System", "List"])),
    }
    let mut seen = BTreeSet::new();
    for constraint in constraints.each() {
        let (skew, key, action) = (constraint.child("maxSkew"), constraint.child("topologyKey"), constraint.child("whenUnsatisfiable"));
        if skew.int() <= 0 {
            errors.push(skew.invalid_as(skew.int(), "not in valid range (0, inf)"));
        }
        match key.text() {
            "" => errors.push(key.required("can not be empty")),
            text => key.judge(errors, names::qualified(text)),
        }
        match action.text() {
            "" => errors.push(action.required("can not be empty")),
            "DoNotSchedule" | "ScheduleAnyway" => {}
            _ => errors.push(action.not_supported(&["DoNotSchedule", "ScheduleAnyway"])),
        }
        if constraint.child("labelSelector").is_set() {
            errors.push(constraint.child("labelSelector").forbidden("constraint must not define a selector, as they deduced for each pod"));
        }
        if !seen.insert((key.text().to_owned(), action.text().to_owned())) {
            errors.push(constraint.duplicate_as(format!("{{{}, {}}}", key.text(), action.text())));
        }
    }
}

fn volumes(args: &Field<'_>, features: Features, errors: &mut Vec<FieldError>) {
    let (timeout, shape) = (args.child("bindTimeoutSeconds"), args.child("shape"));
    if timeout.int() < 0 {
        errors.push(timeout.invalid("invalid BindTimeoutSeconds, should not be a negative value"));
    }
    if features.scores_capacity {
        if !shape.items().is_empty() {
            function_shape(&shape, errors);
        }
    } else if shape.is_set() {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring".to_owned();
        errors.push(FieldError { kind: FieldErrorKind::Invalid, field: shape.to_string(), value: Some(shape.value.to_string()), detail });
    }
}

fn devices(args: &Field<'_>, errors: &mut Vec<FieldError>) {
    let (binding, filter) = (args.child("bindingTimeout"), args.child("filterTimeout"));
    let seconds = |field: &Field<'_>| go_duration(field.text()).ok().map(|nanoseconds| nanoseconds / 1_000_000_000);
    if binding.is_set() && seconds(&binding).is_some_and(|seconds| seconds < 1) {
        errors.push(binding.invalid("must be at least 1 second"));
    }
    if filter.is_set() && go_duration(filter.text()).is_ok_and(|nanoseconds| nanoseconds < 0) {
        errors.push(filter.invalid("must be zero or positive"));
    }
}

/// What plugins are made of, by what `args` says of each; `ignored` resources are extenders' business.
pub fn read<'a>(args: impl Fn(&str) -> &'a Value, ignored: &[String]) -> (Arguments, SpreadDefaults) {
    let mut arguments = Arguments::default();
    let fit = args("NodeResourcesFit");
    arguments.fit.scoring = scoring(&fit["scoringStrategy"]);
    arguments.fit.ignored = if ignored.is_empty() { texts(&fit["ignoredResources"]) } else { ignored.to_vec() };
    arguments.fit.ignored_groups = texts(&fit["ignoredResourceGroups"]);
    if let Some(resources) = weighted(&args("NodeResourcesBalancedAllocation")["resources"]) {
        arguments.balance.resources = resources;
    }
    let pods = args("InterPodAffinity");
    if let Some(weight) = pods["hardPodAffinityWeight"].as_i64().and_then(|weight| i32::try_from(weight).ok()) {
        arguments.pods.hard_weight = weight;
    }
    arguments.pods.ignores_others = pods["ignorePreferredTermsOfExistingPods"] == true;
    arguments.nodes.added = typed::<Affinity>(&args("NodeAffinity")["addedAffinity"]);
    let (preemption, usual) = (args("DefaultPreemption"), Tries::default());
    arguments.preemption = Tries {
        least_percentage: count(&preemption["minCandidateNodesPercentage"]).unwrap_or(usual.least_percentage),
        least: count(&preemption["minCandidateNodesAbsolute"]).unwrap_or(usual.least),
    };
    if let Some(seconds) = args("VolumeBinding")["bindTimeoutSeconds"].as_u64() {
        arguments.bind_timeout = Duration::from_secs(seconds);
    }
    if let Some(points) = args("VolumeBinding")["shape"].as_array().filter(|points| !points.is_empty()) {
        arguments.capacity_shape = points.iter().map(shape_point).collect();
    }
    let (devices, usual) = (args("DynamicResources"), DeviceTimeouts::default());
    let timeout = |field: &str| {
        let nanoseconds = devices[field].as_str().and_then(|text| go_duration(text).ok());
        nanoseconds.and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).map(Duration::from_nanos)
    };
    arguments.device_timeouts =
        DeviceTimeouts { binding: timeout("bindingTimeout").unwrap_or(usual.binding), filter: timeout("filterTimeout").unwrap_or(usual.filter) };
    let spread = args("PodTopologySpread");
    let defaults = match spread["defaultingType"].as_str() {
        Some("List") => SpreadDefaults::List(typed::<Vec<TopologySpreadConstraint>>(&spread["defaultConstraints"]).unwrap_or_default()),
        _ => SpreadDefaults::System,
    };
    (arguments, defaults)
}

fn scoring(strategy: &Value) -> ScoringStrategy {
    let usual = ScoringStrategy::default();
    let kind = match strategy["type"].as_str() {
        Some("MostAllocated") => Strategy::MostAllocated,
        Some("RequestedToCapacityRatio") => {
            let shape = strategy["requestedToCapacityRatio"]["shape"].as_array();
            Strategy::RequestedToCapacityRatio(shape.into_iter().flatten().map(shape_point).collect())
        }
        _ => Strategy::LeastAllocated,
    };
    ScoringStrategy { strategy: kind, resources: weighted(&strategy["resources"]).unwrap_or(usual.resources) }
}

fn shape_point(point: &Value) -> ShapePoint {
    ShapePoint { utilization: point["utilization"].as_i64().unwrap_or(0), score: point["score"].as_i64().unwrap_or(0) }
}

/// Resources with weights; one that has none, or 0, counts 1.
fn weighted(list: &Value) -> Option<Vec<Weighted>> {
    let resources = list.as_array().filter(|list| !list.is_empty())?.iter().map(|resource| {
        let weight = resource["weight"].as_i64().filter(|weight| *weight != 0).unwrap_or(1);
        Weighted { name: resource["name"].as_str().unwrap_or_default().to_owned().into(), weight }
    });
    Some(resources.collect())
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn count(number: &Value) -> Option<usize> {
    usize::try_from(number.as_u64()?).ok()
}

/// Its shape was checked before.
fn typed<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}
