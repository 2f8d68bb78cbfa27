//! One pass of rules over an object.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value};

use super::{MOST_PER_OBJECT, MOST_PER_RULE, Place, Rule, correlation::Correlation};
use crate::{
    expressions::{Declaration, Fault, Meter, Program, Val, from_json, object_from_json},
    status::{FieldError, FieldErrorKind},
};

/// The longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 << 10;
/// Warnings about what stays wrong.
const MOST_TOLERATED: usize = 20;
/// Errors that are told of one object.
const MOST_ERRORS: usize = 200;

/// What is looked at: the object itself, or something in it.
#[derive(Clone, Copy)]
enum Held<'a> {
    Object(&'a Map<String, Value>),
    Value(&'a Value),
}

impl<'a> Held<'a> {
    fn fields(self) -> Option<&'a Map<String, Value>> {
        match self {
            Held::Object(fields) => Some(fields),
            Held::Value(value) => value.as_object(),
        }
    }

    fn entries(self) -> Option<&'a [Value]> {
        match self {
            Held::Object(_) => None,
            Held::Value(value) => value.as_array().map(Vec::as_slice),
        }
    }

    fn val(self, declaration: &'a Declaration) -> Result<Val<'a>, Fault> {
        match self {
            Held::Object(fields) => object_from_json(fields, declaration),
            Held::Value(value) => from_json(value, declaration),
        }
    }
}

/// What the rules say of an object.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Everything that is wrong.
    pub errors: Vec<FieldError>,
    /// What is wrong and stays so, since nothing changed there.
    pub tolerated: Vec<FieldError>,
}

/// What the rules say of an object. `meter` makes one of what a rule may cost.
pub(super) fn check(root: &Place, object: &Map<String, Value>, old: Option<&Map<String, Value>>, meter: fn(u64) -> Meter) -> Judgement {
    let mut walk = Walk { path: String::new(), meter: meter(MOST_PER_RULE), budget: MOST_PER_OBJECT, errors: Vec::new(), tolerated: Vec::new() };
    // The budget is spent: nothing more to say.
    let _ = walk.place(root, Held::Object(object), old.map(Held::Object), Correlation::root(object, old));
    Judgement { errors: walk.errors, tolerated: walk.tolerated }
}

/// What is wrong with a value, of which nobody says what it stands for in an old object; and what of `budget` is left.
pub(super) fn check_value(place: &Place, value: &Value, old: Option<&Value>, budget: u64) -> (Vec<FieldError>, u64) {
    let mut walk = Walk { path: String::new(), meter: Meter::new(MOST_PER_RULE), budget, errors: Vec::new(), tolerated: Vec::new() };
    // The budget is spent: nothing more to say.
    let _ = walk.place(place, Held::Value(value), old.map(Held::Value), Correlation::default());
    (walk.errors, walk.budget)
}

struct Walk {
    path: String,
    meter: Meter,
    budget: u64,
    errors: Vec<FieldError>,
    tolerated: Vec<FieldError>,
}

/// No further rules are checked.
struct Ended;

type Walked = Result<(), Ended>;

impl Walk {
    fn place<'a>(&mut self, place: &'a Place, value: Held<'a>, old: Option<Held<'a>>, correlation: Correlation<'a>) -> Walked {
        if matches!(value, Held::Value(Value::Null)) {
            return Ok(());
        }
        if self.errors.len() >= MOST_ERRORS {
            return Err(Ended);
        }
        let old = old.filter(|old| !matches!(old, Held::Value(Value::Null)));
        self.rules(place, value, old, correlation)?;
        for all in &place.all {
            self.place(all, value, old, correlation.within_all_of())?;
        }
        if let Some(entries) = value.entries() {
            return self.list(place, entries, old.and_then(Held::entries), correlation);
        }
        match value.fields() {
            Some(fields) => self.object(place, fields, old.and_then(Held::fields), correlation),
            None => Ok(()),
        }
    }

    fn object<'a>(
        &mut self,
        place: &'a Place,
        fields: &'a Map<String, Value>,
        old: Option<&'a Map<String, Value>>,
        correlation: Correlation<'a>,
    ) -> Walked {
        if place.values.is_none() && place.properties.is_empty() {
            return Ok(());
        }
        for (name, value) in fields {
            let before = old.and_then(|old| old.get(name)).map(Held::Value);
            if let Some(values) = &place.values {
                let mark = self.enter(&format!("[{name}]"));
                self.place(values, Held::Value(value), before, correlation.key(name))?;
                self.path.truncate(mark);
            }
            if let Ok(at) = place.properties.binary_search_by(|(known, _)| (**known).cmp(name)) {
                let separator = if self.path.is_empty() { "" } else { "." };
                let mark = self.enter(&format!("{separator}{name}"));
                self.place(&place.properties[at].1, Held::Value(value), before, correlation.key(name))?;
                self.path.truncate(mark);
            }
        }
        Ok(())
    }

    fn list<'a>(&mut self, place: &'a Place, entries: &'a [Value], old: Option<&'a [Value]>, correlation: Correlation<'a>) -> Walked {
        let Some(items) = &place.items else { return Ok(()) };
        let known = by_keys(place, old.unwrap_or_default());
        for (index, entry) in entries.iter().enumerate() {
            let before = place.keys.as_ref().and_then(|keys| known.get(&identity(keys, entry)?).copied());
            let mark = self.enter(&format!("[{index}]"));
            self.place(items, Held::Value(entry), before.map(Held::Value), correlation.entry(entry, before))?;
            self.path.truncate(mark);
        }
        Ok(())
    }

    /// Extends the path; returns the length to cut back to.
    fn enter(&mut self, step: &str) -> usize {
        let mark = self.path.len();
        self.path.push_str(step);
        mark
    }

    fn rules<'a>(&mut self, place: &'a Place, value: Held<'a>, old: Option<Held<'a>>, correlation: Correlation<'a>) -> Walked {
        let Some(declaration) = place.declaration.as_ref().filter(|_| !place.rules.is_empty()) else { return Ok(()) };
        for rule in &place.rules {
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.invalid(place, format!("rule compile error: {why}"));
                    continue;
                }
            };
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let variables = variables(rule, declaration, value, old).map_err(|fault| {
                self.invalid(place, format!("{} evaluating rule: {}", fault.text(), rule.shown));
                Ended
            })?;
            match self.evaluate(program, &variables) {
                Ok(Val::Bool(true)) => {}
                Ok(_) => self.failed(place, rule, value, &variables, correlation)?,
                Err(Spent::Fault(fault)) => self.faulty(place, rule, &fault)?,
                Err(Spent::Budget) => {
                    self.invalid(place, "validation failed due to running out of cost budget, no further validation rules will be run".to_owned());
                    return Err(Ended);
                }
            }
        }
        Ok(())
    }

    fn evaluate<'a>(&mut self, program: &'a Program, variables: &[Option<Val<'a>>]) -> Result<Val<'a>, Spent> {
        if self.budget == 0 {
            return Err(Spent::Budget);
        }
        self.meter.begin();
        let result = program.evaluate(variables, &mut self.meter);
        if matches!(result, Err(Fault::Limit)) {
            return Err(Spent::Fault(Fault::Limit));
        }
        self.budget = self.budget.checked_sub(self.meter.spent()).ok_or(Spent::Budget)?;
        result.map_err(Spent::Fault)
    }

    fn place_path(&self) -> String {
        if self.path.is_empty() { "<nil>".to_owned() } else { self.path.clone() }
    }

    /// An error that shows the type of the place.
    fn invalid(&mut self, place: &Place, detail: String) {
        self.errors.push(FieldError::invalid(self.place_path(), &*place.kind, detail));
    }

    fn faulty(&mut self, place: &Place, rule: &Rule, fault: &Fault) -> Walked {
        let (text, shown) = (fault.text(), &rule.shown);
        if *fault == Fault::Limit {
            self.invalid(place, format!("'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"));
            return Err(Ended);
        }
        self.invalid(
            place,
            if text.starts_with("no such overload") {
                format!("'{text}': call arguments did not match a supported operator, function or macro signature for rule: {shown}")
            } else {
                format!("{text} evaluating rule: {shown}")
            },
        );
        Ok(())
    }

    /// Tells of a rule that does not hold; as a warning where nothing changed since it held, or was not there.
    fn failed<'a>(
        &mut self,
        place: &'a Place,
        rule: &'a Rule,
        value: Held<'a>,
        variables: &[Option<Val<'a>>],
        correlation: Correlation<'a>,
    ) -> Walked {
        let path = match (self.path.is_empty(), rule.field_path.is_empty()) {
            (_, true) => self.place_path(),
            (true, false) => rule.field_path.to_string(),
            (false, false) => format!("{}.{}", self.path, rule.field_path),
        };
        let is_told = rule.uses_old || !correlation.is_unchanged();
        let made = rule.message_program.as_ref().map(|program| self.message(program, rule, variables)).transpose();
        let made = match made {
            Ok(made) => made.flatten(),
            Err(detail) => {
                self.tell(is_told, FieldError::invalid(path, &*place.kind, detail));
                return Err(Ended);
            }
        };
        let fallback = || if rule.message.is_empty() { format!("failed rule: {}", rule.shown) } else { rule.message.to_string() };
        let detail = made.unwrap_or_else(fallback);
        let shown = match value {
            Held::Value(value) if !matches!(&*place.kind, "object" | "array") => Some(value.to_string()),
            _ => None,
        };
        let error = match rule.reason {
            FieldErrorKind::Forbidden => FieldError::forbidden(path, detail),
            FieldErrorKind::Required => FieldError::required(path, detail),
            FieldErrorKind::Duplicate => FieldError { kind: FieldErrorKind::Duplicate, field: path, value: shown, detail: String::new() },
            kind => FieldError { kind, field: path, value: shown, detail },
        };
        self.tell(is_told, error);
        Ok(())
    }

    fn tell(&mut self, is_told: bool, error: FieldError) {
        if is_told {
            self.errors.push(error);
        } else if self.tolerated.len() < MOST_TOLERATED {
            self.tolerated.push(error);
        }
    }

    /// The message that an expression makes; `None` where it makes none that can be shown.
    fn message<'a>(&mut self, program: &'a Program, rule: &'a Rule, variables: &[Option<Val<'a>>]) -> Result<Option<String>, String> {
        match self.evaluate(program, variables) {
            Ok(Val::String(text)) => {
                let text = text.trim();
                Ok((!text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n')).then(|| text.to_owned()))
            }
            Err(Spent::Budget) => {
                Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned())
            }
            Err(Spent::Fault(Fault::Limit)) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                rule.message_expression
            )),
            Ok(_) | Err(Spent::Fault(_)) => Ok(None),
        }
    }
}

/// Why there is no value.
enum Spent {
    Fault(Fault),
    /// The budget of the whole object.
    Budget,
}

/// `self` and `oldSelf`.
fn variables<'a>(rule: &Rule, declaration: &'a Arc<Declaration>, value: Held<'a>, old: Option<Held<'a>>) -> Result<[Option<Val<'a>>; 2], Fault> {
    let current = value.val(declaration)?;
    let before = old.map(|old| old.val(declaration)).transpose()?;
    let before = match (before, rule.optional_old) {
        (Some(before), true) => Some(Val::some(before)),
        (None, true) => Some(Val::Optional(None)),
        (before, false) => before,
    };
    Ok([Some(current), before])
}

/// The values of the keys of an entry, as one text.
fn identity(keys: &[Box<str>], entry: &Value) -> Option<String> {
    let fields = entry.as_object()?;
    Some(keys.iter().map(|key| fields.get(&**key).unwrap_or(&Value::Null).to_string()).collect::<Vec<_>>().join("\u{0}"))
}

fn by_keys<'a>(place: &Place, entries: &'a [Value]) -> HashMap<String, &'a Value> {
    let Some(keys) = &place.keys else { return HashMap::new() };
    entries.iter().filter_map(|entry| Some((identity(keys, entry)?, entry))).collect()
}
