//! What watchers get of a resource's changes.

use troupe_api::service::WatchItem;

use super::Change;

/// Something for one watcher.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// What the watch shows.
    Item(WatchItem),
    /// A change of an object that lies in the store in another version than the watch shows: it has to be converted before anybody can
    /// say what the watch shows of it.
    Change(Change),
}
