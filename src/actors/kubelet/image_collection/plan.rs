//! Which images may go, and how much has to: pure (upstream's `pkg/kubelet/images/image_gc_manager.go`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use troupe_cri::proto;

/// When images are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Percent of the disk in use from which on images are removed; 100 for never.
    pub high: u8,
    /// Percent of the disk in use down to which they are.
    pub low: u8,
    /// Images that were found more recently stay.
    pub least_age: Duration,
    /// Images that nobody used for longer go whatever room there is, once they were watched for so long; `None` for never.
    pub most_age: Option<Duration>,
    /// Names or ids of images that stay although nobody uses them.
    pub kept: Vec<String>,
}

impl Default for ImagePolicy {
    fn default() -> Self {
        ImagePolicy { high: 85, low: 80, least_age: Duration::from_secs(120), most_age: None, kept: Vec::new() }
    }
}

/// What is remembered of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// When it was seen first.
    pub found: Instant,
    /// When a container had it last.
    pub used: Option<Instant>,
}

/// An image that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    pub id: String,
    /// Bytes.
    pub size: u64,
    pub sight: Sight,
}

/// How full a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// Bytes.
    pub capacity: u64,
    pub available: u64,
}

impl Fullness {
    /// Percent in use.
    pub fn percent(self) -> u64 {
        let free = u128::from(self.available.min(self.capacity)) * 100 / u128::from(self.capacity.max(1));
        100 - u64::try_from(free).unwrap_or(100)
    }

    /// Bytes to free; `None` while there is room.
    pub fn excess(self, policy: &ImagePolicy) -> Option<u64> {
        let wanted = u128::from(self.capacity) * u128::from(100 - policy.low.min(100)) / 100;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        (policy.high < 100 && self.percent() >= u64::from(policy.high)).then(|| wanted.saturating_sub(self.available))
    }
}

/// Takes in what images there are and which of them containers have; gives the others, the longest unused first.
pub fn detect(
    sights: &mut BTreeMap<String, Sight>,
    images: &[proto::Image],
    in_use: &BTreeSet<String>,
    policy: &ImagePolicy,
    now: Instant,
) -> Vec<Unused> {
    sights.retain(|id, _| images.iter().any(|image| image.id == *id));
    let mut unused = Vec::new();
    for image in images {
        let sight = sights.entry(image.id.clone()).or_insert(Sight { found: now, used: None });
        let mut names = std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests);
        if names.any(|name| in_use.contains(name)) {
            sight.used = Some(now);
            continue;
        }
        let mut names = std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests);
        if !image.pinned && !names.any(|name| policy.kept.contains(name)) {
            unused.push(Unused { id: image.id.clone(), size: image.size, sight: *sight });
        }
    }
    unused.sort_by_key(|image| (image.sight.used, image.sight.found, image.id.clone()));
    unused
}

/// Whether an image has been here long enough to go.
pub fn is_old_enough(image: &Unused, policy: &ImagePolicy, now: Instant) -> bool {
    now.saturating_duration_since(image.sight.found) >= policy.least_age
}

/// Takes those out that nobody used for too long. Images are watched since `watched`: before that they may have been used.
pub fn take_outdated(unused: &mut Vec<Unused>, policy: &ImagePolicy, watched: Instant, now: Instant) -> Vec<Unused> {
    let is_over = |since: Instant| policy.most_age.is_some_and(|most| now.saturating_duration_since(since) > most);
    if !is_over(watched) {
        return Vec::new();
    }
    unused.extract_if(.., |image| is_over(image.sight.used.unwrap_or(image.sight.found))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tag: &str, pinned: bool) -> proto::Image {
        proto::Image { id: id.into(), repo_tags: vec![tag.into()], size: 10, pinned, ..Default::default() }
    }

    fn ids(unused: &[Unused]) -> Vec<&str> {
        unused.iter().map(|image| image.id.as_str()).collect()
    }

    #[test]
    fn room_is_made_from_the_high_mark_down_to_the_low_one() {
        let policy = ImagePolicy::default();
        let excess = |available: u64| Fullness { capacity: 1000, available }.excess(&policy);
        // Whole percents, as upstream reckons.
        assert_eq!((excess(200), excess(160), excess(159), excess(0)), (None, None, Some(41), Some(200)));
        assert_eq!((Fullness { capacity: 0, available: 0 }.percent(), Fullness { capacity: 10, available: 99 }.percent()), (100, 0));
        let never = ImagePolicy { high: 100, ..policy };
        assert_eq!(Fullness { capacity: 1000, available: 1 }.excess(&never), None);
    }

    #[test]
    fn images_in_use_pinned_and_kept_ones_stay_and_the_longest_unused_goes_first() {
        let images =
            [image("a", "a:1", false), image("b", "b:1", false), image("p", "p:1", true), image("k", "k:1", false), image("n", "n:1", false)];
        let policy = ImagePolicy { kept: vec!["k:1".into()], ..ImagePolicy::default() };
        let (mut sights, start) = (BTreeMap::new(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let in_use = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(ids(&detect(&mut sights, &images[..4], &in_use(&["a:1", "b"]), &policy, at(0))), Vec::<&str>::new());
        assert_eq!(ids(&detect(&mut sights, &images[..4], &in_use(&["b"]), &policy, at(10))), ["a"]);
        let unused = detect(&mut sights, &images, &in_use(&[]), &policy, at(20));
        assert_eq!(ids(&unused), ["n", "a", "b"], "one that was never used goes before others");
        let old: Vec<_> = unused.iter().map(|image| is_old_enough(image, &policy, at(125))).collect();
        assert_eq!(old, [false, true, true]);
        detect(&mut sights, &images[1..], &in_use(&[]), &policy, at(30));
        assert!(!sights.contains_key("a"), "what is gone is forgotten");
    }

    #[test]
    fn images_that_nobody_used_for_too_long_go_once_they_were_watched_as_long() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let unused =
            |id: &str, found: u64, used: Option<u64>| Unused { id: id.into(), size: 1, sight: Sight { found: at(found), used: used.map(at) } };
        let all = || vec![unused("old", 0, None), unused("used", 0, Some(500)), unused("new", 700, None)];
        let policy = ImagePolicy { most_age: Some(Duration::from_secs(600)), ..ImagePolicy::default() };
        let outdated = |policy: &ImagePolicy, watched, now| {
            let mut rest = all();
            let gone = take_outdated(&mut rest, policy, at(watched), at(now));
            assert_eq!(gone.len() + rest.len(), 3);
            ids(&gone).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(outdated(&policy, 0, 600), Vec::<String>::new());
        assert_eq!(outdated(&policy, 0, 601), ["old"]);
        assert_eq!(outdated(&policy, 0, 1101), ["old", "used"]);
        assert_eq!(outdated(&policy, 1000, 1101), Vec::<String>::new(), "they may have been used before");
        assert_eq!(outdated(&ImagePolicy::default(), 0, 100_000), Vec::<String>::new());
    }
}
