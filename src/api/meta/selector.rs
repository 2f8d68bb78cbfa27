//! Label and field selectors.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};
use thiserror::Error;

use super::label_query::{self, Operator, Parsed};
use crate::projection::Labels;

/// Why a selector does not parse.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How many requirements a selector in a query may have: each is asked of every object.
const MAX_REQUIREMENTS: usize = 1000;

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    In(String, Values),
    NotIn(String, Values),
    Exists(String),
    DoesNotExist(String),
    GreaterThan(String, i64),
    LessThan(String, i64),
}

/// The values of a requirement: sorted, each once. There may be many, and each is looked for in every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Values(Vec<String>);

impl From<Vec<String>> for Values {
    fn from(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Values(values)
    }
}

impl Values {
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }

    /// The value, where there is one only.
    fn single(&self) -> Option<&str> {
        if let [only] = self.0.as_slice() { Some(only) } else { None }
    }

    fn contains(&self, value: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(value)).is_ok()
    }
}

/// A label selector; all its requirements must hold. The default one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Selects no object at all (a nil `metav1.LabelSelector`).
    pub nothing: bool,
}

impl LabelSelector {
    pub fn everything() -> Self {
        LabelSelector::default()
    }

    pub fn nothing() -> Self {
        LabelSelector { nothing: true, ..LabelSelector::default() }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// A selector of equal labels, as a Service or ReplicationController has it.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let requirements = labels.into_iter().map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()].into())).collect();
        LabelSelector { requirements, nothing: false }
    }

    /// Parses the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let parsed = label_query::parse(text, MAX_REQUIREMENTS).map_err(SelectorError)?;
        let requirements = parsed.into_iter().map(Requirement::from).collect();
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// The value that a label must have, where the selector says so.
    pub fn required_value(&self, label: &str) -> Option<&str> {
        self.requirements.iter().find_map(|requirement| match requirement {
            Requirement::In(key, values) if key == label => values.single(),
            _ => None,
        })
    }

    /// Labels with the one value that each must have.
    pub fn required_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) => Some((key.as_str(), values.single()?)),
            _ => None,
        })
    }

    /// Matches against labels looked up by name.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(&label))
    }

    /// Matches against typed labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|name| labels.get(name).map(String::as_str))
    }

    /// Matches against the labels of an object, which may have none.
    pub fn selects(&self, meta: &ObjectMeta) -> bool {
        self.matches_with(|name| meta.labels.as_ref()?.get(name).map(String::as_str))
    }

    /// Matches against labels as a metadata projection has them.
    pub fn matches_projection(&self, labels: &Labels) -> bool {
        self.matches_with(|name| labels.get(name))
    }

    /// Matches against labels in an object tree.
    pub fn matches_tree(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|name| labels?.get(name)?.as_str())
    }
}

impl From<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector> for LabelSelector {
    /// An unknown operator selects nothing; validation rejects it before it gets here.
    fn from(selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector) -> Self {
        let labels = selector.match_labels.iter().flatten();
        let mut result = LabelSelector::from_map(labels);
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => result.requirements.push(Requirement::In(key, values.into())),
                "NotIn" => result.requirements.push(Requirement::NotIn(key, values.into())),
                "Exists" => result.requirements.push(Requirement::Exists(key)),
                "DoesNotExist" => result.requirements.push(Requirement::DoesNotExist(key)),
                _ => result.nothing = true,
            }
        }
        result
    }
}

impl From<Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>> for LabelSelector {
    /// The selector of a workload; one that has none selects nothing.
    fn from(selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>) -> Self {
        selector.map_or_else(LabelSelector::nothing, LabelSelector::from)
    }
}

impl From<Parsed> for Requirement {
    fn from(parsed: Parsed) -> Self {
        let Parsed { key, operator, values } = parsed;
        // Bounds were read as numbers before.
        let bound = values.first().and_then(|value| value.parse().ok()).unwrap_or_default();
        match operator {
            Operator::In => Requirement::In(key, values.into()),
            Operator::NotIn => Requirement::NotIn(key, values.into()),
            Operator::Exists => Requirement::Exists(key),
            Operator::DoesNotExist => Requirement::DoesNotExist(key),
            Operator::GreaterThan => Requirement::GreaterThan(key, bound),
            Operator::LessThan => Requirement::LessThan(key, bound),
        }
    }
}

impl Requirement {
    /// The label that it is about.
    pub(super) fn key(&self) -> &str {
        match self {
            Requirement::In(key, _) | Requirement::NotIn(key, _) | Requirement::Exists(key) | Requirement::DoesNotExist(key) => key,
            Requirement::GreaterThan(key, _) | Requirement::LessThan(key, _) => key,
        }
    }

    /// Matches against labels looked up by name.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let number = |key: &str| label(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Requirement::In(key, values) => label(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => label(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::DoesNotExist(key) => label(key).is_none(),
            Requirement::GreaterThan(key, bound) => number(key).is_some_and(|value| value > *bound),
            Requirement::LessThan(key, bound) => number(key).is_some_and(|value| value < *bound),
        }
    }
}

impl fmt::Display for LabelSelector {
    /// The query form, as [`LabelSelector::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nothing {
            // There is no word for it: a requirement and its opposite select nothing either.
            return f.write_str("nothing,!nothing");
        }
        for (at, requirement) in self.requirements.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::In(key, Values(values)) if values.len() == 1 => write!(f, "{key}={}", values[0]),
            Requirement::In(key, Values(values)) => write!(f, "{key} in ({})", values.join(",")),
            Requirement::NotIn(key, Values(values)) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
            Requirement::NotIn(key, Values(values)) => write!(f, "{key} notin ({})", values.join(",")),
            Requirement::Exists(key) => f.write_str(key),
            Requirement::DoesNotExist(key) => write!(f, "!{key}"),
            Requirement::GreaterThan(key, bound) => write!(f, "{key}>{bound}"),
            Requirement::LessThan(key, bound) => write!(f, "{key}<{bound}"),
        }
    }
}

/// Refuses one more requirement than there may be.
fn check_length(so_far: usize) -> Result<(), SelectorError> {
    if so_far < MAX_REQUIREMENTS {
        return Ok(());
    }
    Err(SelectorError(format!("unable to parse requirement: a selector has at most {MAX_REQUIREMENTS} requirements")))
}

/// A field selector: `path=value` and `path!=value`, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// Path, value, and whether they must be equal (`true`) or differ.
    pub terms: Vec<(String, String, bool)>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        FieldSelector::default()
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Parses `metadata.name=x,spec.nodeName!=y`; `\` escapes `,`, `=` and `\` in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_unescaped_commas(text) {
            if part.is_empty() {
                continue;
            }
            let Some((path, value, equal)) = split_term(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            check_length(terms.len())?;
            let term = (path.trim().to_owned(), unescape(value)?, equal);
            if !term.0.is_empty() || !term.1.is_empty() {
                terms.push(term);
            }
        }
        Ok(FieldSelector { terms })
    }

    /// The value that a path must equal, where the selector says so: lets reads go straight to one object.
    pub fn required_value(&self, path: &str) -> Option<&str> {
        self.terms.iter().find(|(p, _, equal)| *equal && p == path).map(|(_, value, _)| value.as_str())
    }

    /// Matches against an object's fields looked up by path; a missing field reads as "".
    pub fn matches_with(&self, field: impl Fn(&str) -> String) -> bool {
        self.terms.iter().all(|(path, value, equal)| (field(path) == *value) == *equal)
    }
}

impl fmt::Display for FieldSelector {
    /// The query form, as [`FieldSelector::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (path, value, equal)) in self.terms.iter().enumerate() {
            let (comma, sign) = (if at == 0 { "" } else { "," }, if *equal { "=" } else { "!=" });
            write!(f, "{comma}{path}{sign}")?;
            for character in value.chars() {
                if matches!(character, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
        }
        Ok(())
    }
}

fn split_unescaped_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, character) in text.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            ',' if !escaped => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => escaped = false,
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The two sides of a term at its first operator, and whether they must be equal.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let (path, value) = term.split_once('=')?;
    Some(match path.strip_suffix('!') {
        Some(path) => (path, value, false),
        None => (path, value.strip_prefix('=').unwrap_or(value), true),
    })
}

/// A value without its escapes. Only `,`, `=` and `\` are escaped, and they have to be.
fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut result = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ (',' | '=' | '\\')) => result.push(escaped),
                other => {
                    let sequence = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{sequence}")));
                }
            },
            ',' | '=' => {
                let code = u32::from(character);
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {code}")));
            }
            other => result.push(other),
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_has_a_bounded_number_of_requirements() {
        let labels = |number| (0..number).map(|at| format!("!l{at}")).collect::<Vec<_>>().join(",");
        assert!(LabelSelector::parse(&labels(MAX_REQUIREMENTS)).is_ok());
        assert!(LabelSelector::parse(&labels(MAX_REQUIREMENTS + 1)).is_err());
        assert!(FieldSelector::parse(&"a=b,".repeat(MAX_REQUIREMENTS + 1)).is_err());
    }

    #[test]
    fn values_are_found_whatever_their_order() {
        let values = (0..5000).rev().map(|at| format!("v{at}")).collect::<Vec<_>>().join(",");
        let selector = LabelSelector::parse(&format!("a in ({values})")).expect("parses");
        assert!(selector.matches(&labels(&[("a", "v17")])) && !selector.matches(&labels(&[("a", "v5000")])));
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn label_selectors_match_as_documented() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("n", "3")]);
        for (selector, want) in [
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, db),!gone", true),
            ("app notin (web)", false),
            ("missing notin (x)", true),
            ("missing!=x", true),
            ("n>2,n<4", true),
            ("n>3", false),
            ("", true),
            ("tier", true),
        ] {
            assert_eq!(LabelSelector::parse(selector).expect(selector).matches(&web), want, "{selector}");
        }
        assert!(LabelSelector::parse("a in (b").is_err());
        assert!(LabelSelector::parse("=x/y==z").is_err(), "the prefix of a key is a domain");
        assert!(LabelSelector::parse("a>b").is_err());
        let wrong = LabelSelector::parse("a in (b, -c)").expect_err("no label value");
        assert!(wrong.0.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-c\": a valid label"), "{wrong}");
        assert!(!LabelSelector::nothing().matches(&web));
    }

    #[test]
    fn a_workload_without_selector_selects_nothing_and_an_empty_one_everything() {
        let bare = ObjectMeta::default();
        let labelled = ObjectMeta { labels: Some(labels(&[("app", "web")])), ..ObjectMeta::default() };
        let empty = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector::default();
        for (selector, wanted) in [(None, false), (Some(&empty), true)] {
            let selector = LabelSelector::from(selector);
            assert_eq!((selector.selects(&bare), selector.selects(&labelled)), (wanted, wanted));
        }
        let web = LabelSelector::parse("app=web").expect("parses");
        assert!(web.selects(&labelled) && !web.selects(&bare));
    }

    #[test]
    fn selectors_read_back_as_they_are_printed() {
        for text in ["a=b,c!=d,e in (f,g),h notin (i,k),j,!k,l>1,m<2", "", "app"] {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector), "{text}");
        }
        let nothing = LabelSelector::parse(&LabelSelector::nothing().to_string()).expect("parses");
        assert!(!nothing.matches(&labels(&[("nothing", "x")])) && !nothing.matches(&labels(&[])));
        let fields = FieldSelector { terms: vec![("metadata.name".into(), r"a,b=\c".into(), true), ("spec.nodeName".into(), String::new(), false)] };
        assert_eq!(FieldSelector::parse(&fields.to_string()), Ok(fields));
    }

    #[test]
    fn field_selectors_unescape_and_compare() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b,spec.nodeName!=n1").expect("parses");
        assert_eq!(selector.required_value("metadata.name"), Some("a,b"));
        assert!(selector.matches_with(|path| if path == "metadata.name" { "a,b".into() } else { String::new() }));
        assert!(FieldSelector::parse("nonsense").is_err());
        for (text, wanted) in [
            (r"a=c\x", r"invalid field selector: invalid escape sequence: \x"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a===b", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(FieldSelector::parse(text), Err(SelectorError(wanted.to_owned())));
        }
        assert!(FieldSelector::parse("=").expect("parses").is_everything());
        assert_eq!(FieldSelector::parse("a==b").expect("parses").terms, vec![("a".into(), "b".into(), true)]);
    }
}
