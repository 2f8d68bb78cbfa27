//! Paths of the kubelet's API: what is asked, and as which subresource of the node it is authorized. Pure.

use super::directory::PodRef;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Logs {
        pod: PodRef,
        container: String,
    },
    Exec {
        pod: PodRef,
        container: String,
    },
    Attach {
        pod: PodRef,
        container: String,
    },
    Run {
        pod: PodRef,
        container: String,
    },
    Checkpoint {
        pod: PodRef,
        container: String,
    },
    PortForward {
        pod: PodRef,
    },
    Pods,
    RunningPods,
    Healthz,
    /// The configuration that holds.
    Configz,
    Metrics,
    /// The few figures that metrics servers read.
    ResourceMetrics,
    ContainerMetrics,
    ProbeMetrics,
    HealthMetrics,
    Summary,
    /// A path below the machine's own logs.
    SystemLogs {
        path: String,
    },
    /// What the kubelet is, and with which flags it runs.
    Zpage,
    /// What the process tells of its actors.
    Insight,
}

impl Route {
    /// The route of a decoded path.
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let pod =
            |namespace: &str, name: &str, uid: Option<&str>| PodRef { namespace: namespace.into(), name: name.into(), uid: uid.map(Into::into) };
        let (area, rest) = parts.split_first()?;
        if let ("logs", Some(path)) = (*area, path.strip_prefix("/logs/")) {
            return Some(Route::SystemLogs { path: path.to_owned() });
        }
        let (pod, container) = match (*area, rest) {
            ("pods", []) => return Some(Route::Pods),
            ("runningpods", []) => return Some(Route::RunningPods),
            ("healthz", [] | ["ping" | "syncloop" | "log"]) => return Some(Route::Healthz),
            ("configz", []) => return Some(Route::Configz),
            ("statusz" | "flagz", []) => return Some(Route::Zpage),
            ("metrics", []) => return Some(Route::Metrics),
            ("metrics", ["resource"]) => return Some(Route::ResourceMetrics),
            ("metrics", ["cadvisor"]) => return Some(Route::ContainerMetrics),
            ("metrics", ["probes"]) => return Some(Route::ProbeMetrics),
            ("metrics", ["slis"]) => return Some(Route::HealthMetrics),
            ("stats", ["summary"]) => return Some(Route::Summary),
            ("debug", ["troupe", "process", _]) => return Some(Route::Insight),
            ("portForward", [namespace, name]) => return Some(Route::PortForward { pod: pod(namespace, name, None) }),
            ("portForward", [namespace, name, uid]) => return Some(Route::PortForward { pod: pod(namespace, name, Some(uid)) }),
            (_, [namespace, name, container]) => (pod(namespace, name, None), (*container).to_owned()),
            ("exec" | "attach" | "run", [namespace, name, uid, container]) => (pod(namespace, name, Some(uid)), (*container).to_owned()),
            _ => return None,
        };
        match *area {
            "containerLogs" => Some(Route::Logs { pod, container }),
            "exec" => Some(Route::Exec { pod, container }),
            "attach" => Some(Route::Attach { pod, container }),
            "run" => Some(Route::Run { pod, container }),
            "checkpoint" => Some(Route::Checkpoint { pod, container }),
            _ => None,
        }
    }
}

/// The subresources of `nodes` any of which opens a path.
pub fn subresources(path: &str) -> Vec<&'static str> {
    let below = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let fine = [("/pods", "pods"), ("/runningpods", "pods"), ("/healthz", "healthz"), ("/configz", "configz")];
    let mut found: Vec<_> = fine.iter().filter(|(root, _)| below(root)).map(|(_, subresource)| *subresource).collect();
    let others = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    found.push(others.iter().find(|(root, _)| below(root)).map_or("proxy", |(_, subresource)| *subresource));
    found
}

/// The verb of an access to the node.
pub fn verb(method: &hyper::Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_pods_with_and_without_uid() {
        let pod = PodRef { namespace: "ns".into(), name: "p".into(), uid: None };
        assert_eq!(Route::of("/containerLogs/ns/p/c"), Some(Route::Logs { pod: pod.clone(), container: "c".into() }));
        assert_eq!(Route::of("/checkpoint/ns/p/c"), Some(Route::Checkpoint { pod: pod.clone(), container: "c".into() }));
        assert_eq!(Route::of("/portForward/ns/p"), Some(Route::PortForward { pod: pod.clone() }));
        let pod = PodRef { uid: Some("u".into()), ..pod };
        assert_eq!(Route::of("/exec/ns/p/u/c"), Some(Route::Exec { pod, container: "c".into() }));
        assert_eq!(Route::of("/runningpods/"), Some(Route::RunningPods));
        assert_eq!(Route::of("/containerLogs/ns/p/u/c"), None);
        assert_eq!(Route::of("/"), None);
        assert_eq!(Route::of("/metrics/resource"), Some(Route::ResourceMetrics));
        assert_eq!(Route::of("/stats/summary"), Some(Route::Summary));
        assert_eq!(Route::of("/configz"), Some(Route::Configz));
        assert_eq!(Route::of("/logs/pods/"), Some(Route::SystemLogs { path: "pods/".into() }));
        assert_eq!(Route::of("/debug/troupe/process/hops"), Some(Route::Insight));
    }

    #[test]
    fn streams_need_proxy_and_pods_either() {
        assert_eq!(subresources("/exec/ns/p/c"), ["proxy"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/checkpoint/ns/p/c"), ["checkpoint"]);
        assert_eq!(subresources("/metrics/cadvisor"), ["metrics"]);
        assert_eq!(subresources("/podsecurity"), ["proxy"]);
        assert_eq!((subresources("/statusz"), subresources("/flagz")), (vec!["statusz"], vec!["configz"]));
        assert_eq!((Route::of("/statusz"), Route::of("/flagz"), Route::of("/flagz/x")), (Some(Route::Zpage), Some(Route::Zpage), None));
    }
}
