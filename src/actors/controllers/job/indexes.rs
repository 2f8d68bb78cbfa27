//! Sets of completion indexes, kept as intervals: `1,3-5,7`. Pure.

use std::{collections::BTreeSet, fmt};

/// Disjoint intervals in order, ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads the text form; what is at or beyond `completions`, or no number, is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let interval = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
            (0 <= first && first <= last && first < completions).then(|| (first, last.min(completions - 1)))
        };
        Indexes::of(text.split(',').filter_map(interval).collect())
    }

    /// Of intervals in any order.
    fn of(mut intervals: Vec<(i32, i32)>) -> Self {
        intervals.sort_unstable();
        let mut indexes = Indexes::default();
        for (first, last) in intervals {
            indexes.push(first, last);
        }
        indexes
    }

    /// Appends an interval that begins no earlier than the last one.
    fn push(&mut self, first: i32, last: i32) {
        match self.0.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => self.0.push((first, last)),
        }
    }

    /// With these indexes too.
    pub fn with(&self, more: &BTreeSet<i32>) -> Self {
        self.union(&Indexes(more.iter().map(|index| (*index, *index)).collect()))
    }

    pub fn union(&self, other: &Indexes) -> Self {
        Indexes::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub fn contains(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes there are.
    pub fn len(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many indexes are in both.
    pub fn common(&self, other: &Indexes) -> i32 {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = 0;
        while let (Some((first, last)), Some((from, to))) = (ours.peek(), theirs.peek()) {
            common += ((*last).min(*to) - (*first).max(*from) + 1).max(0);
            if last < to {
                ours.next()
            } else {
                theirs.next()
            };
        }
        common
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut candidate = 0;
        for (first, last) in &self.0 {
            missing.extend((candidate..(*first).min(completions)).take(count - missing.len()));
            candidate = candidate.max(last.saturating_add(1));
        }
        missing.extend((candidate..completions).take(count - missing.len()));
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}
