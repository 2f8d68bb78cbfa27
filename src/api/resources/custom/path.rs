//! JSON paths as printer columns, selectable fields and scales have them: `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// A path, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    Index(i64),
    /// `[from:to:step]` of a list.
    Slice(Slice),
    /// `[0,1]`: where each of them leads.
    Union(Vec<Step>),
    All,
    /// `..`: everything below.
    Descend,
    Filter {
        path: Path,
        condition: Option<(Operator, Value)>,
    },
}

/// A part of a list; negative places count from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    step: Option<i64>,
}

impl Slice {
    /// `-1:`, `0:2` or `::2`.
    fn parse(text: &str) -> Option<Slice> {
        let mut parts = text.split(':').map(|part| if part.is_empty() { Some(None) } else { part.parse().ok().map(Some) });
        let (from, to, step) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(None))?);
        parts.next().is_none().then_some(Slice { from, to, step })
    }

    /// The items that it means; none where it reaches beyond the list, as upstream.
    fn of<'a>(&self, list: &'a [Value]) -> impl Iterator<Item = &'a Value> + use<'a> {
        let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
        let place = |place: i64| if place < 0 { place.saturating_add(length) } else { place };
        let (from, to) = (place(self.from.unwrap_or(0)), place(self.to.unwrap_or(length)));
        let within = usize::try_from(from).ok().zip(usize::try_from(to).ok()).and_then(|(from, to)| list.get(from..to));
        let step = usize::try_from(self.step.unwrap_or(1)).unwrap_or(0);
        let items = if step == 0 { None } else { within };
        items.unwrap_or_default().iter().step_by(step.max(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Values that a path leads to at most: the first one counts.
const MOST_FOUND: usize = 256;
/// Values that are looked at on the way, those in filters too: what a path of so many steps cannot find it does not find.
const MOST_VISITED: usize = 4096;
/// Filters within filters.
const MOST_NESTED: usize = 8;

impl Path {
    /// Reads a path that begins with a dot or a bracket; `None` where it is none, or has filters within more than eight others.
    pub fn parse(text: &str) -> Option<Path> {
        Path::nested(text, MOST_NESTED)
    }

    fn nested(text: &str, nesting: usize) -> Option<Path> {
        let (mut steps, mut rest) = (Vec::new(), text.trim());
        while !rest.is_empty() {
            if let Some(below) = rest.strip_prefix("..") {
                steps.push(Step::Descend);
                rest = below;
                if !below.starts_with('[') {
                    rest = field(below, &mut steps)?;
                }
            } else if let Some(below) = rest.strip_prefix('.') {
                // A lone dot is the object itself.
                rest = if below.is_empty() || below.starts_with('[') { below } else { field(below, &mut steps)? };
            } else {
                let end = closing(rest)?;
                steps.push(bracket(&rest[1..end], nesting)?);
                rest = &rest[end + 1..];
            }
        }
        // Each definition has some, for as long as it is there.
        steps.shrink_to_fit();
        Some(Path(steps))
    }

    /// The names of a path that has nothing else.
    pub fn names(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| matches!(step, Step::Field(_));
        self.0.iter().all(name).then(|| self.0.iter().filter_map(|step| if let Step::Field(name) = step { Some(&**name) } else { None }).collect())
    }

    /// The first value that the path leads to.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.first_within(value, &mut Budget::default())
    }

    /// The same for one of several paths that share a budget.
    pub fn first_within<'a>(&self, value: &'a Value, budget: &mut Budget) -> Option<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next, budget);
                if next.len() >= MOST_FOUND {
                    break;
                }
            }
            found = next;
        }
        found.into_iter().next()
    }
}

/// How many more values may be looked at.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Budget(MOST_VISITED)
    }
}

impl Budget {
    /// For all paths of one row of a table together.
    pub fn of_row() -> Self {
        Budget(8 * MOST_VISITED)
    }

    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, next: &mut Vec<&'a Value>, budget: &mut Budget) {
        if !budget.take() {
            return;
        }
        match self {
            Step::Field(name) => next.extend(value.get(&**name)),
            Step::Index(index) => {
                let list = value.as_array().map_or(&[][..], Vec::as_slice);
                let at = usize::try_from(*index).ok().or_else(|| list.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?));
                next.extend(at.and_then(|at| list.get(at)));
            }
            Step::Slice(slice) => next.extend(slice.of(value.as_array().map_or(&[][..], Vec::as_slice)).take(MOST_FOUND)),
            Step::Union(steps) => {
                for step in steps {
                    if next.len() < MOST_FOUND {
                        step.follow(value, next, budget);
                    }
                }
            }
            Step::All => next.extend(each(value).take(MOST_FOUND)),
            Step::Descend => {
                if next.len() < MOST_FOUND {
                    next.push(value);
                    each(value).for_each(|inner| self.follow(inner, next, budget));
                }
            }
            Step::Filter { path, condition } => {
                let mut inner = each(value);
                while next.len() < MOST_FOUND
                    && budget.take()
                    && let Some(inner) = inner.next()
                {
                    if holds(inner, path, condition.as_ref(), budget) {
                        next.push(inner);
                    }
                }
            }
        }
    }
}

fn each(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn holds(value: &Value, path: &Path, condition: Option<&(Operator, Value)>, budget: &mut Budget) -> bool {
    let Some(found) = path.first_within(value, budget) else { return false };
    let Some((operator, wanted)) = condition else { return true };
    let order = match (found, wanted) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match operator {
        Operator::Equal => order.map_or(found == wanted, |order| order.is_eq()),
        Operator::NotEqual => order.map_or(found != wanted, |order| order.is_ne()),
        Operator::Less => order.is_some_and(|order| order.is_lt()),
        Operator::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Operator::Greater => order.is_some_and(|order| order.is_gt()),
        Operator::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

/// A name up to the next dot or bracket; a backslash takes the next character as it is.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
    let (mut name, mut chars) = (String::new(), text.char_indices());
    let mut end = text.len();
    while let Some((at, next)) = chars.next() {
        match next {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            other => name.push(other),
        }
    }
    steps.push(if name == "*" { Step::All } else { Step::Field(name.into()) });
    (end > 0).then(|| &text[end..])
}

/// Where the bracket closes that `text` begins with; those in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'[') => depth += 1,
            (None, b']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str, nesting: usize) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(inner) {
        return Some(Step::Field(name.into()));
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter(condition, nesting.checked_sub(1)?);
    }
    if inner.contains(',') {
        return inner.split(',').map(|part| bracket(part, nesting)).collect::<Option<_>>().map(Step::Union);
    }
    if inner.contains(':') {
        return Slice::parse(inner).map(Step::Slice);
    }
    inner.parse().ok().map(Step::Index)
}

fn filter(condition: &str, nesting: usize) -> Option<Step> {
    let found = OPERATORS.iter().filter_map(|(text, operator)| Some((condition.find(text)?, *text, *operator))).min_by_key(|(at, ..)| *at);
    let path = |text: &str| Path::nested(text.trim().strip_prefix('@')?, nesting);
    let Some((at, text, operator)) = found else { return Some(Step::Filter { path: path(condition)?, condition: None }) };
    let wanted = condition[at + text.len()..].trim();
    let wanted = match quoted(wanted) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(wanted).ok()?,
    };
    Some(Step::Filter { path: path(&condition[..at])?, condition: Some((operator, wanted)) })
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let object = json!({
            "spec": {"replicas": 3, "ports": [{"port": 80}, {"port": 443}]},
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True", "n": 2}]},
        });
        for (path, want) in [
            (".spec.replicas", json!(3)),
            (".spec.ports[1].port", json!(443)),
            (".spec.ports[-1].port", json!(443)),
            (".spec.ports[*].port", json!(80)),
            (".spec.ports[-1:].port", json!(443)),
            (".spec.ports[:1].port", json!(80)),
            (".spec.ports[1:2].port", json!(443)),
            (".spec.ports[::1].port", json!(80)),
            (".spec.ports[1,0].port", json!(443)),
            (".status.conditions[-1:].type", json!("Ready")),
            (".metadata.annotations.a\\.b/c", json!("x")),
            (".metadata.annotations['a.b/c']", json!("x")),
            (".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
            (".status.conditions[?(@.type=='Ready')].status", json!("True")),
            (".status.conditions[?(@.n>1)].type", json!("Ready")),
            ("..port", json!(80)),
        ] {
            assert_eq!(Path::parse(path).expect(path).first(&object), Some(&want), "{path}");
        }
        for nowhere in [".spec.gone.deeper", ".spec.ports[2:].port", ".spec.ports[0:3].port", ".spec.ports[1:1].port", ".spec.replicas[-1:]"] {
            assert_eq!(Path::parse(nowhere).expect("parses").first(&object), None, "{nowhere}");
        }
        for broken in [".spec[", "spec]", ".a[?(x)]", ".a[b]", ".a[1:b]", ".a[1:2:3:4]", ".a[1,]"] {
            assert_eq!(Path::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn filters_within_filters_end_and_cost_little() {
        let nested = |inner: &str, depth: usize, end: &str| format!(".a{}{end}{}", inner.repeat(depth), ")]".repeat(depth));
        assert!(Path::parse(&nested("[?(@", MOST_NESTED, ".b")).is_some());
        assert_eq!(Path::parse(&nested("[?(@", 10_000, ".b")), None);
        let deep = (0..80).fold(json!(1), |inner, _| json!({"a": inner}));
        let path = Path::parse(&nested("..[?(@", MOST_NESTED, "..q")).expect("a path");
        let begun = std::time::Instant::now();
        assert_eq!(path.first(&deep), None);
        assert!(begun.elapsed().as_millis() < 100, "{:?}", begun.elapsed());
        let wide = json!({"a": vec![json!({"b": 1}); 100_000]});
        let mut budget = Budget(MOST_VISITED);
        assert_eq!(Path::parse(".a[?(@.b==2)].b").expect("a path").first_within(&wide, &mut budget), None);
        assert_eq!(budget.0, 0);
        let union = Path::parse(&format!("[{}]", vec!["*"; 1000].join(","))).expect("a path");
        let mut found = Vec::new();
        union.0[0].follow(&wide["a"], &mut found, &mut Budget::default());
        assert_eq!(found.len(), MOST_FOUND);
    }
}
