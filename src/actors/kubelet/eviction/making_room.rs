//! Before a pod is evicted for room on a disk, images that nobody uses make way.

use std::time::{Duration, Instant};

use super::{Eviction, signals::Met};
use crate::{kubelet::image_collection::RemoveUnused, runtime::host::UnitContext};

/// Removing images is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What was unused so short a time ago is gone already.
const AGAIN: Duration = Duration::from_secs(30);

/// When images were removed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Collection {
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl Collection {
    fn is_under_way(&self) -> bool {
        self.began.is_some_and(|began| began.elapsed() < PATIENCE && self.ended.is_none_or(|ended| ended < began))
    }

    fn is_due(&self) -> bool {
        !self.is_under_way() && self.began.is_none_or(|began| began.elapsed() > AGAIN)
    }
}

impl Eviction {
    /// Whether images are being removed now, which may help. A disk that fills faster than that is not waited for.
    pub(super) fn makes_room(&mut self, met: &Met, cx: &mut UnitContext<'_, Self>) -> bool {
        if self.readings.images_apart() && !met.signal.is_of_images() {
            return false;
        }
        if self.collection.is_due() {
            self.collection.began = Some(Instant::now());
            let (images, cause) = (self.units.images.clone(), cx.cause().clone());
            cx.spawn_then(async move { images.ask(RemoveUnused, cause).await }, |unit, freed, _| {
                unit.collection.ended = Some(Instant::now());
                tracing::info!(?freed, "unused images were removed for room on the disk");
            });
        }
        self.collection.is_under_way() && !self.outlook.urgent
    }
}
