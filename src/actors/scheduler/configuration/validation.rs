//! What is wrong with a configuration, in upstream's words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use troupe_api::{
    meta::names,
    resources::validation::{Field, resource_names::is_extended},
    status::{FieldError, FieldErrorKind},
};

use super::{API_VERSION, arguments};
use crate::scheduler::{features::Features, framework::Point, plugins::registry};

/// Plugins that upstream had before this version of its configuration.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// Checks a configuration whose names of profiles are filled in.
pub fn validate(configuration: &Value, features: Features) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let top = |name: &'static str| Field::root(name, &configuration[name]);
    let parallelism = top("parallelism");
    if parallelism.number().is_some_and(|number| number <= 0) {
        errors.push(parallelism.invalid("should be an integer value greater than zero"));
    }
    profiles(&top("profiles"), features, &mut errors);
    percentage(&top("percentageOfNodesToScore"), &mut errors);
    let (initial, most) = (top("podInitialBackoffSeconds"), top("podMaxBackoffSeconds"));
    if initial.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(initial.invalid("must be greater than 0"));
    }
    if most.number().unwrap_or(10) < initial.number().unwrap_or(1) {
        errors.push(most.invalid_as(most.number().unwrap_or(10), "must be greater than or equal to PodInitialBackoffSeconds"));
    }
    extenders(&top("extenders"), &mut errors);
    errors
}

fn percentage(field: &Field<'_>, errors: &mut Vec<FieldError>) {
    if field.number().is_some_and(|percent| !(0..=100).contains(&percent)) {
        errors.push(field.invalid("not in valid range [0-100]"));
    }
}

fn profiles(profiles: &Field<'_>, features: Features, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeMap::new();
    for (at, profile) in profiles.each().enumerate() {
        let name = profile.child("schedulerName");
        if name.text().is_empty() {
            errors.push(name.required(""));
        }
        percentage(&profile.child("percentageOfNodesToScore"), errors);
        plugins(&profile.child("plugins"), errors);
        plugin_config(&profile.child("pluginConfig"), features, errors);
        if let Some(first) = seen.insert(name.text().to_owned(), at) {
            let value = Some(format!("profiles[{first}].schedulerName"));
            errors.push(FieldError { kind: FieldErrorKind::Duplicate, field: name.to_string(), value, detail: String::new() });
        }
    }
    let sort = |at: usize| profiles.items().get(at).map_or(&Value::Null, |profile| &profile["plugins"]["queueSort"]);
    let number = sort(0)["enabled"].as_array().map_or(0, Vec::len);
    if number > 1 {
        errors.push(FieldError::invalid("profiles[0].plugins.queueSort.Enabled", number, "only one queue sort plugin can be enabled"));
    }
    for at in (1..profiles.items().len()).filter(|at| sort(*at) != sort(0)) {
        errors.push(FieldError::invalid(format!("profiles[{at}].plugins.queueSort"), sort(at).clone(), "must be the same for all profiles"));
    }
}

fn removed() -> String {
    format!("was invalid in version {API_VERSION:?} (KubeSchedulerConfiguration is version {API_VERSION:?})")
}

fn plugins(plugins: &Field<'_>, errors: &mut Vec<FieldError>) {
    for point in Point::ALL {
        let set = plugins.child(point.field());
        for plugin in set.child("enabled").each() {
            let name = plugin.child("name").text();
            if REMOVED.contains(&name) {
                errors.push(plugin.invalid_as(name, removed()));
            }
        }
    }
}

fn plugin_config(all: &Field<'_>, features: Features, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for config in all.each() {
        let name = config.child("name").text();
        if !seen.insert(name.to_owned()) {
            errors.push(config.duplicate_as(name));
        }
        if REMOVED.contains(&name) {
            errors.push(config.invalid_as(name, removed()));
        } else if registry::points_of(name).is_none() {
            errors.push(config.invalid_as(name, "plugin does not exist"));
        } else {
            arguments::validate(name, &config.child("args"), features, errors);
        }
    }
}

fn extenders(extenders: &Field<'_>, errors: &mut Vec<FieldError>) {
    let (mut binders, mut managed) = (0, BTreeSet::new());
    for extender in extenders.each() {
        let weight = extender.child("weight");
        if !extender.child("prioritizeVerb").text().is_empty() && weight.int() <= 0 {
            errors.push(weight.invalid_as(weight.int(), "must have a positive weight applied to it"));
        }
        binders += usize::from(!extender.child("bindVerb").text().is_empty());
        for resource in extender.child("managedResources").each() {
            let name = resource.child("name");
            let odd = names::qualified(name.text());
            if odd.is_empty() && !is_extended(name.text()) {
                errors.push(name.invalid("is an invalid extended resource name"));
            }
            name.judge(errors, odd);
            if !managed.insert(name.text().to_owned()) {
                errors.push(name.invalid("duplicate extender managed resource name"));
            }
        }
    }
    if binders > 1 {
        errors.push(FieldError::invalid("extenders", format!("found {binders} extenders implementing bind"), "only one extender can implement bind"));
    }
}
