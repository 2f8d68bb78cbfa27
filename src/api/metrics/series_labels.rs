//! The labels of a series.

/// The labels of one series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesLabels<'a> {
    names: &'a [&'static str],
    values: &'a [Box<str>],
}

impl<'a> SeriesLabels<'a> {
    pub(super) fn new(names: &'a [&'static str], values: &'a [Box<str>]) -> Self {
        SeriesLabels { names, values }
    }

    /// The value of a label; `None` where the family has none of that name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.values.get(at).map(|value| &**value)
    }
}
