//! What `topologyManagerPolicy`, `topologyManagerScope` and `topologyManagerPolicyOptions` say, checked in upstream's words. Pure.

use std::collections::BTreeMap;

use crate::kubelet::container_manager::go_bool::flag;

const CLOSEST: &str = "prefer-closest-numa-nodes";
const MOST_NODES: &str = "max-allowable-numa-nodes";
/// Every set of nodes is looked at.
const USUAL_MOST: usize = 8;
/// Merging sets of more would take too long.
const UTMOST: usize = 10;

/// Which pods are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopologyPolicy {
    /// All, with the best that there is.
    BestEffort,
    /// Those whose resources lie on as few NUMA nodes as they could on an empty machine.
    Restricted,
    /// Those whose resources lie on one NUMA node.
    SingleNumaNode,
}

/// Whose resources are to lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopologyScope {
    Container,
    Pod,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyOptions {
    pub policy: TopologyPolicy,
    pub scope: TopologyScope,
    /// Of several sets of as many NUMA nodes that whose nodes are nearest to one another.
    pub closest: bool,
    /// No machine with more NUMA nodes is taken.
    pub most_nodes: usize,
}

impl TopologyOptions {
    /// Reads them; `None` for the policy `none`.
    ///
    /// # Errors
    /// When there is no such policy, scope or option.
    pub fn parse(policy: &str, scope: &str, given: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let policy = match policy {
            "none" => return Ok(None),
            "best-effort" => TopologyPolicy::BestEffort,
            "restricted" => TopologyPolicy::Restricted,
            "single-numa-node" => TopologyPolicy::SingleNumaNode,
            odd => return Err(format!("unknown policy: {odd:?}")),
        };
        let scope = match scope {
            "container" => TopologyScope::Container,
            "pod" => TopologyScope::Pod,
            odd => return Err(format!("unknown scope: {odd:?}")),
        };
        let mut options = TopologyOptions { policy, scope, closest: false, most_nodes: USUAL_MOST };
        for (name, text) in given {
            let wrong = |what: &str| format!("strconv.{what}: parsing {text:?}: invalid syntax");
            match name.as_str() {
                CLOSEST => options.closest = flag(text).ok_or_else(|| format!("bad value for option {name:?}: {}", wrong("ParseBool")))?,
                MOST_NODES => {
                    let number: usize =
                        text.parse().map_err(|_| format!("unable to convert policy option to integer {name:?}: {}", wrong("Atoi")))?;
                    if number < USUAL_MOST {
                        return Err(format!("the minimum value of {name:?} should not be less than {USUAL_MOST}"));
                    }
                    if number > UTMOST {
                        return Err(format!("{name:?} is no more than {UTMOST} with this kubelet"));
                    }
                    options.most_nodes = number;
                }
                _ => return Err(format!("unknown Topology Manager Policy option: {name:?}")),
            }
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(policy: &str, scope: &str, given: &[(&str, &str)]) -> Result<Option<TopologyOptions>, String> {
        TopologyOptions::parse(policy, scope, &given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        assert_eq!(parse("none", "container", &[]), Ok(None));
        let restricted = TopologyOptions { policy: TopologyPolicy::Restricted, scope: TopologyScope::Pod, closest: true, most_nodes: 10 };
        assert_eq!(parse("restricted", "pod", &[(CLOSEST, "true"), (MOST_NODES, "10")]), Ok(Some(restricted)));
        let usual = parse("best-effort", "container", &[]).expect("known").expect("a policy");
        assert_eq!((usual.most_nodes, usual.closest), (8, false));
        let why = |given: (&str, &str)| parse("single-numa-node", "pod", &[given]).expect_err("refused");
        assert_eq!(why((MOST_NODES, "4")), "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8");
        assert_eq!(why((MOST_NODES, "40")), "\"max-allowable-numa-nodes\" is no more than 10 with this kubelet");
        let odd = "unable to convert policy option to integer \"max-allowable-numa-nodes\": strconv.Atoi: parsing \"x\": invalid syntax";
        assert_eq!(why((MOST_NODES, "x")), odd);
        assert_eq!(why((CLOSEST, "2")), "bad value for option \"prefer-closest-numa-nodes\": strconv.ParseBool: parsing \"2\": invalid syntax");
        assert_eq!(why(("odd", "1")), "unknown Topology Manager Policy option: \"odd\"");
        assert_eq!(parse("odd", "pod", &[]), Err("unknown policy: \"odd\"".into()));
        assert_eq!(parse("restricted", "node", &[]), Err("unknown scope: \"node\"".into()));
    }
}
