//! CPUs by their numbers, as the kernel and configurations list them: `0-2,7`.

use std::{collections::BTreeSet, fmt};

/// A set of CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(pub BTreeSet<u32>);

impl CpuSet {
    /// Reads `0-2,7`.
    ///
    /// # Errors
    /// In Go's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let text = text.trim();
            text.parse::<u32>().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
        };
        let mut all = BTreeSet::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            match part.split_once('-') {
                None => drop(all.insert(number(part)?)),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("invalid range {part:?} ({first} > {last})"));
                    }
                    // No machine has more.
                    if last > 1 << 16 {
                        return Err(format!("invalid range {part:?}"));
                    }
                    all.extend(first..=last);
                }
            }
        }
        Ok(CpuSet(all))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// In ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    pub fn union(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 | &other.0)
    }

    pub fn intersection(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 & &other.0)
    }

    pub fn difference(&self, other: &CpuSet) -> CpuSet {
        CpuSet(&self.0 - &other.0)
    }

    pub fn is_subset(&self, other: &CpuSet) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(cpus: T) -> Self {
        CpuSet(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_written_as_the_kernel_does() {
        for text in ["", "3", "0-1", "0-2,5", "0,2,4-6,9"] {
            assert_eq!(CpuSet::parse(text).map(|set| set.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(CpuSet::parse("5,1,0-2").map(|set| set.to_string()), Ok("0-2,5".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(cpus in proptest::collection::btree_set(0_u32..200, 0..40)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(CpuSet::parse(&set.to_string()), Ok(set));
        }
    }
}
