//! Reads a scrape: sample by sample, as what answers a scrape may be somebody else's, or all of it, for tests and benchmarks.

use std::{borrow::Cow, collections::BTreeMap};

use thiserror::Error;

/// A line that is no sample.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} is no sample: {text}")]
pub struct NotASample {
    pub line: usize,
    pub text: String,
}

impl NotASample {
    /// No more of a line is shown.
    const LONGEST: usize = 200;

    fn new(at: usize, line: &str) -> Self {
        NotASample { line: at + 1, text: line[..line.floor_char_boundary(Self::LONGEST)].to_owned() }
    }
}

/// The samples of a text, one at a time; nothing is kept of them.
pub fn each(text: &str) -> impl Iterator<Item = Result<Seen<'_>, NotASample>> {
    let samples = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    samples.map(|(at, line)| Seen::read(line).ok_or_else(|| NotASample::new(at, line)))
}

/// A sample where it stands in its text.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub name: &'a str,
    /// What is between the braces.
    labels: &'a str,
    pub value: f64,
}

impl<'a> Seen<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => {
                let mut labels = Labels(inside);
                while !labels.0.starts_with('}') {
                    labels.one()?;
                }
                (&inside[..inside.len() - labels.0.len()], &labels.0[1..])
            }
            None => ("", rest),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Seen { name, labels, value })
    }

    /// Its labels, in their order.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> + use<'a> {
        let mut labels = Labels(self.labels);
        std::iter::from_fn(move || labels.one())
    }
}

/// What is left of the labels of a line.
struct Labels<'a>(&'a str);

impl<'a> Labels<'a> {
    /// Takes one.
    fn one(&mut self) -> Option<(&'a str, Cow<'a, str>)> {
        let (label, quoted) = self.0.split_once("=\"")?;
        let (value, behind) = unescaped(quoted)?;
        self.0 = behind.strip_prefix(',').unwrap_or(behind);
        Some((label, value))
    }
}

/// One value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    pub all: Vec<Sample>,
    /// The kind of each family by its name.
    pub types: BTreeMap<String, String>,
}

impl Samples {
    /// # Errors
    /// On the first line that is neither a comment nor a sample.
    pub fn parse(text: &str) -> Result<Self, NotASample> {
        let mut samples = Samples::default();
        for declared in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = declared.split_once(' ').unwrap_or((declared, ""));
            samples.types.insert(name.to_owned(), kind.to_owned());
        }
        for seen in each(text) {
            let seen = seen?;
            let labels = seen.labels().map(|(label, value)| (label.to_owned(), value.into_owned()));
            samples.all.push(Sample { name: seen.name.to_owned(), labels: labels.collect(), value: seen.value });
        }
        Ok(samples)
    }

    /// The samples of a name that have all these labels.
    pub fn select<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        let fits = |sample: &Sample| labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value));
        self.all.iter().filter(move |sample| sample.name == name && fits(sample))
    }

    /// The sum over [`Self::select`]; `None` when nothing fits.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.select(name, labels).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }
}

/// A label's value up to its closing quote, and what follows that.
fn unescaped(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = quoted.find(['"', '\\'])?;
    if quoted[end..].starts_with('"') {
        return Some((quoted[..end].into(), &quoted[end + 1..]));
    }
    let mut value = quoted[..end].to_owned();
    let mut characters = quoted[end..].char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value.into(), &quoted[end + at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_with_their_labels_and_types() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"1,2\",y=\"q\\\"}\\n\"} 3\na{x=\"2\",y=\"\"} 4e-05\nb +Inf\n";
        let samples = Samples::parse(text).expect("parses");
        assert_eq!(samples.types["a"], "counter");
        assert_eq!(samples.value("a", &[("x", "1,2"), ("y", "q\"}\n")]), Some(3.0));
        assert_eq!(samples.value("a", &[]), Some(3.00004));
        assert_eq!(samples.value("b", &[]), Some(f64::INFINITY));
        assert_eq!(samples.value("c", &[]), None);
        assert!(Samples::parse("a{x=1} 2").is_err());
    }
}
