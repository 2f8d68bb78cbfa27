//! Where groups and versions stand in discovery: what API services say by themselves (upstream's `apiVersionPriorities`). Pure.

/// `groupPriorityMinimum` and `versionPriority` of an API service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// What has the highest number comes first.
    pub group: i64,
    pub version: i64,
}

impl Priority {
    /// Of groups that custom resource definitions make.
    pub const CUSTOM: Priority = Priority { group: 1000, version: 100 };
    /// Of the group of API services, which has none itself: before all others.
    const REGISTRATION: Priority = Priority { group: 20_001, version: 15 };
}

/// The groups that are built in.
const GROUPS: [(&str, i64); 23] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("resource.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("storagemigration.k8s.io", 15800),
    // What a metrics server asks for.
    ("metrics.k8s.io", 100),
];

/// Of a version that is built in; `None` for groups that are not.
pub fn builtin(group: &str, version: &str) -> Option<Priority> {
    let (_, priority) = GROUPS.iter().find(|(name, _)| *name == group)?;
    Some(Priority { group: *priority, version: of_version(group, version) })
}

/// Of any version that is served here.
pub fn local(group: &str, version: &str) -> Priority {
    let registration = || (group == "apiregistration.k8s.io").then_some(Priority::REGISTRATION);
    builtin(group, version).or_else(registration).unwrap_or(Priority::CUSTOM)
}

/// Where a version stands within its group.
fn of_version(group: &str, version: &str) -> i64 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        // As a metrics server's manifest, which is then applied without a conflict.
        ("metrics.k8s.io", _) => 100,
        ("resource.k8s.io" | "flowcontrol.apiserver.k8s.io", "v1") => 21,
        ("resource.k8s.io", "v1beta2") | (_, "v1") => 15,
        ("events.k8s.io", "v1beta1") => 5,
        ("coordination.k8s.io", "v1beta1") => 13,
        ("coordination.k8s.io", "v1alpha2") | ("admissionregistration.k8s.io" | "discovery.k8s.io", "v1beta1") => 12,
        ("admissionregistration.k8s.io" | "storagemigration.k8s.io" | "internal.apiserver.k8s.io", _) => 9,
        ("scheduling.k8s.io", "v1alpha2") => 2,
        (_, version) if version.contains("beta") => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_groups_stand_as_upstream_has_them_and_others_behind() {
        let of = |group, version| {
            let Priority { group, version } = local(group, version);
            (group, version)
        };
        assert_eq!(of("", "v1"), (18000, 1));
        assert_eq!(of("autoscaling", "v2"), (17500, 30));
        assert_eq!(of("resource.k8s.io", "v1beta1"), (16200, 9));
        assert_eq!(of("admissionregistration.k8s.io", "v1alpha1"), (16700, 9));
        assert_eq!(of("example.com", "v1"), (1000, 100));
        assert_eq!(of("metrics.k8s.io", "v1beta1"), (100, 100));
        assert!(of("apiregistration.k8s.io", "v1").0 > 18000);
        assert_eq!(builtin("apiregistration.k8s.io", "v1"), None, "the aggregator's own group is not an API service");
    }
}
