//! YAML as upstream reads it, event by event: what a document costs is counted while it is read, and so is what its aliases
//! stand for.
//!
//! A tree is built without recursion. Plain scalars are resolved as Go's library does it (`yes` is true, `0o17` is 15).
//! Of keys that stand twice the last counts, whether they are written or come from `<<`; strict readers are told of them.

mod emit;
mod escapes;
mod scalar;
mod syntax;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap};

pub use emit::to_yaml;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError};

use super::{
    raw::{Raw, field_cost, item_cost},
    strict::{FieldPath, PROBLEM_LIMIT, StrictProblem},
};
use crate::meta::limits::{self, Excess, MAX_DEPTH, Meter};

/// Why a text is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum YamlError {
    #[error("yaml: {0}")]
    Syntax(String),
    #[error("yaml: {0}")]
    Excess(#[from] Excess),
    /// It is YAML, but there is no JSON for it.
    #[error("{0}")]
    NoJson(String),
}

/// Why a text was not read to its end.
enum Stop {
    Scan(Box<ScanError>),
    Refused(YamlError),
}

impl From<YamlError> for Stop {
    fn from(error: YamlError) -> Self {
        Stop::Refused(error)
    }
}

/// The first document of a text, null if there is none, and the keys that stand twice in it.
pub(super) fn parse(bytes: &[u8], meter: &mut Meter) -> Result<(Raw, Vec<StrictProblem>), YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| YamlError::Syntax(syntax::of_bytes(bytes, error).to_owned()))?;
    let fresh = meter.clone();
    let mut text = Cow::Borrowed(text);
    let mut rereads = escapes::rereads(text.len());
    loop {
        let error = match read(&text, meter) {
            Ok(read) => return Ok(read),
            Err(Stop::Refused(error)) => return Err(error),
            Err(Stop::Scan(error)) => error,
        };
        let Some(mended) = escapes::without_escaped_apostrophes(&text, &error).filter(|_| rereads > 0) else {
            return Err(YamlError::Syntax(syntax::describe(&text, &error)));
        };
        text = Cow::Owned(mended);
        rereads -= 1;
        *meter = fresh.clone();
    }
}

/// The same by the rules of our parser alone.
fn read(text: &str, meter: &mut Meter) -> Result<(Raw, Vec<StrictProblem>), Stop> {
    let mut builder = Builder { meter, open: Vec::new(), anchors: HashMap::new(), line: 0, repeated: Vec::new() };
    for event in Parser::new_from_str_with_options(text, options()) {
        let (event, span) = event.map_err(|error| Stop::Scan(Box::new(error)))?;
        builder.line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        if matches!(event, Event::Scalar(_, ScalarStyle::DoubleQuoted, ..)) {
            let written = span.slice(text).unwrap_or_default();
            escapes::check(written, span.start.line()).map_err(YamlError::Syntax)?;
        }
        if let Some(document) = builder.take(event)? {
            return Ok((document, builder.problems()));
        }
    }
    Ok((Raw::Null, Vec::new()))
}

fn options() -> Options {
    let mut options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH + 1, block_nesting_limit: MAX_DEPTH + 1 };
    options.set_emit_comments(false);
    options
}

/// Lists and objects that are not complete yet, outermost first.
struct Builder<'m> {
    meter: &'m mut Meter,
    open: Vec<Open>,
    /// What aliases may refer to.
    anchors: HashMap<usize, Anchored>,
    /// Where the event stands that is at hand, from 1.
    line: u32,
    /// The keys that stood in their object already, as messages show them, with the lines of their values.
    repeated: Vec<(u32, String)>,
}

/// A list or an object that is being read.
struct Open {
    content: Content,
    /// 0 for none.
    anchor: usize,
    /// Where it begins.
    line: u32,
}

enum Content {
    List(Vec<Raw>),
    Object {
        fields: Vec<(String, Raw)>,
        /// Beside each field where its value stands.
        places: Vec<Place>,
        /// The name of the field whose value comes next.
        name: Option<Name>,
    },
}

enum Name {
    Field { text: String, is_text: bool },
    Merge,
}

/// Where a field's value stands, and whether its name is written as text or as something else, such as a number.
#[derive(Clone, Copy)]
struct Place {
    line: u32,
    is_text: bool,
}

struct Anchored {
    value: Raw,
    cost: usize,
    depth: usize,
}

impl Builder<'_> {
    /// Takes an event; the document if that completes it.
    fn take(&mut self, event: Event<'_>) -> Result<Option<Raw>, YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let resolved = scalar::resolve(&text, style, tag.as_deref()).map_err(YamlError::Syntax)?;
                self.scalar(resolved, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Content::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.begin(Content::Object { fields: Vec::new(), places: Vec::new(), name: None }, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor),
            _ => Ok(None),
        }
    }

    fn scalar(&mut self, scalar: scalar::Scalar, anchor: usize) -> Result<Option<Raw>, YamlError> {
        if let Some(Open { content: Content::Object { name: name @ None, .. }, .. }) = self.open.last_mut() {
            *name = Some(match scalar {
                scalar::Scalar::Merge => Name::Merge,
                scalar => {
                    let text = scalar.field_name()?;
                    let is_text = matches!(scalar, scalar::Scalar::Value(Raw::String(_)));
                    if anchor != 0 {
                        let value = scalar.into_raw()?;
                        self.meter.charge(limits::TEXT + text.len())?;
                        self.anchors.insert(anchor, Anchored { cost: cost_of(&value), value, depth: 0 });
                    }
                    Name::Field { text, is_text }
                }
            });
            return Ok(None);
        }
        let value = scalar.into_raw()?;
        self.meter.charge(cost_of(&value))?;
        self.complete(value, anchor, self.line)
    }

    fn begin(&mut self, content: Content, anchor: usize) -> Result<Option<Raw>, YamlError> {
        if self.expects_name() {
            return Err(YamlError::Syntax("invalid map key: field names must be scalars".into()));
        }
        self.meter.open()?;
        self.open.push(Open { content, anchor, line: self.line });
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Raw>, YamlError> {
        let Some(Open { content, anchor, line }) = self.open.pop() else { return Ok(None) };
        self.meter.close();
        let value = match content {
            Content::List(items) => Raw::List(items),
            Content::Object { fields, places, .. } => Raw::Object(self.without_repeated(fields, &places)),
        };
        self.complete(value, anchor, line)
    }

    /// Puts a value where it belongs, and where aliases find it.
    fn complete(&mut self, value: Raw, anchor: usize, line: u32) -> Result<Option<Raw>, YamlError> {
        if anchor != 0 {
            let (cost, depth) = (cost_of(&value), depth_of(&value));
            if cost + limits::OBJECT > self.meter.left() {
                return Err(self.meter.refuse(Excess::Aliasing).into());
            }
            self.meter.charge(cost)?;
            self.anchors.insert(anchor, Anchored { value: value.clone(), cost, depth });
        }
        self.place(value, line)
    }

    fn place(&mut self, value: Raw, line: u32) -> Result<Option<Raw>, YamlError> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => return Ok(Some(value)),
            Some(Content::List(items)) => {
                self.meter.charge(item_cost(&value))?;
                items.push(value);
            }
            Some(Content::Object { fields, places, name }) => match name.take() {
                Some(Name::Field { text, is_text }) => {
                    self.meter.charge(field_cost(fields.len(), &text))?;
                    fields.push((text, value));
                    places.push(Place { line, is_text });
                }
                Some(Name::Merge) => {
                    bring_in(fields, value)?;
                    places.resize(fields.len(), Place { line, is_text: true });
                }
                None => return Err(YamlError::Syntax("a value without a field name".into())),
            },
        }
        Ok(None)
    }

    /// Puts a copy of what an anchor names here.
    fn alias(&mut self, anchor: usize) -> Result<Option<Raw>, YamlError> {
        let Some(Anchored { value, cost, depth }) = self.anchors.get(&anchor) else {
            return Err(YamlError::Syntax("an anchor's value contains itself".into()));
        };
        if self.open.len() + depth > MAX_DEPTH {
            return Err(self.meter.refuse(Excess::Depth).into());
        }
        if *cost + limits::OBJECT > self.meter.left() {
            return Err(self.meter.refuse(Excess::Aliasing).into());
        }
        let (value, cost) = (value.clone(), *cost);
        self.meter.charge(cost)?;
        if self.expects_name() {
            return self.scalar(scalar::Scalar::Value(value), 0);
        }
        self.place(value, self.line)
    }

    /// The fields, each once, with its last value; what stood there before is noted.
    fn without_repeated(&mut self, fields: Vec<(String, Raw)>, places: &[Place]) -> Vec<(String, Raw)> {
        let mut by_name: Vec<usize> = (0..fields.len()).collect();
        by_name.sort_unstable_by_key(|at| (&fields[*at].0, *at));
        let mut replaced: Vec<usize> = Vec::new();
        for pair in by_name.windows(2) {
            if fields[pair[0]].0 == fields[pair[1]].0 {
                replaced.push(pair[0]);
                self.note(&fields[pair[1]].0, places[pair[1]]);
            }
        }
        if replaced.is_empty() {
            return fields;
        }
        replaced.sort_unstable();
        let kept = fields.into_iter().enumerate().filter(|(at, _)| replaced.binary_search(at).is_err());
        kept.map(|(_, field)| field).collect()
    }

    fn note(&mut self, name: &str, Place { line, is_text }: Place) {
        if self.repeated.len() < PROBLEM_LIMIT {
            let FieldPath(name) = FieldPath::shown(name);
            self.repeated.push((line, if is_text { format!("{name:?}") } else { name }));
        }
    }

    /// The keys that stood twice, from the top to the bottom of the text.
    fn problems(self) -> Vec<StrictProblem> {
        let mut repeated = self.repeated;
        repeated.sort_by_key(|(line, _)| *line);
        repeated.into_iter().map(|(line, key)| StrictProblem::Repeated { line, key }).collect()
    }

    fn expects_name(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Object { name: None, .. }, .. }))
    }
}

/// Adds what `<<` brings in: the fields of an object, or of several, of which the first counts.
fn bring_in(fields: &mut Vec<(String, Raw)>, value: Raw) -> Result<(), YamlError> {
    let sources = if let Raw::List(items) = value { items } else { vec![value] };
    for source in sources.into_iter().rev() {
        let Raw::Object(source) = source else { return Err(YamlError::Syntax("map merge requires map or sequence of maps as the value".into())) };
        fields.extend(source);
    }
    Ok(())
}

/// What a copy of a value costs.
fn cost_of(value: &Raw) -> usize {
    match value {
        Raw::Null | Raw::Bool(_) | Raw::Number(_) => 0,
        Raw::String(text) => limits::TEXT + text.len(),
        Raw::List(items) => items.iter().map(|item| item_cost(item) + cost_of(item)).sum(),
        Raw::Object(fields) => fields.iter().enumerate().map(|(before, (name, value))| field_cost(before, name) + cost_of(value)).sum(),
    }
}

fn depth_of(value: &Raw) -> usize {
    match value {
        Raw::List(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Raw::Object(fields) => 1 + fields.iter().map(|(_, value)| depth_of(value)).max().unwrap_or(0),
        _ => 0,
    }
}
