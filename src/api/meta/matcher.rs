//! Selectors made ready to be asked of many objects.
//!
//! A selector may have a thousand requirements. What is asked of one label or field is put together first, so that an object costs
//! as much as it has labels, or as the selector names of them: whichever is less.

use std::collections::{BTreeMap, BTreeSet};

use super::{FieldSelector, LabelSelector, Requirement};
use crate::projection::Labels;

/// A [`LabelSelector`] made ready. Selectors that ask the same of every label are equal, however they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelMatcher {
    conditions: BTreeMap<String, Condition>,
    /// How many labels must be there.
    required: usize,
    nothing: bool,
}

/// All that is asked of one label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Condition {
    required: bool,
    absent: bool,
    among: Option<BTreeSet<String>>,
    except: BTreeSet<String>,
    above: Option<i64>,
    below: Option<i64>,
}

impl From<&LabelSelector> for LabelMatcher {
    fn from(selector: &LabelSelector) -> Self {
        let mut conditions: BTreeMap<String, Condition> = BTreeMap::new();
        for requirement in &selector.requirements {
            conditions.entry(requirement.key().to_owned()).or_default().add(requirement);
        }
        let required = conditions.values().filter(|condition| condition.required).count();
        LabelMatcher { conditions, required, nothing: selector.nothing }
    }
}

impl LabelMatcher {
    pub fn is_everything(&self) -> bool {
        self.conditions.is_empty() && !self.nothing
    }

    /// How many labels it says something of.
    pub fn len(&self) -> usize {
        self.conditions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// A label that everything which is selected has, if it asks for any: rather one of few values, at most `few`.
    pub fn required_label(&self, few: usize) -> Option<RequiredLabel<'_>> {
        let required = self.conditions.iter().filter(|(_, condition)| condition.required);
        let labels = required.map(|(name, condition)| RequiredLabel { name, values: condition.among.as_ref().filter(|among| among.len() <= few) });
        labels.min_by_key(|label| label.values.map_or(usize::MAX, BTreeSet::len))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        if self.nothing || self.required > labels.len() {
            return false;
        }
        if self.conditions.len() <= labels.len() {
            return self.conditions.iter().all(|(name, condition)| match labels.get(name) {
                Some(value) => condition.allows(value),
                None => !condition.required,
            });
        }
        let mut found = 0;
        for (name, value) in labels.iter() {
            let Some(condition) = self.conditions.get(name) else { continue };
            if !condition.allows(value) {
                return false;
            }
            found += usize::from(condition.required);
        }
        found == self.required
    }
}

impl Condition {
    fn add(&mut self, requirement: &Requirement) {
        self.required |= !matches!(requirement, Requirement::NotIn(..) | Requirement::DoesNotExist(_));
        match requirement {
            Requirement::In(_, values) => {
                let values = values.iter().filter(|value| self.among.as_ref().is_none_or(|among| among.contains(*value)));
                self.among = Some(values.cloned().collect());
            }
            Requirement::NotIn(_, values) => self.except.extend(values.iter().cloned()),
            Requirement::Exists(_) => {}
            Requirement::DoesNotExist(_) => self.absent = true,
            Requirement::GreaterThan(_, bound) => self.above = self.above.max(Some(*bound)),
            Requirement::LessThan(_, bound) => self.below = Some(self.below.map_or(*bound, |known| known.min(*bound))),
        }
    }

    /// Whether the label may have this value.
    fn allows(&self, value: &str) -> bool {
        !self.absent && self.among.as_ref().is_none_or(|among| among.contains(value)) && !self.except.contains(value) && self.is_between(value)
    }

    fn is_between(&self, value: &str) -> bool {
        if self.above.is_none() && self.below.is_none() {
            return true;
        }
        let Ok(number) = value.parse::<i64>() else { return false };
        self.above.is_none_or(|bound| number > bound) && self.below.is_none_or(|bound| number < bound)
    }
}

/// A label without which nothing is selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredLabel<'a> {
    pub name: &'a str,
    /// The values that it may have, sorted; `None` where they are not few.
    pub values: Option<&'a BTreeSet<String>>,
}

/// A [`FieldSelector`] made ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldMatcher {
    /// By path: the values it must have, which is at most one where anything is to match, and those it must not have.
    conditions: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>,
}

impl From<&FieldSelector> for FieldMatcher {
    fn from(selector: &FieldSelector) -> Self {
        let mut matcher = FieldMatcher::default();
        for (path, value, equal) in &selector.terms {
            let (equals, differs) = matcher.conditions.entry(path.clone()).or_default();
            if *equal { equals } else { differs }.insert(value.clone());
        }
        matcher
    }
}

impl FieldMatcher {
    pub fn is_everything(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The fields that must have certain values, with these.
    pub fn required_values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.conditions.iter().filter_map(|(path, (equals, _))| Some((path.as_str(), equals.first()?.as_str())))
    }

    /// The fields that are looked at.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.conditions.keys().map(String::as_str)
    }

    /// Matches against an object's fields looked up by path, each once; a missing field reads as "".
    pub fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.conditions.iter().all(|(path, (equals, differs))| {
            let value = field(path);
            equals.iter().all(|wanted| *wanted == value) && !differs.contains(&value)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn labels(pairs: &BTreeMap<String, String>) -> Labels {
        serde_json::from_value(json!(pairs)).expect("labels")
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = prop::collection::vec("[0-3a]", 0..3);
        (0..6, "[a-d]", values, 0..4_i64).prop_map(|(kind, key, values, bound)| match kind {
            0 => Requirement::In(key, values.into()),
            1 => Requirement::NotIn(key, values.into()),
            2 => Requirement::Exists(key),
            3 => Requirement::DoesNotExist(key),
            4 => Requirement::GreaterThan(key, bound),
            _ => Requirement::LessThan(key, bound),
        })
    }

    proptest! {
        #[test]
        fn a_matcher_selects_what_its_selector_does(
            requirements in prop::collection::vec(requirement(), 0..6),
            pairs in prop::collection::btree_map("[a-e]", "[0-3a]", 0..5),
            nothing in prop::bool::weighted(0.05),
        ) {
            let selector = LabelSelector { requirements, nothing };
            prop_assert_eq!(LabelMatcher::from(&selector).matches(&labels(&pairs)), selector.matches(&pairs), "{}", selector);
        }

        #[test]
        fn fields_are_matched_as_their_selector_does(
            terms in prop::collection::vec(("[ab]", "[xy]?", any::<bool>()), 0..5),
            fields in prop::collection::btree_map("[ab]", "[xy]", 0..2),
        ) {
            let selector = FieldSelector { terms };
            let field = |path: &str| fields.get(path).cloned().unwrap_or_default();
            prop_assert_eq!(FieldMatcher::from(&selector).matches(field), selector.matches_with(field), "{}", selector);
        }
    }

    #[test]
    fn a_thousand_requirements_cost_no_more_than_the_labels_there_are() {
        let object = labels(&[("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "front".to_owned())].into());
        let requirements = (0..1000).map(|at| Requirement::DoesNotExist(format!("key-{at}"))).collect();
        let selector = LabelSelector { requirements, nothing: false };
        let matcher = LabelMatcher::from(&selector);
        let one_by_one = fastest(|| assert!((0..100).all(|_| selector.matches_projection(&object))));
        let together = fastest(|| assert!((0..100).all(|_| matcher.matches(&object))));
        assert!(together * 10 < one_by_one, "{together:?}, one by one {one_by_one:?}");
    }

    /// How long work takes that nobody disturbs.
    fn fastest(work: impl Fn()) -> Duration {
        let time = |_| {
            let began = Instant::now();
            work();
            began.elapsed()
        };
        (0..10).map(time).min().expect("it was done")
    }

    #[test]
    fn what_is_selected_has_the_label_that_is_required() {
        let matcher = |text: &str| LabelMatcher::from(&LabelSelector::parse(text).expect("parses"));
        let required = |text: &str| {
            let matcher = matcher(text);
            matcher.required_label(2).map(|label| (label.name.to_owned(), label.values.map(|values| values.iter().cloned().collect::<Vec<_>>())))
        };
        let values = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
        assert_eq!(required("a,b in (x,y),c=z"), Some(("c".to_owned(), values(&["z"]))));
        assert_eq!(required("b in (x,y),!d"), Some(("b".to_owned(), values(&["x", "y"]))));
        assert_eq!(required("b in (x,y,z)"), Some(("b".to_owned(), None)));
        assert_eq!((required("a>1"), required("!a,b!=c,d notin (e)"), required("")), (Some(("a".to_owned(), None)), None, None));
        assert_eq!(matcher("a=b,c!=d"), matcher("c notin (d),a in (b)"), "who asks the same is equal");
    }

    #[test]
    fn a_field_is_looked_up_once_however_often_it_is_named() {
        let terms = (0..1000).map(|at| ("spec.nodeName".to_owned(), at.to_string(), false)).collect();
        let (matcher, asked) = (FieldMatcher::from(&FieldSelector { terms }), Cell::new(0));
        let field = |_: &str| {
            asked.set(asked.get() + 1);
            "node".to_owned()
        };
        assert!(matcher.matches(field));
        assert_eq!(asked.get(), 1);
    }
}
