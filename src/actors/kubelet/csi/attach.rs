//! Waiting until the control plane has attached a volume to this node.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{core::v1::Node, storage::v1::VolumeAttachment};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Csi, Volume};
use crate::storage::csi::attachment_name;

/// How long a pod's start waits before it is told of and begun anew; upstream's.
const PATIENCE: Duration = Duration::from_secs(123);
/// How often one looks, at first and later.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// What the API tells of a volume on this node.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    /// With what the attacher wants the driver to know.
    Attached(BTreeMap<String, String>),
    Waits,
}

/// Attached is what both the attachment and the node's status say: the status forgets a volume before it is detached.
fn sight(node: Option<&Node>, attachment: Option<&VolumeAttachment>, volume: &str) -> Sight {
    let listed = node.and_then(|node| node.status.as_ref()?.volumes_attached.as_ref());
    let is_listed = listed.is_some_and(|listed| listed.iter().any(|attached| attached.name == volume));
    let Some(attachment) = attachment else { return Sight::Waits };
    if attachment.metadata.deletion_timestamp.is_some() {
        return Sight::Waits;
    }
    match &attachment.status {
        Some(status) if status.attached && is_listed => Sight::Attached(status.attachment_metadata.clone().unwrap_or_default()),
        _ => Sight::Waits,
    }
}

impl Csi {
    /// Marks the volume as in use, then waits until it is attached here; gives what the attacher wants the driver to know.
    pub(super) async fn attached(&self, volume: &Volume, uid: &str, cancel: &CancellationToken) -> Result<BTreeMap<String, String>, String> {
        let Some(client) = &self.client else { return Err("there is no API server that attaches volumes".into()) };
        let (name, unique) = (attachment_name(&volume.handle, &volume.driver, &self.node), volume.unique_name());
        self.in_use.hold(unique.clone(), uid);
        let (deadline, mut pause) = (Instant::now() + PATIENCE, FIRST);
        loop {
            let look = async {
                // Whoever would detach it sees this first.
                self.report_in_use(false).await?;
                let attachment = client.all::<VolumeAttachment>().get_opt(&name).await?;
                let node = client.all::<Node>().get_opt(&self.node).await?;
                Ok::<_, troupe_api::Status>((node, attachment))
            };
            let why = match look.await {
                Ok((node, attachment)) => match sight(node.as_deref(), attachment.as_deref(), &unique) {
                    Sight::Attached(context) => return Ok(context),
                    Sight::Waits => "context deadline exceeded".to_owned(),
                },
                Err(status) => status.message,
            };
            if Instant::now() >= deadline {
                let name = &volume.pod_volume;
                return Err(format!(
                    "Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[{name}], failed to process volumes=[]: {why}"
                ));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return Err("the pod stops".into()),
            }
            pause = (pause * 3 / 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn attached_is_what_the_attacher_and_the_node_say() {
        let node = |names: &[&str]| -> Node {
            let list: Vec<_> = names.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
            from_value(json!({"metadata": {"name": "n"}, "status": {"volumesAttached": list}})).expect("a node")
        };
        let attachment = |status: Value, meta: Value| -> VolumeAttachment {
            from_value(json!({"metadata": meta, "spec": {"attacher": "d", "nodeName": "n", "source": {}}, "status": status})).expect("an attachment")
        };
        let there = attachment(json!({"attached": true, "attachmentMetadata": {"lun": "3"}}), json!({}));
        let context = BTreeMap::from([("lun".to_owned(), "3".to_owned())]);
        assert_eq!(sight(Some(&node(&["v"])), Some(&there), "v"), Sight::Attached(context));
        assert_eq!(sight(Some(&node(&["w"])), Some(&there), "v"), Sight::Waits, "it may be about to go");
        assert_eq!(sight(Some(&node(&["v"])), None, "v"), Sight::Waits);
        let going = attachment(json!({"attached": true}), json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(sight(Some(&node(&["v"])), Some(&going), "v"), Sight::Waits);
    }
}
