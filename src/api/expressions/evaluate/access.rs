//! Fields and entries.

use super::{Evaluated, Evaluation, is_attribute};
use crate::expressions::{
    meter::Fault,
    syntax::ast::Node,
    values::{Val, no_overload, shown},
};

impl<'a> Evaluation<'a, '_> {
    /// The value that a step goes on from; one that is no way into a variable costs one more.
    fn operand(&mut self, operand: &'a Node) -> Evaluated<'a> {
        let value = self.node(operand)?;
        if !is_attribute(operand) {
            self.meter.charge(1)?;
        }
        Ok(value)
    }

    fn composed(&mut self, name: &str) -> Result<Option<Val<'a>>, Fault> {
        match self.composition {
            Some(composition) => composition.get(name, self.meter),
            None => Ok(None),
        }
    }

    pub(super) fn select(&mut self, operand: &'a Node, field: &str, test: bool) -> Evaluated<'a> {
        let value = self.operand(operand)?;
        if let Val::Variables = &value {
            self.meter.charge(u64::from(!test))?;
            let found = self.composed(field)?;
            return match found {
                found if test => Ok(Val::Bool(found.is_some())),
                found => found.ok_or_else(|| Fault::error(format!("no such key: {field}"))),
            };
        }
        if test {
            return match value {
                Val::Optional(None) => Ok(Val::Bool(false)),
                Val::Optional(Some(inner)) => present(&inner, field),
                other => present(&other, field),
            };
        }
        self.meter.charge(1)?;
        match value {
            Val::Map(map) => map.field(field)?.ok_or_else(|| Fault::error(format!("no such key: {field}"))),
            Val::Optional(inner) => optional_field(inner.as_deref(), field),
            Val::List(_) => Err(no_overload()),
            _ => Err(Fault::error(format!("no such key: {field}"))),
        }
    }

    pub(super) fn optional_select(&mut self, operand: &'a Node, field: &str) -> Evaluated<'a> {
        let found = match self.operand(operand)? {
            Val::Variables => self.composed(field)?.map_or(Val::Optional(None), Val::some),
            Val::Optional(inner) => optional_field(inner.as_deref(), field)?,
            other => optional_field(Some(&other), field)?,
        };
        self.meter.charge(u64::from(matches!(found, Val::Optional(Some(_)))))?;
        Ok(found)
    }

    pub(super) fn index(&mut self, args: &'a [Node], optional: bool) -> Evaluated<'a> {
        let [operand, index] = args else { return Err(no_overload()) };
        let value = self.operand(operand)?;
        // A way into a variable that is an index costs as much as the step that it is.
        let own = u64::from(!is_attribute(index));
        let index = self.node(index)?;
        self.meter.charge(own)?;
        match value {
            Val::Optional(None) => Ok(Val::Optional(None)),
            Val::Optional(Some(inner)) => found(entry(&inner, &index)),
            other if optional => found(entry(&other, &index)),
            other => entry(&other, &index)?.ok_or_else(|| match other {
                Val::List(_) => Fault::error(format!("index out of bounds: {}", shown(&index))),
                _ => Fault::error(format!("no such key: {}", shown(&index))),
            }),
        }
    }
}

fn present<'a>(value: &Val<'a>, field: &str) -> Evaluated<'a> {
    match value {
        Val::Map(map) => Ok(Val::Bool(map.field(field)?.is_some())),
        Val::List(_) => Err(no_overload()),
        // What has no fields has not this one either.
        _ => Ok(Val::Bool(false)),
    }
}

fn optional_field<'a>(value: Option<&Val<'a>>, field: &str) -> Evaluated<'a> {
    match value {
        None => Ok(Val::Optional(None)),
        Some(Val::Map(map)) => found(map.field(field)),
        Some(Val::List(_)) => Err(no_overload()),
        Some(_) => Ok(Val::Optional(None)),
    }
}

fn found<'a>(entry: Result<Option<Val<'a>>, Fault>) -> Evaluated<'a> {
    Ok(entry?.map_or(Val::Optional(None), Val::some))
}

/// The entry of a list or a map, if there is one.
fn entry<'a>(value: &Val<'a>, index: &Val<'a>) -> Result<Option<Val<'a>>, Fault> {
    match value {
        Val::Map(map) => map.find(index),
        Val::List(list) => {
            let place = match index {
                Val::Int(place) => usize::try_from(*place).ok(),
                Val::Uint(place) => usize::try_from(*place).ok(),
                Val::Double(place) if place.fract() == 0.0 && (0.0..1.0e15).contains(place) => Some(*place as usize),
                _ => return Err(Fault::error(format!("unsupported index type '{}' in list", index.type_name()))),
            };
            place.filter(|place| *place < list.len()).map(|place| list.get(place)).transpose()
        }
        _ => Err(no_overload()),
    }
}
