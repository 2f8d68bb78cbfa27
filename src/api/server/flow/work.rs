//! How much work a request is expected to be, in seats (upstream's work estimator, KEP-1040). Pure.

use std::time::Duration;

use troupe_api::service::{ListOptions, ResourceSize, VersionMatch, WatchOptions};

/// Bytes of objects that a list holds for each of its seats.
const BYTES_PER_SEAT: usize = 100_000;
/// A list out of the cache is streamed, so it never holds more than this.
const STREAMED: usize = 1_000_000;
/// The widest list, and the widest write.
const MOST_OF_LIST: usize = 100;
const MOST_OF_WRITE: usize = 10;
/// Watchers of a write for each of its seats, and how long each such seat is busy with them. Fewer watchers are nothing.
const WATCHES_PER_SEAT: usize = 10;
const PER_EVENT: Duration = Duration::from_millis(5);

/// Of a level that has queues, the part of its seats that one request takes at most.
const WIDEST_PERCENT: usize = 15;

/// The seats of a request while it is in work, and those that its watchers keep busy afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkEstimate {
    pub initial: usize,
    pub last: usize,
    /// How long the last ones are taken behind the reply. The client does not wait for it.
    pub additional: Duration,
}

impl WorkEstimate {
    /// A request that nothing is known of.
    pub const ONE: WorkEstimate = WorkEstimate { initial: 1, last: 0, additional: Duration::ZERO };

    fn wide(initial: usize) -> Self {
        WorkEstimate { initial, ..WorkEstimate::ONE }
    }

    /// The seats that are taken from the beginning to the end.
    pub fn seats(&self) -> usize {
        self.initial.max(self.last)
    }

    /// Seat-seconds of a request that is in work for so long.
    pub fn of(&self, took: Duration) -> f64 {
        self.initial as f64 * took.as_secs_f64() + self.last as f64 * self.additional.as_secs_f64()
    }
}

/// What a request asks for, as far as its work depends on it.
#[derive(Clone, Copy, Debug)]
pub enum Asks<'a> {
    List(&'a ListOptions),
    Watch(&'a WatchOptions),
    /// A write that so many watchers hear of.
    Write(usize),
    Other,
}

/// What a request costs at a level where none is wider than `widest`. Nothing may be stored of what it asks for.
pub fn estimate(asks: Asks<'_>, stored: Option<ResourceSize>, widest: Option<usize>) -> WorkEstimate {
    let most = |limit: usize| widest.map_or(limit, |widest| widest.min(limit)).max(1);
    match asks {
        Asks::List(options) => WorkEstimate::wide(list(options, stored).clamp(1, most(MOST_OF_LIST))),
        Asks::Watch(options) if !begins_with_all(options) => WorkEstimate::ONE,
        Asks::Watch(options) => {
            let as_list = ListOptions { fields: options.fields.clone(), ..ListOptions::default() };
            WorkEstimate::wide(list(&as_list, stored).clamp(1, most(MOST_OF_LIST)))
        }
        Asks::Write(watchers) if watchers >= WATCHES_PER_SEAT => {
            let seats = watchers.div_ceil(WATCHES_PER_SEAT);
            let last = seats.min(most(MOST_OF_WRITE));
            WorkEstimate { initial: 1, last, additional: PER_EVENT.mul_f64(seats as f64 / last as f64) }
        }
        Asks::Write(_) | Asks::Other => WorkEstimate::ONE,
    }
}

/// Whether a watch tells everything that exists first.
fn begins_with_all(options: &WatchOptions) -> bool {
    options.send_initial_events == Some(true) || options.resource_version.is_none_or(|revision| revision.0 == 0)
}

/// The seats that a list would like to have.
fn list(options: &ListOptions, stored: Option<ResourceSize>) -> usize {
    let Some(ResourceSize { objects, bytes }) = stored.filter(|stored| stored.objects > 0) else { return 1 };
    if options.fields.required_value("metadata.name").is_some() {
        return (bytes / objects).div_ceil(BYTES_PER_SEAT);
    }
    let limited = if options.limit > 0 { options.limit.min(objects) } else { objects };
    // What lies in the past may be read out of the store.
    let from_cache = options.version_match != Some(VersionMatch::Exact);
    let selects = !options.labels.is_everything() || !options.fields.is_everything();
    let loaded = if selects && !from_cache { limited.max(objects / 2) } else { limited };
    let held = (bytes / objects).max(1).saturating_mul(loaded);
    if from_cache { held.min(STREAMED) } else { held }.div_ceil(BYTES_PER_SEAT)
}

/// The widest request of a level with so many seats whose flows choose among `hand` queues.
pub fn widest(nominal: usize, hand: usize) -> usize {
    nominal.saturating_mul(WIDEST_PERCENT).div_ceil(100).min(nominal / hand.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::meta::{FieldSelector, Revision};

    const PODS: Option<ResourceSize> = Some(ResourceSize { objects: 500, bytes: 2_000_000 });

    fn seats(asks: Asks<'_>, stored: Option<ResourceSize>) -> usize {
        let work = estimate(asks, stored, None);
        assert_eq!((work.last, work.additional), (0, Duration::ZERO));
        work.seats()
    }

    #[test]
    fn a_list_is_as_wide_as_what_it_holds_at_once() {
        let all = ListOptions::default();
        assert_eq!(seats(Asks::List(&all), Some(ResourceSize { objects: 20, bytes: 80_000 })), 1);
        assert_eq!(seats(Asks::List(&all), Some(ResourceSize { objects: 100, bytes: 400_000 })), 4);
        assert_eq!(seats(Asks::List(&all), PODS), 10, "it is streamed");
        assert_eq!(seats(Asks::List(&all), None), 1, "what is not stored here costs nothing here");
        let page = ListOptions { limit: 100, ..ListOptions::default() };
        assert_eq!(seats(Asks::List(&page), PODS), 4);
        let past = ListOptions { version_match: Some(VersionMatch::Exact), ..ListOptions::default() };
        assert_eq!(seats(Asks::List(&past), PODS), 20);
        assert_eq!(seats(Asks::List(&past), Some(ResourceSize { objects: 10_000, bytes: 4 << 30 })), MOST_OF_LIST);
        let one = ListOptions { fields: FieldSelector::parse("metadata.name=a").expect("a selector"), ..past };
        assert_eq!(seats(Asks::List(&one), PODS), 1);
        assert_eq!(estimate(Asks::List(&all), PODS, Some(3)).seats(), 3, "a small level has no wide requests");
        assert_eq!(estimate(Asks::List(&all), PODS, Some(0)).seats(), 1);
    }

    #[test]
    fn a_watch_costs_what_it_begins_with() {
        let from = |revision| WatchOptions { resource_version: revision, ..WatchOptions::default() };
        assert_eq!(seats(Asks::Watch(&from(Some(Revision(7)))), PODS), 1);
        assert_eq!(seats(Asks::Watch(&from(None)), PODS), 10);
        let initial = WatchOptions { send_initial_events: Some(true), ..from(Some(Revision(7))) };
        assert_eq!(seats(Asks::Watch(&initial), PODS), 10);
    }

    #[test]
    fn a_write_keeps_seats_for_those_who_hear_of_it() {
        let write = |watchers, widest| estimate(Asks::Write(watchers), PODS, widest);
        assert_eq!(write(9, None), WorkEstimate::ONE);
        assert_eq!(write(10, None), WorkEstimate { initial: 1, last: 1, additional: PER_EVENT });
        assert_eq!(write(95, None), WorkEstimate { initial: 1, last: 10, additional: PER_EVENT });
        // Narrower and longer, but as much.
        assert_eq!(write(400, None), WorkEstimate { initial: 1, last: 10, additional: PER_EVENT * 4 });
        assert_eq!(write(100, Some(2)), WorkEstimate { initial: 1, last: 2, additional: PER_EVENT * 5 });
    }

    #[test]
    fn a_level_of_many_queues_has_narrower_requests() {
        assert_eq!((widest(245, 6), widest(49, 6), widest(98, 6), widest(4, 6), widest(0, 0)), (37, 8, 15, 1, 1));
    }
}
