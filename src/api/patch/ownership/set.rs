//! Sets of field paths, in the shape of FieldsV1: a tree of path elements in their encoded form.

use std::{collections::BTreeMap, ops::ControlFlow};

use serde_json::{Map, Value};

use super::element;
use crate::schema::Node;

/// A set of paths. Elements are FieldsV1 keys: `f:spec`, `k:{"name":"web"}`, `v:"x"`, `i:0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    children: BTreeMap<Box<str>, Branch>,
}

/// An element: whether the path that ends here is in the set, and what is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Branch {
    pub member: bool,
    pub below: FieldSet,
}

impl Branch {
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// Reads FieldsV1; `None` if it is none.
    pub fn from_fields(fields: &Value) -> Option<Self> {
        let mut set = FieldSet::default();
        for (element, below) in fields.as_object()? {
            if element == "." {
                continue;
            }
            let below_map = below.as_object()?;
            let member = below_map.is_empty() || below_map.contains_key(".");
            set.children.insert(element.as_str().into(), Branch { member, below: FieldSet::from_fields(below)? });
        }
        Some(set)
    }

    /// The set of one path.
    pub fn of(path: &[&str]) -> Self {
        let mut set = FieldSet::default();
        set.insert(&path.iter().map(|element| (*element).into()).collect::<Vec<_>>());
        set
    }

    /// Writes FieldsV1.
    pub fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for (element, branch) in &self.children {
            let mut below = branch.below.to_fields();
            if let Some(map) = below.as_object_mut()
                && branch.member
                && !map.is_empty()
            {
                map.insert(".".into(), Value::Object(Map::new()));
            }
            fields.insert(element.to_string(), below);
        }
        Value::Object(fields)
    }

    pub fn is_empty(&self) -> bool {
        self.children.values().all(Branch::is_empty)
    }

    /// Adds what is below an element.
    pub(super) fn add(&mut self, element: &str, branch: Branch) {
        if branch.is_empty() {
            return;
        }
        match self.children.get_mut(element) {
            Some(mine) => {
                mine.member |= branch.member;
                mine.below.extend(&branch.below);
            }
            None => {
                self.children.insert(element.into(), branch);
            }
        }
    }

    fn insert(&mut self, path: &[Box<str>]) {
        let Some((first, rest)) = path.split_first() else { return };
        let branch = self.children.entry(first.clone()).or_default();
        if rest.is_empty() {
            branch.member = true;
        } else {
            branch.below.insert(rest);
        }
    }

    /// Whether the path of just this element is a member.
    pub fn has(&self, element: &str) -> bool {
        self.children.get(element).is_some_and(|branch| branch.member)
    }

    /// What is below an element, if anything.
    pub fn below(&self, element: &str) -> Option<&FieldSet> {
        self.children.get(element).map(|branch| &branch.below).filter(|below| !below.is_empty())
    }

    /// This set with all members of the other.
    pub fn union(mut self, other: &FieldSet) -> FieldSet {
        self.extend(other);
        self
    }

    /// Takes in all members of the other set; what is there already costs nothing.
    pub fn extend(&mut self, other: &FieldSet) {
        for (element, branch) in &other.children {
            match self.children.get_mut(element) {
                Some(mine) => {
                    mine.member |= branch.member;
                    mine.below.extend(&branch.below);
                }
                None => {
                    self.children.insert(element.clone(), branch.clone());
                }
            }
        }
    }

    /// Members of this set that are not members of the other; paths below a removed member stay.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, true)
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.combine(other, false)
    }

    /// Members whose membership in `other` is not `unwanted`.
    fn combine(&self, other: &FieldSet, unwanted: bool) -> FieldSet {
        let nothing = Branch::default();
        let mut result = FieldSet::default();
        for (element, branch) in &self.children {
            let theirs = other.children.get(element).unwrap_or(&nothing);
            let kept = Branch { member: branch.member && theirs.member != unwanted, below: branch.below.combine(&theirs.below, unwanted) };
            if !kept.is_empty() {
                result.children.insert(element.clone(), kept);
            }
        }
        result
    }

    /// Without an element and everything below it.
    pub fn without(mut self, path: &[&str]) -> FieldSet {
        if let Some((first, rest)) = path.split_first() {
            if rest.is_empty() {
                self.children.remove(*first);
            } else if let Some(branch) = self.children.get_mut(*first) {
                branch.below = std::mem::take(&mut branch.below).without(rest);
                if branch.is_empty() {
                    self.children.remove(*first);
                }
            }
        }
        self
    }

    /// Adds the struct fields that lead to members as members themselves.
    pub fn with_named_fields(&self, node: Option<&Node>) -> FieldSet {
        let mut result = FieldSet::default();
        for (element, branch) in &self.children {
            let named =
                element.strip_prefix("f:").is_some_and(|name| node.and_then(Node::as_struct).is_some_and(|holder| holder.field(name).is_some()));
            let below = branch.below.with_named_fields(node.and_then(|node| element::child_node(node, element)));
            let member = branch.member || (named && !below.is_empty());
            result.children.insert(element.clone(), Branch { member, below });
        }
        result
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.children.values().map(|branch| usize::from(branch.member) + branch.below.count()).sum()
    }

    /// The members' paths, as messages show them, until `take` has enough of them: `.spec.containers[name="web"].image`.
    pub fn each_path(&self, take: &mut dyn FnMut(String) -> ControlFlow<()>) -> ControlFlow<()> {
        self.walk("", take)
    }

    fn walk(&self, prefix: &str, take: &mut dyn FnMut(String) -> ControlFlow<()>) -> ControlFlow<()> {
        for (element, _) in self.children.iter().filter(|(_, branch)| branch.member) {
            take(format!("{prefix}{}", element::display(element)))?;
        }
        for (element, branch) in self.children.iter().filter(|(_, branch)| !branch.below.is_empty()) {
            branch.below.walk(&format!("{prefix}{}", element::display(element)), take)?;
        }
        ControlFlow::Continue(())
    }
}
