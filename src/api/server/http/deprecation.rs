//! What is told of deprecated versions: a warning with every reply, an annotation of the audit event, a series that says they are asked for.

use troupe_api::{
    metrics::{Family, Gauge},
    notices::Notices,
    service::Target,
};

/// One for each deprecated version that was asked for.
pub(super) static REQUESTED: Family<Gauge> = Family::new(
    "apiserver_requested_deprecated_apis",
    "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.",
    &["group", "version", "resource", "subresource", "removed_release"],
);

/// Tells of `target`'s version if it is deprecated.
pub fn tell(target: &Target, notices: &Notices) {
    let Some(warning) = target.served().deprecation.as_deref() else { return };
    notices.warn(warning);
    notices.annotate("k8s.io/deprecated", "true");
    let removed_in = if target.resource.is_custom() { "" } else { release_of(warning) };
    REQUESTED.with(&[&target.resource.group, &target.version, &target.resource.plural, &target.subresource, removed_in]).set(1.0);
}

/// The release that is told to have the version no more, such as `1.37`; empty where none is.
fn release_of(warning: &str) -> &str {
    warning.rsplit_once("unavailable in v").and_then(|(_, rest)| rest.split_once('+')).map_or("", |(release, _)| release)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use troupe_api::{
        metrics::{parse::Samples, render},
        resources::{Registry, builtin},
    };

    fn told(plural: &str) -> Notices {
        let resource = Registry::new(builtin()).by_resource("", plural).expect("is served");
        let target = Target { resource, version: "v1".into(), namespace: "n".into(), name: "".into(), subresource: "".into() };
        let notices = Notices::default();
        tell(&target, &notices);
        notices
    }

    #[test]
    fn deprecated_versions_are_told_in_a_warning_the_audit_event_and_a_series() {
        let notices = told("endpoints");
        assert_eq!(notices.warnings(), ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]);
        assert_eq!(notices.annotations(), BTreeMap::from([("k8s.io/deprecated".to_owned(), "true".to_owned())]));
        let others = told("pods");
        assert!(others.warnings().is_empty() && others.annotations().is_empty());
        let text = render(&[&REQUESTED]);
        let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("a scrape parses");
        let value = |plural| samples.value("apiserver_requested_deprecated_apis", &[("group", ""), ("version", "v1"), ("resource", plural)]);
        assert_eq!((value("endpoints"), value("pods")), (Some(1.0), None));
    }

    #[test]
    fn the_release_is_told_that_has_a_version_no_more() {
        assert_eq!(release_of("a/v1alpha1 B is deprecated in v1.34+, unavailable in v1.37+"), "1.37");
        assert_eq!(release_of("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"), "");
    }
}
