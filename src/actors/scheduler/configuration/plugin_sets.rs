//! Which plugins a profile asks at which point: its sets beside the defaults (upstream's `mergePlugins` and `expandMultiPointPlugins`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::scheduler::{framework::Point, plugins::registry};

/// All of a point.
const ALL: &str = "*";

/// A plugin that is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// 0 if none is given.
    weight: i64,
}

#[derive(Clone, Debug, Default)]
struct PluginSet {
    enabled: Vec<Wanted>,
    disabled: BTreeSet<String>,
}

impl PluginSet {
    fn read(value: &Value) -> Self {
        let plugins = |list: &str| value[list].as_array().into_iter().flatten();
        let name = |plugin: &Value| plugin["name"].as_str().unwrap_or_default().to_owned();
        let enabled = plugins("enabled").map(|plugin| Wanted { name: name(plugin), weight: plugin["weight"].as_i64().unwrap_or(0) });
        PluginSet { enabled: enabled.collect(), disabled: plugins("disabled").map(name).collect() }
    }

    /// The defaults that stay, those that are named again in their places, and then the others.
    fn after(self, defaults: Vec<Wanted>) -> Vec<Wanted> {
        let mut replaced = BTreeSet::new();
        let mut all = Vec::new();
        if !self.disabled.contains(ALL) {
            for default in defaults.into_iter().filter(|default| !self.disabled.contains(&default.name)) {
                // Of several the last counts; the others are found to be there twice.
                let own = self.enabled.iter().enumerate().rev().find(|(_, own)| own.name == default.name);
                all.push(own.map_or(default, |(at, own)| {
                    replaced.insert(at);
                    own.clone()
                }));
            }
        }
        all.extend(self.enabled.into_iter().enumerate().filter(|(at, _)| !replaced.contains(at)).map(|(_, own)| own));
        all
    }
}

/// Which plugins are asked where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arranged {
    pub asked: BTreeMap<Point, Vec<String>>,
    pub weights: BTreeMap<String, i64>,
}

impl Arranged {
    /// By the `plugins` of the profile with this name.
    ///
    /// # Errors
    /// In upstream's words, what cannot be.
    pub fn of(plugins: &Value, profile: &str) -> Result<Self, String> {
        let defaults = registry::DEFAULTS.iter().map(|(name, weight)| Wanted { name: (*name).to_owned(), weight: *weight });
        let everywhere = PluginSet::read(&plugins["multiPoint"]).after(defaults.collect());
        let mut arranged = Arranged::default();
        let mut of_scores = Vec::new();
        for point in Point::ALL {
            let set = PluginSet::read(&plugins[point.field()]);
            are_plugins_of(point, &set.enabled)?;
            if point == Point::Score {
                of_scores.clone_from(&set.enabled);
            }
            arranged.asked.insert(point, expand(point, &set, &everywhere)?);
        }
        for point in ["placementGenerate", "placementScore"] {
            if let Some(plugin) = PluginSet::read(&plugins[point]).enabled.first() {
                return Err(format!("{point} plugin {:?} does not exist", plugin.name));
            }
        }
        for Wanted { name, weight } in of_scores.into_iter().chain(everywhere) {
            arranged.weights.entry(name).or_insert(if weight == 0 { 1 } else { weight });
        }
        match arranged.asked[&Point::QueueSort].len() {
            1 => {}
            number => return Err(format!("only one queue sort plugin required for profile with scheduler name {profile:?}, but got {number}")),
        }
        if arranged.asked[&Point::Bind].is_empty() {
            return Err(format!("at least one bind plugin is needed for profile with scheduler name {profile:?}"));
        }
        Ok(arranged)
    }
}

fn interface(point: Point) -> String {
    format!("{}Plugin", point.name())
}

fn is_asked_at(plugin: &str, point: Point) -> Result<bool, String> {
    let points = registry::points_of(plugin).ok_or_else(|| format!("{} {plugin:?} does not exist", interface(point)))?;
    Ok(points.contains(&point))
}

fn are_plugins_of(point: Point, enabled: &[Wanted]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for Wanted { name, .. } in enabled {
        if !is_asked_at(name, point)? {
            return Err(format!("plugin {name:?} does not extend {} plugin", interface(point)));
        }
        if !seen.insert(name) {
            return Err(format!("plugin {name:?} already registered as {:?}", interface(point)));
        }
    }
    Ok(())
}

/// First those of the point that are named everywhere, too, then those that are named everywhere alone, then the others of the point.
fn expand(point: Point, set: &PluginSet, everywhere: &[Wanted]) -> Result<Vec<String>, String> {
    let own = || set.enabled.iter().map(|plugin| plugin.name.clone());
    if set.disabled.contains(ALL) {
        return Ok(own().collect());
    }
    let is_own = |name: &str| set.enabled.iter().any(|plugin| plugin.name == name);
    let (mut overriding, mut common) = (BTreeSet::new(), Vec::new());
    for Wanted { name, .. } in everywhere {
        if !is_asked_at(name, point)? || set.disabled.contains(name) {
            continue;
        }
        if is_own(name) {
            overriding.insert(name.clone());
        } else if common.contains(name) {
            return Err(format!("plugin {name:?} already registered as {:?}", interface(point)));
        } else {
            common.push(name.clone());
        }
    }
    let (first, last): (Vec<String>, Vec<String>) = own().partition(|name| overriding.contains(name));
    Ok(first.into_iter().chain(common).chain(last).collect())
}
