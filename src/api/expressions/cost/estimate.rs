//! The cost of an expression by what is declared of its variables.

use super::{
    Estimate, LIST, MAP, MESSAGE, calls,
    known::{Known, Path, Within},
};
use crate::expressions::{
    Environment,
    syntax::ast::{Call, Entry, Fold, Kind, Literal, Macro, Node, Slot},
    types::{Declaration, Shape, Type},
};

struct Local {
    path: Path,
    size: Option<Estimate>,
    within: Option<Within>,
}

/// Estimates the cost of a checked expression.
pub fn estimate(node: &Node, environment: &Environment) -> Estimate {
    Estimator { environment, locals: Vec::new() }.node(node).cost
}

struct Estimator<'a> {
    environment: &'a Environment,
    locals: Vec<Local>,
}

impl Estimator<'_> {
    /// The size of what is declared at a path.
    fn declared(&self, path: &[Box<str>]) -> Option<Estimate> {
        let first = path.first()?;
        let variables = &self.environment.variables;
        let variable = variables.iter().find(|variable| variable.name == *first).or_else(|| variables.first())?;
        let mut current: &Declaration = &variable.declaration;
        for step in &path[1..] {
            current = match &**step {
                "@items" | "@values" => current.element()?,
                "@keys" => {
                    current.element()?;
                    return Some(Estimate::fixed(0));
                }
                // Of values that may be anything up to a size, whatever they are called (attributes of devices).
                field => match (&current.shape, current.fields()) {
                    (Shape::Map { values }, _) if matches!(values.shape, Shape::Any) && values.most < u64::MAX => values,
                    (_, fields) => &fields?.selected(field)?.declaration,
                },
            };
        }
        Some(Estimate::new(0, current.most))
    }

    fn known(&self, node: &Node, cost: Estimate, path: Path, size: Option<Estimate>, within: Option<Within>) -> Known {
        let scalar = || node.ty.is_scalar().then(|| Estimate::fixed(1));
        let size = size.or_else(|| literal_size(&node.kind)).or_else(|| self.declared(&path)).or_else(scalar);
        let items = match &node.ty {
            Type::List(_) | Type::Map(_) => {
                let mut inner = path.clone();
                inner.push("@items".into());
                Some(if path.is_empty() { None } else { self.declared(&inner) }.unwrap_or(Estimate::UNKNOWN))
            }
            _ => None,
        };
        let is_literal = matches!(node.kind, Kind::Literal(_));
        Known { cost, size, within, path, items, ty: node.ty.clone(), integer: node.integer(), is_literal }
    }

    fn node(&mut self, node: &Node) -> Known {
        match &node.kind {
            Kind::Literal(_) => self.known(node, Estimate::fixed(0), Path::new(), None, None),
            Kind::Name { name, slot } => self.name(node, name, *slot),
            Kind::Select { operand, field, test } => self.select(node, operand, field, *test),
            Kind::OptionalSelect { operand, .. } => {
                let of = self.node(operand);
                self.known(node, of.cost.plus(Estimate::fixed(1)), Path::new(), None, None)
            }
            Kind::Call(call) => self.call(node, call),
            Kind::List(elements) => self.list(node, elements),
            Kind::Map(entries) => self.map(node, entries),
            Kind::Message(message) => {
                let fields = message.fields.iter().map(|field| self.node(&field.value).cost);
                let cost = fields.fold(Estimate::fixed(MESSAGE), Estimate::plus);
                self.known(node, cost, Path::new(), None, None)
            }
            Kind::Fold(fold) => self.fold(node, fold),
        }
    }

    fn name(&self, node: &Node, name: &str, slot: Slot) -> Known {
        let one = Estimate::fixed(1);
        let Some(local) = (match slot {
            Slot::Local(at) => self.locals.get(at),
            _ => None,
        }) else {
            return self.known(node, one, vec![name.into()], None, None);
        };
        let mut known = self.known(node, one, local.path.clone(), None, local.within);
        known.size = known.size.or(local.size);
        known
    }

    fn select(&mut self, node: &Node, operand: &Node, field: &str, test: bool) -> Known {
        let of = self.node(operand);
        if test {
            return self.known(node, of.cost, Path::new(), None, None);
        }
        let has_cost = matches!(operand.ty, Type::Map(_) | Type::Object(_) | Type::Parameter(_));
        let cost = if has_cost { of.cost.plus(Estimate::fixed(1)) } else { of.cost };
        let mut path = of.path;
        path.push(field.into());
        self.known(node, cost, path, None, None)
    }

    fn call(&mut self, node: &Node, call: &Call) -> Known {
        let args: Vec<Known> = call.args.iter().map(|arg| self.node(arg)).collect();
        if &*call.function == "dyn" && args.len() == 1 {
            return Known { cost: args[0].cost.plus(Estimate::fixed(1)), ty: node.ty.clone(), path: Path::new(), ..args[0].clone() };
        }
        let target = call.target.as_ref().map(|target| self.node(target));
        let Some(callee) = call.callee else { return self.known(node, Estimate::fixed(0), Path::new(), None, None) };
        let (mut cost, mut size, mut path) = (Estimate::new(u64::MAX, 0), None::<Estimate>, Path::new());
        for (_, overload) in callee.function.overloads.iter().enumerate().filter(|(at, _)| callee.overloads & (1 << at) != 0) {
            let found = calls::cost(callee.function.name, overload.id, target.as_ref(), &args);
            cost = cost.or(found.cost);
            if let Some(result) = found.size {
                size = Some(size.map_or(result, |size| size.or(result)));
            }
            if let ("index_list" | "index_map", Some(first)) = (overload.id, args.first()) {
                size = first.within.map(|within| within.value);
                path.clone_from(&first.path);
                path.push(if overload.id == "index_list" { "@items".into() } else { "@values".into() });
            }
        }
        let within = calls::within(callee.function.name, &args);
        let whole = target.map_or(cost, |target| target.cost.plus(cost));
        self.known(node, whole, path, size, within)
    }

    fn list(&mut self, node: &Node, elements: &[(Node, bool)]) -> Known {
        let (mut cost, mut value) = (Estimate::fixed(LIST), Estimate::new(if elements.is_empty() { 0 } else { u64::MAX }, 0));
        for (element, _) in elements {
            let known = self.node(element);
            cost = cost.plus(known.cost);
            value = value.or(known.size());
        }
        self.known(node, cost, Path::new(), None, Some(Within { is_list: true, key: Estimate::fixed(1), value }))
    }

    fn map(&mut self, node: &Node, entries: &[Entry]) -> Known {
        let none = Estimate::new(if entries.is_empty() { 0 } else { u64::MAX }, 0);
        let (mut cost, mut key, mut value) = (Estimate::fixed(MAP), none, none);
        for entry in entries {
            let (known_key, known_value) = (self.node(&entry.key), self.node(&entry.value));
            cost = cost.plus(known_key.cost).plus(known_value.cost);
            key = key.or(known_key.size());
            value = value.or(known_value.size());
        }
        self.known(node, cost, Path::new(), None, Some(Within { is_list: false, key, value }))
    }

    /// Names the variables of a macro.
    fn enter(&mut self, fold: &Fold, range: &Known) {
        let is_list = range.within.map_or(matches!(fold.range.ty, Type::List(_)), |within| within.is_list);
        let (key, value) = (range.within.map(|within| within.key), range.within.map(|within| within.value));
        let path = |step: &str| range.path.iter().cloned().chain([step.into()]).collect::<Path>();
        let mut push = |step: &str, size| self.locals.push(Local { path: path(step), size, within: None });
        if fold.key.is_some() {
            push(if is_list { "@indices" } else { "@keys" }, key);
            push(if is_list { "@items" } else { "@values" }, value);
        } else if is_list {
            push("@items", value);
        } else {
            push("@keys", key);
        }
    }

    fn fold(&mut self, node: &Node, fold: &Fold) -> Known {
        let range = self.node(&fold.range);
        if fold.kind == Macro::Bind {
            return self.bind(node, fold, range);
        }
        if matches!(fold.kind, Macro::OptMap | Macro::OptFlatMap) {
            return self.optional(node, fold, &range);
        }
        let outside = self.locals.len();
        self.enter(fold, &range);
        let condition = fold.condition.as_ref().map(|condition| self.node(condition).cost);
        let result = match &fold.result {
            Some(result) => Some(self.node(result)),
            None => self.locals.last().map(|item| Known {
                size: self.declared(&item.path).or(item.size),
                cost: Estimate::fixed(1),
                ..self.known(node, Estimate::fixed(1), Path::new(), None, None)
            }),
        };
        self.locals.truncate(outside);
        let fixed = Estimate::fixed;
        let predicate = condition.unwrap_or(fixed(0));
        let produced = result.as_ref().map_or(fixed(0), |result| result.cost);
        // What is there before, what each entry costs, and what is there after.
        let (before, taken, after) = match fold.kind {
            Macro::All => (0, fixed(2).plus(Estimate::new(1, predicate.most.saturating_add(1))), 1),
            Macro::Exists => (0, fixed(3).plus(Estimate::new(1, predicate.most.saturating_add(1))), 1),
            Macro::ExistsOne => (0, predicate.plus(Estimate::new(1, 2)), 2),
            Macro::Collect => (LIST, fixed(12).plus(produced), 1),
            Macro::SortBy => (LIST + LIST + 1, fixed(12).plus(produced), 1),
            Macro::TransformMap => (MAP, fixed(3).plus(produced), 1),
            _ => (MAP, fixed(2).plus(produced), 1),
        };
        let is_quantifier = matches!(fold.kind, Macro::All | Macro::Exists | Macro::ExistsOne);
        let each = match condition {
            Some(condition) if !is_quantifier => condition.plus(fixed(1).or(taken)),
            _ => taken,
        };
        let count = range.size();
        let mut cost = range.cost.plus(fixed(before + after)).plus(count.times(each));
        if fold.kind == Macro::SortBy {
            cost = cost.plus(calls::sorting(count)).plus(fixed(1));
            return self.known(node, cost, Path::new(), Some(count), range.within);
        }
        let size = if is_quantifier { Some(fixed(1)) } else { Some(count) };
        let value = result.map_or(Estimate::UNKNOWN, |result| result.size()).or(fixed(0));
        let within = (fold.kind == Macro::Collect).then_some(Within { is_list: true, key: fixed(1), value });
        self.known(node, cost, Path::new(), size, within)
    }

    /// `cel.bind` goes through an empty list first.
    fn bind(&mut self, node: &Node, fold: &Fold, value: Known) -> Known {
        self.locals.push(Local { path: value.path, size: value.size, within: value.within });
        let result = fold.result.as_ref().map(|result| self.node(result));
        self.locals.pop();
        let before = value.cost.plus(Estimate::fixed(LIST));
        match result {
            Some(result) => Known { cost: before.plus(result.cost), ty: node.ty.clone(), ..result },
            None => self.known(node, before, Path::new(), None, None),
        }
    }

    /// `optMap` asks whether there is a value, takes it, and goes on with it.
    fn optional(&mut self, node: &Node, fold: &Fold, range: &Known) -> Known {
        self.locals.push(Local { path: Path::new(), size: None, within: None });
        let result = fold.result.as_ref().map_or(Estimate::fixed(0), |result| self.node(result).cost);
        self.locals.pop();
        let none = Estimate::fixed(1);
        let some = range.cost.plus(Estimate::fixed(LIST + 2)).plus(result);
        self.known(node, range.cost.plus(Estimate::fixed(1)).plus(none.or(some)), Path::new(), None, None)
    }
}

fn literal_size(kind: &Kind) -> Option<Estimate> {
    let size = match kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List(elements) => elements.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(Estimate::fixed(size as u64))
}
