//! `hostPathVolumes`: nothing of the node's disk is mounted.

use troupe_api::resources::tree;

use super::{
    Check, PodView, Revision, Violation,
    wording::{plural, quoted},
};

pub(super) const ID: &str = "hostPathVolumes";
pub(super) const CHECK: Check = Check { id: ID, revisions: &[Revision::new(0, check)] };

fn check(pod: &PodView<'_>) -> Option<Violation> {
    let volumes = tree::items(pod.spec, &["volumes"]).iter().filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<_> = volumes.map(|volume| tree::text(volume, &["name"])).collect();
    let detail = || format!("{} {}", plural("volume", "volumes", names.len()), quoted(names.iter().copied()));
    (!names.is_empty()).then(|| Violation { reason: "hostPath volumes", detail: detail() })
}
