//! Reads a request's path as upstream's `RequestInfo` does. Pure.

use std::borrow::Cow;

use super::query::percent_decode;

/// `watch/namespaces/NS/RESOURCE/NAME/SUBRESOURCE`, and one that is none of these.
const MOST_PARTS: usize = 7;

/// What the path and method alone say about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo<'a> {
    /// Below `/api/V` or `/apis/G/V`; everything else is a non-resource path.
    pub is_resource: bool,
    /// The legacy `/watch/` prefix was there.
    pub legacy_watch: bool,
    pub group: Cow<'a, str>,
    pub version: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub resource: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub subresource: Cow<'a, str>,
    /// What follows the subresource, undecoded.
    pub rest: &'a str,
}

impl<'a> RequestInfo<'a> {
    /// Parses an undecoded path.
    pub fn parse(path: &'a str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let mut info = RequestInfo::default();
        let (group, version) = match parts.next() {
            Some("api") => ("", parts.next()),
            Some("apis") => match parts.next() {
                Some(group) => (group, parts.next()),
                None => return info,
            },
            _ => return info,
        };
        // All that has a meaning; what follows a subresource is found by its place.
        let mut rest: Vec<&'a str> = parts.take(MOST_PARTS).collect();
        let Some(version) = version else { return info };
        if rest.is_empty() {
            return info;
        }
        info.is_resource = true;
        (info.group, info.version) = (percent_decode(group), percent_decode(version));
        if rest[0] == "watch" && rest.len() > 1 {
            info.legacy_watch = true;
            rest.remove(0);
        }
        info.read_object(path, &rest);
        info
    }

    /// Reads `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE[/REST]]]`.
    fn read_object(&mut self, path: &'a str, parts: &[&'a str]) {
        let mut parts = parts;
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = percent_decode(parts[1]);
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts = &parts[2..];
            }
        }
        self.resource = percent_decode(parts[0]);
        if let Some(name) = parts.get(1) {
            self.name = percent_decode(name);
        }
        if let Some(subresource) = parts.get(2) {
            self.subresource = percent_decode(subresource);
            // Everything behind the subresource, duplicate slashes included, belongs to whom is proxied to.
            let end = subresource.as_ptr().addr() - path.as_ptr().addr() + subresource.len();
            self.rest = path[end..].strip_prefix('/').unwrap_or("");
        }
    }

    /// The group and version this path is below, `/api/V` and `/apis/G/V` themselves included.
    pub fn group_version(path: &str) -> Option<(String, String)> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(4).collect();
        match parts[..] {
            ["api", version] => Some((String::new(), percent_decode(version).into_owned())),
            ["apis", group, version] => Some((percent_decode(group).into_owned(), percent_decode(version).into_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// group, version, namespace, resource, name, subresource, rest
    type Parts<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

    fn parts<'a>(info: &'a RequestInfo<'_>) -> Parts<'a> {
        (&info.group, &info.version, &info.namespace, &info.resource, &info.name, &info.subresource, info.rest)
    }

    #[test]
    fn resource_paths_read_as_upstream_reads_them() {
        let cases: [(&str, Parts<'_>); 12] = [
            ("/api/v1/pods", ("", "v1", "", "pods", "", "", "")),
            ("/api/v1/namespaces", ("", "v1", "", "namespaces", "", "", "")),
            ("/api/v1/namespaces/a", ("", "v1", "a", "namespaces", "a", "", "")),
            ("/api/v1/namespaces/a/status", ("", "v1", "a", "namespaces", "a", "status", "")),
            ("/api/v1/namespaces/a/finalize", ("", "v1", "a", "namespaces", "a", "finalize", "")),
            ("/api/v1/namespaces/a/pods", ("", "v1", "a", "pods", "", "", "")),
            ("/api/v1/namespaces/a/pods/", ("", "v1", "a", "pods", "", "", "")),
            ("/api/v1/namespaces/a/pods/p/log", ("", "v1", "a", "pods", "p", "log", "")),
            ("/api/v1/nodes/n/proxy/pods//x", ("", "v1", "", "nodes", "n", "proxy", "pods//x")),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", ("apps", "v1", "a", "deployments", "d", "scale", "")),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                ("rbac.authorization.k8s.io", "v1", "", "clusterroles", "system:node", "", ""),
            ),
            ("/api/v1/watch/namespaces/a/pods/p", ("", "v1", "a", "pods", "p", "", "")),
        ];
        for (path, want) in cases {
            let info = RequestInfo::parse(path);
            assert!(info.is_resource, "{path}");
            assert_eq!(parts(&info), want, "{path}");
            assert_eq!(info.legacy_watch, path.contains("/watch/"), "{path}");
        }
    }

    #[test]
    fn documents_and_other_paths_are_no_resources() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v3/api/v1", "/version"] {
            assert!(!RequestInfo::parse(path).is_resource, "{path}");
        }
        assert_eq!(RequestInfo::group_version("/apis/apps/v1"), Some(("apps".into(), "v1".into())));
        assert_eq!(RequestInfo::group_version("/apis/apps"), None);
    }
}
