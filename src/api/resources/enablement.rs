//! `--runtime-config`: which built-in APIs are served. What is not served is neither routed nor shown; the server itself still works with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::resource::Resource;

const ALL: &str = "api/all";
/// Whether a version is one of a kind.
type Matcher = fn(&str) -> bool;
/// Matchers in the order in which they count, with what a version looks like.
const MATCHERS: [(&str, Matcher); 4] = [(ALL, |_| true), ("api/ga", is_stable), ("api/beta", is_beta), ("api/alpha", is_alpha)];

/// Versions that upstream has, off by default, and this server lacks.
const ELSEWHERE: [(&str, &[&str]); 11] = [
    ("admissionregistration.k8s.io", &["v1beta1", "v1alpha1"]),
    ("authentication.k8s.io", &["v1beta1", "v1alpha1"]),
    ("certificates.k8s.io", &["v1beta1", "v1alpha1"]),
    ("coordination.k8s.io", &["v1beta1", "v1alpha2"]),
    ("flowcontrol.apiserver.k8s.io", &["v1beta1", "v1beta2", "v1beta3"]),
    ("internal.apiserver.k8s.io", &["v1alpha1"]),
    ("networking.k8s.io", &["v1beta1"]),
    ("resource.k8s.io", &["v1beta1", "v1beta2", "v1alpha3"]),
    ("scheduling.k8s.io", &["v1alpha2"]),
    ("storage.k8s.io", &["v1beta1", "v1alpha1"]),
    ("storagemigration.k8s.io", &["v1beta1"]),
];

/// What was said of versions and resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    said: BTreeMap<String, String>,
}

impl RuntimeConfig {
    /// Reads `group/version[/resource]=true|false` and `api/all|ga|beta|alpha=true|false`; the core group's name is empty (`/v1=false`).
    ///
    /// # Errors
    /// In upstream's words, what is no such thing.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let pair = |entry: &String| match entry.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), value.trim().to_owned()),
            None => (entry.trim().to_owned(), String::new()),
        };
        let said: BTreeMap<String, String> = entries.iter().map(pair).collect();
        if said.len() == 1 && said.get(ALL).is_some_and(|value| value == "false") {
            return Err(format!("invalid runtime-config with only {ALL}=false"));
        }
        match said.keys().find(|key| !is_matcher(key) && !matches!(key.split('/').count(), 2 | 3)) {
            Some(odd) => Err(format!("runtime-config invalid key {odd}")),
            None => Ok(RuntimeConfig { said }),
        }
    }

    /// The rows with the versions that are served; of `optional` ones those that are switched on.
    ///
    /// # Errors
    /// When something is said of what there is not.
    pub fn apply(&self, rows: Vec<Arc<Resource>>, optional: Vec<Arc<Resource>>) -> Result<Vec<Arc<Resource>>, String> {
        self.check(&[rows.as_slice(), &optional].concat())?;
        let mut matched = Vec::new();
        for (key, matches) in MATCHERS {
            match self.said.get(key).map(String::as_str) {
                Some("true") => matched.push((matches, true)),
                Some("false") => matched.push((matches, false)),
                Some(odd) => return Err(format!("invalid value {key}={odd}")),
                None => {}
            }
        }
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            all.push(self.narrowed(row, &matched, true)?);
        }
        for row in optional {
            let row = self.narrowed(row, &matched, false)?;
            all.extend((!row.served.is_empty()).then_some(row));
        }
        Ok(all)
    }

    /// Says so where something unknown is meant.
    fn check(&self, rows: &[Arc<Resource>]) -> Result<(), String> {
        let named = self.said.keys().filter(|key| !is_matcher(key)).map(|key| (key.as_str(), split(key)));
        let known = |group: &str| rows.iter().any(|row| &*row.group == group) || ELSEWHERE.iter().any(|(other, _)| *other == group);
        let unknown: BTreeSet<String> =
            named.clone().filter(|(_, (group, ..))| !known(group)).map(|(_, (group, version, _))| version_name(group, version)).collect();
        if !unknown.is_empty() {
            return Err(format!("unknown api groups {}", unknown.into_iter().collect::<Vec<_>>().join(",")));
        }
        for (key, (group, version, resource)) in named {
            let is_on = self.value(key)?.unwrap_or(true);
            let elsewhere = ELSEWHERE.iter().any(|(other, versions)| *other == group && versions.contains(&version));
            let mut here = rows.iter().filter(|row| &*row.group == group && row.serves(version)).peekable();
            match () {
                () if here.peek().is_none() && !elsewhere => {
                    return Err(format!("group version {} that has not been registered", version_name(group, version)));
                }
                () if here.peek().is_none() && is_on => {
                    return Err(format!("{key}=true has no effect: this server does not have {}", version_name(group, version)));
                }
                () => {}
            }
            let Some(resource) = resource else { continue };
            if resource.to_lowercase() != resource {
                return Err(format!("invalid key {key}: group/version/resource and resource is always lowercase plural, not {resource:?}"));
            }
            if here.peek().is_some() && !here.any(|row| &*row.plural == resource) {
                return Err(format!("{key} has no effect: {} has no such resource", version_name(group, version)));
            }
        }
        Ok(())
    }

    fn value(&self, key: &str) -> Result<Option<bool>, String> {
        match self.said.get(key).map(String::as_str) {
            None => Ok(None),
            Some("") => Ok(Some(true)),
            Some(text) => {
                let wrong = || format!("invalid value of {key}: {text}, err: strconv.ParseBool: parsing {text:?}: invalid syntax");
                go_bool(text).map(Some).ok_or_else(wrong)
            }
        }
    }

    /// The row with the versions that are on; `by_default` says of those of which nothing is said.
    fn narrowed(&self, row: Arc<Resource>, matched: &[(Matcher, bool)], by_default: bool) -> Result<Arc<Resource>, String> {
        let mut kept = Vec::with_capacity(row.served.len());
        for served in &row.served {
            let of_matchers = matched.iter().rev().find(|(matches, _)| matches(&served.version)).map_or(by_default, |(_, on)| *on);
            let version = format!("{}/{}", row.group, served.version);
            let of_version = self.value(&version)?.unwrap_or(of_matchers);
            if self.value(&format!("{version}/{}", row.plural))?.unwrap_or(of_version) {
                kept.push(served.clone());
            }
        }
        if kept.len() == row.served.len() { Ok(row) } else { Ok(Arc::new(Resource { served: kept, ..(*row).clone() })) }
    }
}

fn is_matcher(key: &str) -> bool {
    MATCHERS.iter().any(|(matcher, _)| *matcher == key)
}

fn split(key: &str) -> (&str, &str, Option<&str>) {
    let mut parts = key.split('/');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next())
}

fn version_name(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// A truth value as Go's `strconv` reads it.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `v1`, with `mark` between two numbers: `v1beta2`.
fn is_like(version: &str, mark: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = version.strip_prefix('v') else { return false };
    match mark {
        "" => is_number(rest),
        mark => rest.split_once(mark).is_some_and(|(major, minor)| is_number(major) && is_number(minor)),
    }
}

fn is_stable(version: &str) -> bool {
    is_like(version, "")
}

fn is_beta(version: &str) -> bool {
    is_like(version, "beta")
}

fn is_alpha(version: &str) -> bool {
    is_like(version, "alpha")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{builtin, optional};

    fn served(entries: &[&str]) -> Result<BTreeSet<String>, String> {
        served_of(entries, Vec::new())
    }

    fn served_of(entries: &[&str], optional: Vec<Arc<Resource>>) -> Result<BTreeSet<String>, String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let rows = RuntimeConfig::parse(&entries)?.apply(builtin(), optional)?;
        let name = |row: &Arc<Resource>, version: &str| format!("{}/{version}/{}", row.group, row.plural);
        Ok(rows.iter().flat_map(|row| row.served.iter().map(|served| name(row, &served.version)).collect::<Vec<_>>()).collect())
    }

    #[test]
    fn versions_and_resources_are_switched_off_and_on_again() {
        let all = served(&[]).expect("works");
        let batch = served(&["batch/v1=false"]).expect("works");
        assert!(all.contains("batch/v1/jobs") && !batch.iter().any(|name| name.starts_with("batch/")));
        let one = served(&["batch/v1/cronjobs=false"]).expect("works");
        assert!(one.contains("batch/v1/jobs") && !one.contains("batch/v1/cronjobs"));
        let few = served(&["api/all=false", "/v1=true", "apps/v1", "apps/v1/daemonsets=0"]).expect("works");
        assert!(few.contains("/v1/pods") && few.contains("apps/v1/deployments") && !few.contains("apps/v1/daemonsets"));
        assert!(!few.contains("batch/v1/jobs"));
        assert_eq!(served(&["api/all=true"]).expect("works"), all);
        let stable = served(&["api/ga=false", "autoscaling/v2=true"]).expect("works");
        assert!(stable.contains("autoscaling/v2/horizontalpodautoscalers") && !stable.contains("autoscaling/v1/horizontalpodautoscalers"));
    }

    #[test]
    fn what_is_off_is_switched_on_by_name_or_with_all() {
        const MIGRATIONS: &str = "storagemigration.k8s.io/v1beta1/storageversionmigrations";
        let has = |entries: &[&str]| served_of(entries, optional(|_| true)).expect("works").contains(MIGRATIONS);
        assert!(!has(&[]) && !has(&["api/ga=true"]));
        assert!(has(&["storagemigration.k8s.io/v1beta1"]) && has(&["api/all=true"]) && has(&["api/beta=true"]));
        assert!(!has(&["api/beta=true", "storagemigration.k8s.io/v1beta1=false"]));
        let workloads = |entries: &[&str]| served_of(entries, optional(|_| true)).expect("works").contains("scheduling.k8s.io/v1alpha2/podgroups");
        assert!(!workloads(&[]) && !workloads(&["api/beta=true", "scheduling.k8s.io/v1=true"]));
        assert!(workloads(&["scheduling.k8s.io/v1alpha2=true"]) && workloads(&["api/alpha=true"]));
        let bundles = |entries: &[&str], version: &str| {
            let served = served_of(entries, optional(|_| true)).expect("works");
            served.contains(&format!("certificates.k8s.io/{version}/clustertrustbundles"))
        };
        assert!(!bundles(&[], "v1beta1") && !bundles(&["certificates.k8s.io/v1beta1=true"], "v1alpha1"));
        assert!(bundles(&["certificates.k8s.io/v1beta1=true"], "v1beta1") && bundles(&["certificates.k8s.io/v1alpha1=true"], "v1alpha1"));
        let requests =
            |entries: &[&str]| served_of(entries, optional(|_| true)).expect("works").contains("certificates.k8s.io/v1beta1/podcertificaterequests");
        assert!(!requests(&[]) && !requests(&["certificates.k8s.io/v1=true"]));
        assert!(requests(&["certificates.k8s.io/v1beta1=true"]) && requests(&["certificates.k8s.io/v1beta1/podcertificaterequests=true"]));
        let refused = served(&["storagemigration.k8s.io/v1beta1=true"]).expect_err("its feature is off");
        assert!(refused.ends_with("has no effect: this server does not have storagemigration.k8s.io/v1beta1"), "{refused}");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (entries, why) in [
            (&["api/all=false"][..], "invalid runtime-config with only api/all=false"),
            (&["v1=false"], "runtime-config invalid key v1"),
            (&["nope.example/v1=true", "zzz/v2"], "unknown api groups nope.example/v1,zzz/v2"),
            (&["apps/v7=true"], "group version apps/v7 that has not been registered"),
            (&["api/ga=maybe"], "invalid value api/ga=maybe"),
            (&["apps/v1=maybe"], "invalid value of apps/v1: maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            (&["storage.k8s.io/v1beta1=true"], "storage.k8s.io/v1beta1=true has no effect: this server does not have storage.k8s.io/v1beta1"),
            (&["apps/v1/Deployments=false"], "resource is always lowercase plural, not \"Deployments\""),
            (&["apps/v1/pods=false"], "apps/v1/pods has no effect: apps/v1 has no such resource"),
        ] {
            let refused = served(entries).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
        assert_eq!(served(&["storage.k8s.io/v1beta1=false"]), served(&[]));
    }
}
