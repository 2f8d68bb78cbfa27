//! What `cpuManagerPolicy` and `cpuManagerPolicyOptions` say, checked in upstream's words (`policy_options.go`) with the feature gates that are on
//! by default. Pure.

use std::collections::BTreeMap;

use crate::kubelet::container_manager::go_bool::flag;

pub const NONE: &str = "none";
pub const STATIC: &str = "static";

const FULL_CORES: &str = "full-pcpus-only";
const STRICT_RESERVATION: &str = "strict-cpu-reservation";
const BY_CACHE: &str = "prefer-align-cpus-by-uncorecache";
/// Upstream has them off.
const ALPHA: [&str; 2] = ["align-by-socket", "distribute-cpus-across-cores"];
const ACROSS_NUMA: &str = "distribute-cpus-across-numa";

/// How the static policy goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Containers get whole cores, or are refused.
    pub full_cores: bool,
    /// Nobody runs on reserved CPUs, those who share neither.
    pub strict_reservation: bool,
    /// Containers rather share no cache with others.
    pub by_cache: bool,
    /// Containers that have CPUs of several NUMA nodes have as many of each.
    pub across_numa: bool,
}

impl PolicyOptions {
    /// Reads the options of a policy.
    ///
    /// # Errors
    /// When there is no such policy or option, or it is no option of the policy.
    pub fn parse(policy: &str, given: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut options = PolicyOptions::default();
        match policy {
            NONE if given.is_empty() => return Ok(options),
            NONE => return Err(format!("None policy: received unsupported options={}", shown(given))),
            STATIC => {}
            odd => return Err(format!("unknown policy: {odd:?}")),
        }
        for (name, text) in given {
            let option = match name.as_str() {
                FULL_CORES => &mut options.full_cores,
                STRICT_RESERVATION => &mut options.strict_reservation,
                BY_CACHE => &mut options.by_cache,
                ACROSS_NUMA => &mut options.across_numa,
                alpha if ALPHA.contains(&alpha) => {
                    return Err(format!("CPU Manager Policy Alpha-level Options not enabled, but option {name:?} provided"));
                }
                _ => return Err(format!("unknown CPU Manager Policy option: {name:?}")),
            };
            *option = flag(text).ok_or_else(|| format!("bad value for option {name:?}: strconv.ParseBool: parsing {text:?}: invalid syntax"))?;
        }
        if options.by_cache && options.across_numa {
            return Err(format!("static policy options {BY_CACHE} and {ACROSS_NUMA} can not be used at the same time"));
        }
        Ok(options)
    }
}

/// As Go shows a map.
fn shown(map: &BTreeMap<String, String>) -> String {
    let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", entries.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(policy: &str, given: &[(&str, &str)]) -> Result<PolicyOptions, String> {
        PolicyOptions::parse(policy, &given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let all = [(FULL_CORES, "true"), (STRICT_RESERVATION, "1"), (BY_CACHE, "f")];
        assert_eq!(parse(STATIC, &all), Ok(PolicyOptions { full_cores: true, strict_reservation: true, ..PolicyOptions::default() }));
        assert_eq!(parse(STATIC, &[(ACROSS_NUMA, "true")]), Ok(PolicyOptions { across_numa: true, ..PolicyOptions::default() }));
        assert_eq!((parse(STATIC, &[]), parse(NONE, &[])), (Ok(PolicyOptions::default()), Ok(PolicyOptions::default())));
        let why = |policy, given: &[(&str, &str)]| parse(policy, given).expect_err("refused");
        assert_eq!(why("dynamic", &[]), "unknown policy: \"dynamic\"");
        assert_eq!(why(STATIC, &[("odd", "true")]), "unknown CPU Manager Policy option: \"odd\"");
        assert_eq!(
            why(STATIC, &[(FULL_CORES, "yes")]),
            "bad value for option \"full-pcpus-only\": strconv.ParseBool: parsing \"yes\": invalid syntax"
        );
        assert_eq!(why(NONE, &[(FULL_CORES, "true")]), "None policy: received unsupported options=map[full-pcpus-only:true]");
        let alpha = "CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided";
        assert_eq!(why(STATIC, &[("align-by-socket", "true")]), alpha);
        let both = "static policy options prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa can not be used at the same time";
        assert_eq!(why(STATIC, &[(ACROSS_NUMA, "true"), (BY_CACHE, "true")]), both);
    }
}
