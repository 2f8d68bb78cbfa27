//! Reads a scrape back, for tests and benchmarks.

use std::collections::BTreeMap;

use thiserror::Error;

/// A line that is no sample.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} is no sample: {text}")]
pub struct NotASample {
    pub line: usize,
    pub text: String,
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
        for (at, line) in text.lines().enumerate() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap_or((declared, ""));
                samples.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                samples.all.push(sample(line).ok_or_else(|| NotASample { line: at + 1, text: line.to_owned() })?);
            }
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

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, behind) = unescaped(quoted)?;
            labels.insert(label.to_owned(), value);
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows that.
fn unescaped(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
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
