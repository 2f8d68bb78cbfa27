//! Checkpoints of containers (KEP-2008): what a container is at a moment, in an archive on this node that the runtime writes.

use std::{path::Path, time::Duration};

use hyper::Response;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::json;
use troupe_api::meta::time::format_time;
use troupe_api_server::http::streaming::query_values;
use troupe_cri::{CriError, Runtime};

use super::directory::{PodDirectory, PodRef};
use crate::serving::{Body, document, text};

/// The directory of checkpoints, below the kubelet's root.
pub const DIRECTORY: &str = "checkpoints";

/// Writes a checkpoint of a container into `place`, and answers where it lies, in upstream's words.
pub async fn answer(query: &str, runtime: &dyn Runtime, pods: &dyn PodDirectory, place: &Path, (pod, container): (&PodRef, &str)) -> Response<Body> {
    let known = pods.pods().await;
    let is_asked = |known: &Pod| known.metadata.name.as_ref() == Some(&pod.name) && known.metadata.namespace.as_ref() == Some(&pod.namespace);
    let Some(found) = known.iter().find(|known| is_asked(known)) else { return text(404, "pod does not exist") };
    if !found.spec.as_ref().is_some_and(|spec| has(spec, container)) {
        return text(404, format!("container {container} does not exist"));
    }
    let timeout = match query_values(query, "timeout").pop().map(|seconds| seconds.parse::<i64>()) {
        None => Duration::ZERO,
        Some(Ok(seconds)) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        Some(Err(_)) => return text(404, "cannot parse value of timeout parameter"),
    };
    let PodRef { namespace, name, .. } = pod;
    let location = place.join(format!("checkpoint-{name}_{namespace}-{container}-{}.tar", format_time(Timestamp::now())));
    let written = match pods.container(pod, container).await {
        Ok(id) => runtime.checkpoint_container(&id, &location, timeout).await.map_err(|error| words(&error)),
        Err(error) => Err(error.to_string()),
    };
    match written {
        Ok(()) => document(200, "application/json", json!({"items": [location.display().to_string()]}).to_string()),
        Err(why) => text(500, format!("checkpointing of {namespace}/{name}/{container} failed ({why})")),
    }
}

fn has(spec: &PodSpec, container: &str) -> bool {
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| &one.name).chain(ephemeral).any(|name| name == container)
}

/// As gRPC's clients print errors: by these words it is seen that a runtime makes no checkpoints.
fn words(error: &CriError) -> String {
    match error {
        CriError::Unimplemented(message) => format!("rpc error: code = Unimplemented desc = {message}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use http_body_util::BodyExt;
    use serde_json::from_value;
    use troupe_cri::FakeRuntime;

    use super::*;
    use crate::kubelet::server::directory::{LogFile, LookupError};

    /// One pod of one container.
    struct One;

    #[async_trait]
    impl PodDirectory for One {
        async fn log(&self, _pod: &PodRef, _container: &str, _previous: bool) -> Result<LogFile, LookupError> {
            Err(LookupError::NotFound(String::new()))
        }

        async fn container(&self, _pod: &PodRef, container: &str) -> Result<String, LookupError> {
            Ok(format!("id-{container}"))
        }

        async fn sandbox(&self, _pod: &PodRef) -> Result<String, LookupError> {
            Err(LookupError::NotFound(String::new()))
        }

        async fn is_running(&self, _container_id: &str) -> bool {
            true
        }

        async fn pods(&self) -> Vec<Arc<Pod>> {
            let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
            vec![Arc::new(from_value(pod).expect("a pod"))]
        }
    }

    async fn answered(runtime: &FakeRuntime, query: &str, name: &str, container: &str) -> (u16, String) {
        let pod = PodRef { namespace: "n".into(), name: name.into(), uid: None };
        let response = answer(query, runtime, &One, Path::new("/k/checkpoints"), (&pod, container)).await;
        let code = response.status().as_u16();
        let Ok(body) = response.into_body().collect().await else { panic!("it ends early") };
        (code, String::from_utf8(body.to_bytes().to_vec()).expect("a text"))
    }

    #[tokio::test]
    async fn a_container_is_written_down_where_the_answer_says() {
        let runtime = FakeRuntime::default();
        let (code, text) = answered(&runtime, "timeout=7", "p", "c").await;
        assert!(code == 200 && text.starts_with(r#"{"items":["/k/checkpoints/checkpoint-p_n-c-2"#) && text.ends_with(r#".tar"]}"#), "{text}");
        assert_eq!(runtime.calls(), ["checkpoint_container id-c"]);
    }

    #[tokio::test]
    async fn what_is_not_there_or_cannot_be_is_told_in_upstreams_words() {
        let runtime = FakeRuntime::default();
        assert_eq!(answered(&runtime, "", "q", "c").await, (404, "pod does not exist".into()));
        assert_eq!(answered(&runtime, "", "p", "d").await, (404, "container d does not exist".into()));
        assert_eq!(answered(&runtime, "timeout=x", "p", "c").await, (404, "cannot parse value of timeout parameter".into()));
        runtime.fail_next("checkpoint_container", CriError::Unimplemented("unknown method CheckpointContainer".into()));
        let why = "checkpointing of n/p/c failed (rpc error: code = Unimplemented desc = unknown method CheckpointContainer)";
        assert_eq!(answered(&runtime, "", "p", "c").await, (500, why.into()));
    }
}
