//! Macros over lists and maps. Their costs are those of the comprehensions that `cel-go` makes of them.

use std::rc::Rc;

use super::{ENTRY, Evaluated, Evaluation};
use crate::expressions::{
    cost::actual,
    library::lists,
    meter::Fault,
    syntax::ast::{Fold, Macro, Node},
    values::{List, Made, Map, Val, no_overload},
};

/// What a macro goes through.
enum Range<'a> {
    List(List<'a>),
    Keys(Vec<Val<'a>>),
    Entries(Vec<(Val<'a>, Val<'a>)>),
}

impl<'a> Range<'a> {
    fn len(&self) -> usize {
        match self {
            Range::List(list) => list.len(),
            Range::Keys(keys) => keys.len(),
            Range::Entries(entries) => entries.len(),
        }
    }

    /// The index or key, and the entry.
    fn get(&self, at: usize) -> Result<(Val<'a>, Val<'a>), Fault> {
        match self {
            Range::List(list) => Ok((Val::Int(i64::try_from(at).unwrap_or(i64::MAX)), list.get(at)?)),
            Range::Keys(keys) => Ok((keys[at].clone(), keys[at].clone())),
            Range::Entries(entries) => Ok(entries[at].clone()),
        }
    }
}

impl<'a> Evaluation<'a, '_> {
    pub(super) fn fold(&mut self, fold: &'a Fold) -> Evaluated<'a> {
        let before = self.meter.spent();
        let range = self.node(&fold.range)?;
        if fold.kind == Macro::Bind {
            let result = fold.result.as_ref().ok_or_else(no_overload)?;
            self.locals.push(range);
            let value = self.node(result);
            self.locals.pop();
            return value;
        }
        if matches!(fold.kind, Macro::OptMap | Macro::OptFlatMap) {
            let again = self.meter.spent() - before;
            return self.optional(fold, range, again);
        }
        let range = match range {
            Val::List(list) => Range::List(list),
            Val::Map(map) => {
                self.meter.allocate(ENTRY * map.len())?;
                if fold.key.is_some() { Range::Entries(map.entries()?) } else { Range::Keys(map.keys()) }
            }
            other => return Err(Fault::error(format!("unsupported comprehension range type: {}", other.type_name()))),
        };
        match fold.kind {
            Macro::All => self.quantifier(fold, &range, false),
            Macro::Exists => self.quantifier(fold, &range, true),
            Macro::ExistsOne => self.exists_one(fold, &range),
            Macro::Collect => self.collect(fold, &range),
            Macro::SortBy => self.sort_by(fold, &range),
            _ => self.transform(fold, &range),
        }
    }

    /// Evaluates with the variables of an entry.
    fn with<T>(
        &mut self,
        fold: &'a Fold,
        range: &Range<'a>,
        at: usize,
        inner: impl FnOnce(&mut Self, Val<'a>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (key, item) = range.get(at)?;
        self.meter.work(ENTRY)?;
        let outside = self.locals.len();
        if fold.key.is_some() {
            self.locals.push(key.clone());
        }
        self.locals.push(item);
        let result = inner(self, key);
        self.locals.truncate(outside);
        result
    }

    fn holds(&mut self, condition: Option<&'a Node>) -> Result<bool, Fault> {
        match condition.map(|condition| self.node(condition)).transpose()? {
            None | Some(Val::Bool(true)) => Ok(true),
            Some(Val::Bool(false)) => Ok(false),
            Some(_) => Err(no_overload()),
        }
    }

    /// `all` ends with the first that does not hold, `exists` with the first that does; errors count only if there is none.
    fn quantifier(&mut self, fold: &'a Fold, range: &Range<'a>, decisive: bool) -> Evaluated<'a> {
        let own = if decisive { 3 } else { 2 };
        let mut fault = None;
        for at in 0..range.len() {
            self.meter.charge(own + 1)?;
            match self.with(fold, range, at, |this, _| this.holds(fold.condition.as_ref())) {
                Ok(held) if held == decisive => {
                    // The loop would have gone on, had it not been for this one.
                    self.meter.charge(1 + if at + 1 < range.len() { own } else { 0 })?;
                    return Ok(Val::Bool(decisive));
                }
                Ok(_) => {}
                Err(Fault::Limit) => return Err(Fault::Limit),
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        self.meter.charge(1)?;
        fault.map_or(Ok(Val::Bool(!decisive)), Err)
    }

    fn exists_one(&mut self, fold: &'a Fold, range: &Range<'a>) -> Evaluated<'a> {
        let mut count = 0;
        for at in 0..range.len() {
            if self.with(fold, range, at, |this, _| this.holds(fold.condition.as_ref()))? {
                self.meter.charge(2)?;
                count += 1;
            }
        }
        self.meter.charge(2)?;
        Ok(Val::Bool(count == 1))
    }

    /// What becomes of an entry; `None` if it is left out.
    fn produced(&mut self, fold: &'a Fold) -> Result<Option<Val<'a>>, Fault> {
        if !self.holds(fold.condition.as_ref())? {
            return Ok(None);
        }
        match &fold.result {
            Some(result) => self.node(result).map(Some),
            None => {
                self.meter.charge(1)?;
                Ok(self.locals.last().cloned())
            }
        }
    }

    fn entries(&mut self, fold: &'a Fold, range: &Range<'a>) -> Result<Vec<Val<'a>>, Fault> {
        let mut entries = Vec::new();
        for at in 0..range.len() {
            if let Some(produced) = self.with(fold, range, at, |this, _| this.produced(fold))? {
                self.meter.charge(12)?;
                self.meter.allocate(ENTRY)?;
                entries.push(produced);
            }
        }
        self.meter.charge(1)?;
        Ok(entries)
    }

    fn collect(&mut self, fold: &'a Fold, range: &Range<'a>) -> Evaluated<'a> {
        self.entries(fold, range).map(Val::list)
    }

    fn sort_by(&mut self, fold: &'a Fold, range: &Range<'a>) -> Evaluated<'a> {
        self.meter.charge(2)?;
        let Range::List(list) = range else { return Err(no_overload()) };
        let keys = List::made(self.entries(fold, range)?);
        let sorted = lists::sorted_by(list, &keys, self.meter)?;
        let args = [Val::List(list.clone()), Val::List(keys)];
        actual::charge("@sortByAssociatedKeys", &args, &sorted, self.meter)?;
        Ok(sorted)
    }

    /// `transformMap` and `transformMapEntry`.
    fn transform(&mut self, fold: &'a Fold, range: &Range<'a>) -> Evaluated<'a> {
        let mut made = Made::default();
        for at in 0..range.len() {
            let produced = self.with(fold, range, at, |this, key| Ok(this.produced(fold)?.map(|produced| (key, produced))))?;
            let Some((key, produced)) = produced else { continue };
            if fold.kind == Macro::TransformMap {
                self.meter.charge(3)?;
                self.meter.allocate(3 * ENTRY)?;
                made.insert(key, produced)?;
                continue;
            }
            self.meter.charge(2)?;
            let Val::Map(entries) = produced else { return Err(no_overload()) };
            self.meter.allocate(3 * ENTRY * entries.len())?;
            for (key, value) in entries.entries()? {
                made.insert(key, value)?;
            }
        }
        self.meter.charge(1)?;
        Ok(Val::Map(Map::Made(Rc::new(made))))
    }

    /// Upstream evaluates the value twice: to ask whether there is one, and to take it.
    fn optional(&mut self, fold: &'a Fold, range: Val<'a>, again: u64) -> Evaluated<'a> {
        let Val::Optional(found) = range else { return Err(no_overload()) };
        self.meter.charge(1)?;
        let (Some(inner), Some(result)) = (found, &fold.result) else { return Ok(Val::Optional(None)) };
        self.meter.charge(again + 1 + u64::from(fold.kind == Macro::OptMap))?;
        self.locals.push((*inner).clone());
        let result = self.node(result);
        self.locals.pop();
        if fold.kind == Macro::OptMap { result.map(Val::some) } else { result }
    }
}
