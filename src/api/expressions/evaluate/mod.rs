//! Evaluation: one function for each kind of node, with costs charged as they come.

mod access;
mod folds;

use super::{
    check::messages::JSON_PATCH,
    cost::{LIST, MAP, MESSAGE, actual},
    library::Context,
    meter::{Fault, Meter},
    syntax::ast::{Call, Entry, Kind, Literal, Message, Node, Slot},
    values::{self, List, Made, Map, Val, no_overload},
};

/// What an entry of a list or a map takes of memory, about.
const ENTRY: usize = 64;

/// Variables that stand beside an expression.
pub trait Variables<'a> {
    /// The value of a variable; `None` if there is no such variable.
    ///
    /// # Errors
    /// What went wrong with it, or that the meter's limit is reached.
    fn get(&self, name: &str, meter: &mut Meter) -> Result<Option<Val<'a>>, Fault>;
}

/// Evaluates a checked expression.
///
/// # Errors
/// What went wrong, or that the limit is reached.
pub fn evaluate<'a>(
    node: &'a Node,
    variables: &[Option<Val<'a>>],
    composition: Option<&dyn Variables<'a>>,
    meter: &mut Meter,
) -> Result<Val<'a>, Fault> {
    Evaluation { variables, composition, locals: Vec::new(), meter }.node(node)
}

struct Evaluation<'a, 'm> {
    variables: &'m [Option<Val<'a>>],
    composition: Option<&'m dyn Variables<'a>>,
    locals: Vec<Val<'a>>,
    meter: &'m mut Meter,
}

type Evaluated<'a> = Result<Val<'a>, Fault>;

impl<'a> Evaluation<'a, '_> {
    fn node(&mut self, node: &'a Node) -> Evaluated<'a> {
        match &node.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Name { name, slot } => self.name(name, *slot),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::OptionalSelect { operand, field } => self.optional_select(operand, field),
            Kind::Call(call) => self.call(call),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Message(message) => self.message(message),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn name(&mut self, name: &'a str, slot: Slot) -> Evaluated<'a> {
        let found = match slot {
            Slot::Type => return Ok(Val::Type(name.into())),
            Slot::Local(at) => self.locals.get(at).cloned(),
            Slot::Variable(at) => self.variables.get(at).cloned().flatten(),
            Slot::Unknown => None,
        };
        self.meter.charge(1)?;
        found.ok_or_else(|| Fault::error(format!("no such attribute(s): {name}")))
    }

    fn call(&mut self, call: &'a Call) -> Evaluated<'a> {
        match &*call.function {
            "_&&_" => return self.logical(&call.args, false),
            "_||_" => return self.logical(&call.args, true),
            "_?_:_" => return self.conditional(&call.args),
            "_[_]" => return self.index(&call.args, false),
            "_[?_]" => return self.index(&call.args, true),
            "or" | "orValue" if call.target.is_some() => return self.otherwise(call),
            _ => {}
        }
        let Some(callee) = call.callee else { return Err(no_overload()) };
        let mut args = Vec::with_capacity(call.args.len() + 1);
        for arg in call.target.iter().chain(&call.args) {
            // A call of what failed costs something, too.
            args.push(match self.node(arg) {
                Ok(value) => value,
                Err(fault) => return Err(self.meter.charge(1).err().unwrap_or(fault)),
            });
        }
        self.meter.work(16 + args.iter().map(Val::bytes).sum::<usize>())?;
        let mut context = Context { meter: self.meter, pattern: call.pattern.as_deref() };
        let result = (callee.function.run)(&args, &mut context)?;
        if !is_free(call) {
            actual::charge(callee.function.name, &args, &result, self.meter)?;
        }
        Ok(result)
    }

    /// An operand that decides is enough, whatever errors others have.
    fn logical(&mut self, args: &'a [Node], decisive: bool) -> Evaluated<'a> {
        let mut fault = None;
        for arg in args {
            match self.node(arg) {
                Ok(Val::Bool(value)) if value == decisive => return Ok(Val::Bool(decisive)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => fault = fault.or_else(|| Some(no_overload())),
                Err(Fault::Limit) => return Err(Fault::Limit),
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        fault.map_or(Ok(Val::Bool(!decisive)), Err)
    }

    fn conditional(&mut self, args: &'a [Node]) -> Evaluated<'a> {
        let [condition, yes, no] = args else { return Err(no_overload()) };
        let chosen = match self.node(condition)? {
            Val::Bool(true) => yes,
            Val::Bool(false) => no,
            _ => return Err(no_overload()),
        };
        let value = self.node(chosen)?;
        self.meter.refund(u64::from(is_attribute(chosen)));
        Ok(value)
    }

    /// `or` and `orValue`: the argument only counts where there is no value.
    fn otherwise(&mut self, call: &'a Call) -> Evaluated<'a> {
        let (Some(target), [arg]) = (&call.target, &call.args[..]) else { return Err(no_overload()) };
        let Val::Optional(found) = self.node(target)? else { return Err(no_overload()) };
        match found {
            Some(inner) if &*call.function == "orValue" => Ok((*inner).clone()),
            Some(inner) => Ok(Val::Optional(Some(inner))),
            None => self.node(arg),
        }
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Evaluated<'a> {
        self.meter.allocate(ENTRY * elements.len())?;
        let mut entries = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match (self.node(element)?, optional) {
                (Val::Optional(inner), true) => entries.extend(inner.map(|inner| (*inner).clone())),
                (_, true) => return Err(Fault::error("cannot initialize optional list element from non-optional value")),
                (value, false) => entries.push(value),
            }
        }
        if !elements.iter().all(|(element, _)| is_constant(element)) {
            self.meter.charge(LIST)?;
        }
        Ok(Val::List(List::made(entries)))
    }

    fn message(&mut self, message: &'a Message) -> Evaluated<'a> {
        self.meter.allocate(ENTRY * (1 + message.fields.len()))?;
        let mut fields: Vec<(&'a str, Val<'a>)> = Vec::with_capacity(message.fields.len());
        for initializer in &message.fields {
            let name = &*initializer.name;
            let value = match (self.node(&initializer.value)?, initializer.optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(inner)), true) => (*inner).clone(),
                (_, true) => return Err(Fault::error("cannot initialize optional entry from non-optional value")),
                (value, false) => value,
            };
            if *message.name == *JSON_PATCH && name != "value" && !matches!(value, Val::String(_)) {
                return Err(Fault::error(format!("unexpected type {} for JSONPatchType '{name}' field", go_name(&value))));
            }
            fields.retain(|(known, _)| *known != name);
            fields.push((name, value));
        }
        self.meter.charge(MESSAGE)?;
        Ok(Val::Map(Map::Message(values::Message { name: &message.name, fields }.into())))
    }

    fn map(&mut self, entries: &'a [Entry]) -> Evaluated<'a> {
        self.meter.allocate(3 * ENTRY * entries.len())?;
        let mut made = Made::default();
        for entry in entries {
            let key = self.node(&entry.key)?;
            let value = match (self.node(&entry.value)?, entry.optional) {
                (Val::Optional(None), true) => continue,
                (Val::Optional(Some(inner)), true) => (*inner).clone(),
                (_, true) => return Err(Fault::error("cannot initialize optional entry from non-optional value")),
                (value, false) => value,
            };
            made.insert(key, value)?;
        }
        if !entries.iter().all(|entry| is_constant(&entry.key) && is_constant(&entry.value)) {
            self.meter.charge(MAP)?;
        }
        Ok(Val::Map(Map::Made(made.into())))
    }
}

/// What Go calls the type of a value.
fn go_name(value: &Val<'_>) -> &'static str {
    match value {
        Val::Bool(_) => "bool",
        Val::Int(_) => "int64",
        Val::Uint(_) => "uint64",
        Val::Double(_) => "float64",
        Val::Bytes(_) => "[]uint8",
        Val::List(_) => "[]interface {}",
        Val::Null => "structpb.NullValue",
        _ => "map[ref.Val]ref.Val",
    }
}

fn of_literal(literal: &Literal) -> Val<'_> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(value) => Val::Bool(*value),
        Literal::Int(value) => Val::Int(*value),
        Literal::Uint(value) => Val::Uint(*value),
        Literal::Double(value) => Val::Double(*value),
        Literal::String(text) => Val::borrowed(text),
        Literal::Bytes(bytes) => Val::Bytes((**bytes).into()),
    }
}

/// What `cel-go` computes before it evaluates costs nothing.
fn is_constant(node: &Node) -> bool {
    match &node.kind {
        Kind::Literal(_) => true,
        Kind::Name { slot, .. } => *slot == Slot::Type,
        Kind::List(elements) => elements.iter().all(|(element, optional)| !optional && is_constant(element)),
        Kind::Map(entries) => entries.iter().all(|entry| !entry.optional && is_constant(&entry.key) && is_constant(&entry.value)),
        Kind::Call(call) => is_conversion(call) && call.args.iter().all(is_constant),
        _ => false,
    }
}

fn is_conversion(call: &Call) -> bool {
    let names = ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];
    call.target.is_none() && names.contains(&&*call.function)
}

/// Conversions of what is written down, and looking into a list that is.
fn is_free(call: &Call) -> bool {
    match &*call.function {
        "@in" => call.args.get(1).is_some_and(|list| matches!(list.kind, Kind::List(_)) && is_constant(list)),
        _ => is_conversion(call) && &*call.function != "type" && call.args.iter().all(is_constant),
    }
}

/// Whether a node is a way into a variable, of which each step costs one.
fn is_attribute(node: &Node) -> bool {
    match &node.kind {
        Kind::Name { slot, .. } => *slot != Slot::Type,
        Kind::Select { .. } | Kind::OptionalSelect { .. } => true,
        Kind::Call(call) => matches!(&*call.function, "_[_]" | "_[?_]" | "_?_:_"),
        _ => false,
    }
}
