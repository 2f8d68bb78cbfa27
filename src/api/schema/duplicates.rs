//! Fields that stand twice where no schema says what the fields are.

use std::collections::HashSet;

use super::{
    raw::Raw,
    strict::{FieldPath, PROBLEM_LIMIT, StrictProblem},
};

/// Finds the duplicate fields below a path (`spec.template`, or nothing for a whole document), innermost first.
/// No more of them join `problems` than upstream reports. The path is as it was in the end: it may be long, and is not copied.
pub fn find(path: &mut String, raw: &Raw, problems: &mut Vec<StrictProblem>) {
    Search { path, problems }.visit(raw);
}

struct Search<'a> {
    path: &'a mut String,
    problems: &'a mut Vec<StrictProblem>,
}

impl Search<'_> {
    fn visit(&mut self, raw: &Raw) {
        match raw {
            Raw::Object(fields) => {
                let mut seen = HashSet::with_capacity(fields.len());
                for (name, value) in fields {
                    let dot = if self.path.is_empty() { "" } else { "." };
                    let mark = self.enter(&[dot, name]);
                    if !seen.insert(&**name) && self.problems.len() < PROBLEM_LIMIT {
                        self.problems.push(StrictProblem::Duplicate(FieldPath::shown(self.path)));
                    }
                    self.visit(value);
                    self.path.truncate(mark);
                }
            }
            Raw::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let mark = self.enter(&["[", &index.to_string(), "]"]);
                    self.visit(item);
                    self.path.truncate(mark);
                }
            }
            _ => {}
        }
    }

    /// Extends the path; returns the length to cut back to.
    fn enter(&mut self, parts: &[&str]) -> usize {
        let mark = self.path.len();
        parts.iter().for_each(|part| self.path.push_str(part));
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Format, decode::parse};

    #[test]
    fn fields_that_stand_twice_are_found_at_any_depth() {
        let raw = parse(br#"{"a":{"x":1,"x":2},"l":[{"q":1},{"q":1,"q":2}],"b":1,"b":2}"#, Format::Json).expect("JSON");
        for (path, found) in [("", ["a.x", "l[1].q", "b"]), ("spec", ["spec.a.x", "spec.l[1].q", "spec.b"])] {
            let (mut problems, mut around) = (Vec::new(), path.to_owned());
            find(&mut around, &raw, &mut problems);
            assert_eq!(problems, found.map(|path| StrictProblem::Duplicate(FieldPath::shown(path))));
            assert_eq!(around, path);
        }
    }
}
