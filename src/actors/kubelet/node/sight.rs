//! What was last seen of the runtime. It may be silent for a while, because it is started again, before the node says that
//! it is down.

use std::time::{Duration, Instant};

use troupe_cri::{
    Runtime,
    proto::{Image, StatusResponse, VersionResponse},
};

/// How long a silent runtime counts as what it was before, as upstream.
const PATIENCE: Duration = Duration::from_secs(30);
/// A runtime that takes longer to tell how it is counts as silent.
const ANSWER: Duration = Duration::from_secs(10);

/// The runtime's status and images, as of when it last answered.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    seen: Option<Instant>,
    status: StatusResponse,
    pub images: Vec<Image>,
    /// Another one after the runtime was replaced.
    pub version: Option<VersionResponse>,
    /// Why it did not answer since.
    error: String,
}

impl Sight {
    /// Asks the runtime.
    pub async fn look(&mut self, runtime: &dyn Runtime) {
        let asking = async {
            let status = runtime.status().await?;
            Ok((status, runtime.list_images().await.unwrap_or_default(), runtime.version().await.ok()))
        };
        let answer = match tokio::time::timeout(ANSWER, asking).await {
            Ok(answer) => answer.map_err(|error: troupe_cri::CriError| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        };
        self.take(answer, Instant::now());
    }

    fn take(&mut self, answer: Result<(StatusResponse, Vec<Image>, Option<VersionResponse>), String>, now: Instant) {
        match answer {
            Ok((status, images, version)) => *self = Sight { seen: Some(now), status, images, version, error: String::new() },
            Err(error) => self.error = error,
        }
    }

    /// How the runtime is.
    pub fn runtime(&self, now: Instant) -> Result<&StatusResponse, &str> {
        let fresh = self.error.is_empty() || self.seen.is_some_and(|seen| now.saturating_duration_since(seen) < PATIENCE);
        if self.seen.is_some() && fresh { Ok(&self.status) } else { Err(&self.error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::context::runtime_version;

    #[test]
    fn a_runtime_that_is_started_again_is_not_down_yet() {
        let start = Instant::now();
        let mut sight = Sight::default();
        assert!(sight.runtime(start).is_err(), "it was never seen");
        sight.take(Err("refused".into()), start);
        assert_eq!(sight.runtime(start).expect_err("down"), "refused");
        let image = Image { id: "i".into(), ..Image::default() };
        sight.take(Ok((StatusResponse::default(), vec![image], None)), start);
        sight.take(Err("refused".into()), start + Duration::from_secs(29));
        assert!(sight.runtime(start + Duration::from_secs(29)).is_ok());
        assert_eq!(sight.images.len(), 1, "its images are still there");
        assert_eq!(sight.runtime(start + Duration::from_secs(31)).expect_err("down"), "refused");
        let version = VersionResponse { runtime_name: "containerd".into(), runtime_version: "v2.3.4".into(), ..VersionResponse::default() };
        sight.take(Ok((StatusResponse::default(), Vec::new(), Some(version))), start + Duration::from_secs(40));
        assert_eq!(sight.version.as_ref().map(runtime_version).as_deref(), Some("containerd 2.3.4"));
        assert!(sight.runtime(start + Duration::from_secs(100)).is_ok(), "nothing says otherwise");
    }
}
