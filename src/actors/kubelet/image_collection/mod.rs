//! Removing images that nobody uses: when the disk with images fills up, before pods are evicted because it has, and when nobody used them
//! for too long.

pub mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use serde_json::{Value, json};
use troupe_cri::{
    names::IMAGE_VOLUMES,
    proto::{ContainerFilter, Image},
    runtime::CriResult,
};

use self::plan::{Fullness, ImagePolicy, Sight, Unused, detect, is_old_enough, take_outdated};
use super::{context::NodeContext, events::Note, eviction::measure};
use crate::{
    files::blocking,
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitContext},
    },
};

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(300);

/// Removes all images that nobody uses; answers how many bytes they had.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "u64")]
pub struct RemoveUnused;

/// The unit that removes images.
pub struct ImageCollection {
    context: Arc<NodeContext>,
    policy: Arc<ImagePolicy>,
    sights: BTreeMap<String, Sight>,
    /// Its last attempt did not free what it should have: the next such one is told.
    failed: bool,
    removed: u64,
    watched: Instant,
}

/// What was found at one look.
struct Found {
    images: Vec<Image>,
    in_use: BTreeSet<String>,
    fullness: Option<Fullness>,
}

impl ImageCollection {
    pub fn new(context: Arc<NodeContext>, policy: Arc<ImagePolicy>) -> Self {
        ImageCollection { context, policy, sights: BTreeMap::new(), failed: false, removed: 0, watched: Instant::now() }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let context = self.context.clone();
        cx.spawn_then(async move { find(&context).await }, |unit, found, cx| {
            match found {
                Ok(found) => unit.found(found, cx),
                Err(error) => tracing::warn!(%error, "images are not looked at"),
            }
            cx.after(PERIOD, Self::look);
        });
    }

    fn found(&mut self, found: Found, cx: &mut UnitContext<'_, Self>) {
        let began = Instant::now();
        let mut unused = detect(&mut self.sights, &found.images, &found.in_use, &self.policy, began);
        let outdated = take_outdated(&mut unused, &self.policy, self.watched, began);
        if !outdated.is_empty() {
            tracing::info!(images = outdated.len(), age = ?self.policy.most_age, "images that nobody used for too long go");
        }
        let excess = self.excess(found.fullness);
        if outdated.is_empty() && excess.is_none() {
            return;
        }
        let (context, policy) = (self.context.clone(), self.policy.clone());
        let wanted = excess.map_or(0, |(excess, _)| excess);
        let work = async move {
            let old = remove(&context, &outdated, &policy, u64::MAX, began).await;
            old.saturating_add(remove(&context, &unused, &policy, wanted.saturating_sub(old), began).await)
        };
        cx.spawn_then(work, move |unit, freed, _| {
            unit.removed = unit.removed.saturating_add(freed);
            if let Some((excess, fullness)) = excess {
                unit.told(excess, freed, fullness);
            }
        });
    }

    /// The bytes to free of a disk that is too full.
    fn excess(&mut self, fullness: Option<Fullness>) -> Option<(u64, Fullness)> {
        let fullness = fullness?;
        if fullness.capacity == 0 {
            self.note(Note::warning("InvalidDiskCapacity", "invalid capacity 0 on image filesystem"));
            return None;
        }
        let Some(excess) = fullness.excess(&self.policy) else {
            self.failed = false;
            return None;
        };
        tracing::info!(percent = fullness.percent(), high = self.policy.high, excess, "disk with images is filling up, unused ones go");
        Some((excess, fullness))
    }

    /// Once may be bad luck, as upstream sees it: an event tells of the second failure in a row, and of each after it.
    fn told(&mut self, excess: u64, freed: u64, fullness: Fullness) {
        if freed >= excess {
            self.failed = false;
            return;
        }
        let (capacity, available) = (fullness.capacity, fullness.available);
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {excess} bytes, but only found {freed} bytes eligible to free."
        );
        tracing::warn!(message, capacity, available, "images not removed");
        self.note(Note::warning("FreeDiskSpaceFailed", message.clone()));
        if std::mem::replace(&mut self.failed, true) {
            self.note(Note::warning("ImageGCFailed", message));
        }
    }

    fn note(&self, note: Note) {
        self.context.events.node(&self.context.node_name, note);
    }
}

/// Images, those that containers have, running or not, and the disk that they are on.
async fn find(context: &NodeContext) -> CriResult<Found> {
    let asked = context.clock.now();
    let images = context.runtime.list_images().await?;
    context.pull_records.prune(images.iter().map(|image| image.id.clone()).collect(), asked).await;
    let containers = context.runtime.list_containers(ContainerFilter::default()).await?;
    let names = containers.into_iter().flat_map(|container| {
        let image = container.image.unwrap_or_default();
        let noted = container.annotations.get(IMAGE_VOLUMES).and_then(|noted| serde_json::from_str::<Vec<String>>(noted).ok());
        let own = [container.image_ref, container.image_id, image.image, image.user_specified_image];
        own.into_iter().chain(noted.unwrap_or_default())
    });
    let in_use = names.filter(|name| !name.is_empty()).collect();
    let directory = measure::image_directory(&*context.runtime).await.unwrap_or_else(|| context.root.clone());
    let fullness = blocking(move || fullness(directory)).await;
    Ok(Found { images, in_use, fullness })
}

fn fullness(directory: PathBuf) -> Option<Fullness> {
    let readings = measure::readings(&directory, None)?;
    Some(Fullness { capacity: readings.node.size, available: readings.node.available })
}

/// Removes images in their order until so many bytes are free, or none is left that may go.
async fn remove(context: &NodeContext, unused: &[Unused], policy: &ImagePolicy, wanted: u64, now: Instant) -> u64 {
    let mut freed = 0_u64;
    for image in unused.iter().filter(|image| is_old_enough(image, policy, now)) {
        if freed >= wanted {
            break;
        }
        let asked = context.clock.now();
        match context.runtime.remove_image(&image.id).await {
            Ok(()) => {
                context.pull_records.forget(&image.id, asked).await;
                tracing::info!(image = image.id, size = image.size, "unused image removed");
                freed = freed.saturating_add(image.size);
            }
            Err(error) => tracing::warn!(%error, image = image.id, "unused image not removed"),
        }
    }
    freed
}

impl Unit for ImageCollection {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        json!({"images": self.sights.len(), "bytesRemoved": self.removed})
    }
}

impl On<RemoveUnused> for ImageCollection {
    fn on(&mut self, _: RemoveUnused, _: &mut UnitContext<'_, Self>) -> Reply<u64> {
        let (context, policy, mut sights) = (self.context.clone(), self.policy.clone(), self.sights.clone());
        Reply::later(async move {
            let found = match find(&context).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "images are not looked at");
                    return 0;
                }
            };
            let now = Instant::now();
            let unused = detect(&mut sights, &found.images, &found.in_use, &policy, now);
            remove(&context, &unused, &policy, u64::MAX, now).await
        })
    }
}
