//! The pod's volumes of CSI drivers: asked for when the pod starts, and again for as long as it runs where a driver or a claim wants that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::json;
use troupe_api::meta::time::format_time;

use super::Step;
use crate::{
    files::{Directory, blocking},
    kubelet::{
        csi::{Request, Volume, record},
        events::Note,
        volumes::{
            self, Plugin,
            claim::{Sources, give},
            fs_group,
            payload::TokenRequest,
        },
    },
    storage::operations,
};

/// How long a token is good for where the driver does not say.
const TOKEN_LIFE: i64 = 3600;

/// The volumes of claims that drivers have brought: what becomes of their claims is looked at while the pod runs.
pub(super) async fn kept(step: &Step) -> Vec<String> {
    let claimed = |volume: &&k8s_openapi::api::core::v1::Volume| Plugin::of(volume) == Some(Plugin::Claim);
    let names: Vec<_> = volumes::volumes(&step.pod).iter().filter(claimed).map(|volume| volume.name.clone()).collect();
    let root = step.context.paths(&step.id.uid).root().to_owned();
    blocking(move || names.into_iter().filter(|name| record::files_of(&root, name).is_some()).collect()).await
}

/// Brings the pod's volumes of drivers to their places, `all` of them or those that are gone or want it; says the first failure.
/// Of what claims lead to, those are left that are set up as others are.
pub(super) async fn mount(step: &Step, claims: &mut Sources, all: bool, gone: &[String]) -> Option<String> {
    let inline = volumes::volumes(&step.pod).iter().filter_map(|volume| Some(Volume::of_pod(&step.pod, &volume.name, volume.csi.as_ref()?)));
    let mut wanted: Vec<Volume> = inline.collect();
    for (name, source) in std::mem::take(claims) {
        match source {
            volumes::claim::Source::Csi(volume) => wanted.push(*volume),
            source => drop(claims.insert(name, source)),
        }
    }
    let asked = wanted.iter().map(|volume| one(step, volume, all || gone.contains(&volume.pod_volume)));
    let mut failure = None;
    for (volume, outcome) in wanted.iter().zip(futures::future::join_all(asked).await) {
        match outcome {
            Ok(Some(device)) => drop(claims.insert(volume.pod_volume.clone(), volumes::claim::Source::Device(device))),
            Ok(None) => {}
            Err(why) => failure = failure.or(Some(why)),
        }
    }
    failure
}

/// Publishes one volume if it is to be, and lets it grow; gives the device of one that has no files.
async fn one(step: &Step, volume: &Volume, needed: bool) -> Result<Option<std::path::PathBuf>, String> {
    let csi = &step.context.csi;
    let set_up = |why: String| format!("MountVolume.SetUp failed for volume {:?} : {why}", volume.spec_name);
    let driver = csi.driver_object(&volume.driver).await.map_err(|status| set_up(status.message))?;
    let again = !needed;
    let mut device = None;
    if needed || driver.as_ref().is_some_and(|driver| driver.spec.requires_republish == Some(true)) {
        let tokens = tokens(step, driver.as_deref())
            .await
            .map_err(|why| set_up(format!("kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: {why}")))?;
        let request = Request {
            volume,
            pod: &step.pod,
            driver: driver.as_deref(),
            tokens: tokens.as_deref(),
            group: fs_group(&step.pod).map(i64::from),
            again,
            cancel: &step.cancel,
        };
        let begun = Instant::now();
        let call = step.call_trace.call("csi", "Publish", csi.publish(&request)).await;
        mounted(step, volume, call.is_ok(), begun.elapsed());
        let published = call?;
        if published.is_given_to_group {
            let (path, pod, read_only) = (published.path.clone(), step.pod.clone(), volume.read_only);
            let given = blocking(move || Directory::open(&path).and_then(|directory| give(&directory, &pod, read_only))).await;
            given.map_err(|error| set_up(format!("applyFSGroup failed for vol {}: {error}", volume.handle)))?;
        }
        if published.is_new && !volume.is_block {
            step.made.note(&volume.pod_volume);
        }
        device = volume.is_block.then_some(published.path);
    }
    grow(step, volume).await;
    Ok(device)
}

/// Counts a volume that a driver was asked for.
fn mounted(step: &Step, volume: &Volume, is_done: bool, took: Duration) {
    // Pods may name drivers that there are not, and no series is to be made for those.
    let is_known = step.context.csi.drivers().contains(&volume.driver);
    let plugin = if is_known { format!("kubernetes.io/csi:{}", volume.driver) } else { "kubernetes.io/csi".to_owned() };
    operations::attempted(&plugin, if volume.is_block { "map_volume" } else { "volume_mount" }, is_done, took);
    if is_done && !volume.is_block {
        operations::done(&plugin, "overall_volume_mount", took);
    }
}

/// A volume that does not grow is used as it is; it is told of, and tried again.
async fn grow(step: &Step, volume: &Volume) {
    match step.context.csi.expand(volume, &step.pod).await {
        Ok(true) => {
            let message = format!("MountVolume.NodeExpandVolume succeeded for volume {:?} {}", volume.spec_name, step.context.node_name);
            step.note(Note::normal("FileSystemResizeSuccessful", message));
        }
        Ok(false) => {}
        Err(why) => step.note(Note::warning("VolumeResizeFailed", why)),
    }
}

/// The tokens that a driver wants, by audience, as upstream hands them on.
async fn tokens(step: &Step, driver: Option<&CSIDriver>) -> Result<Option<String>, String> {
    let wanted = driver.and_then(|driver| driver.spec.token_requests.as_deref()).unwrap_or_default();
    let mut all = BTreeMap::new();
    for request in wanted {
        let asked = TokenRequest { audience: request.audience.clone(), expiration_seconds: request.expiration_seconds.unwrap_or(TOKEN_LIFE) };
        let token = step.tokens.get(&step.context, &step.pod, &asked).await.map_err(|status| status.message)?;
        all.insert(request.audience.clone(), json!({"token": token.token, "expirationTimestamp": format_time(token.expires)}));
    }
    Ok((!all.is_empty()).then(|| json!(all).to_string()))
}
