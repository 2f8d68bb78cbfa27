//! Variables that stand beside an expression and are expressions themselves (`k8s.io/apiserver/pkg/cel/lazy`): each is evaluated when it is
//! first asked for, and then known to all expressions that have the same values.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::{Evaluated, Fault, Meter};
use crate::expressions::{Program, Val};

/// A variable: its name, and its program or why there is none.
pub type Composed = (Box<str>, Result<Program, String>);

/// See the module.
pub struct Composition<'a> {
    variables: HashMap<&'a str, &'a Result<Program, String>>,
    /// The values of the environment; one of them stands for this.
    inputs: Vec<Option<Val<'a>>>,
    known: RefCell<HashMap<&'a str, Evaluated<'a>>>,
    /// What evaluating variables cost since it was asked last.
    cost: Cell<u64>,
}

impl<'a> Composition<'a> {
    /// `inputs` are the values of the environment; [`Val::Variables`] stands for these variables.
    pub fn new(variables: &'a [Composed], inputs: Vec<Option<Val<'a>>>) -> Self {
        let variables = variables.iter().map(|(name, program)| (&**name, program)).collect();
        Composition { variables, inputs, known: RefCell::default(), cost: Cell::new(0) }
    }

    /// Evaluates an expression that may ask for the variables.
    ///
    /// # Errors
    /// What went wrong in the words of `cel-go`, or that the meter's limit is reached.
    pub fn evaluate(&self, program: &'a Program, meter: &mut Meter) -> Result<Val<'a>, Fault> {
        program.evaluate_beside(&self.inputs, Some(self), meter)
    }

    /// What evaluating variables cost since this was called last.
    pub fn take_cost(&self) -> u64 {
        self.cost.replace(0)
    }

    /// The value of a variable; `None` if there is no such variable.
    ///
    /// # Errors
    /// What went wrong with it, or that the meter's limit is reached.
    pub(super) fn get(&self, name: &str, meter: &mut Meter) -> Result<Option<Val<'a>>, Fault> {
        let Some((&name, &program)) = self.variables.get_key_value(name) else { return Ok(None) };
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone().map(Some);
        }
        let value = self.evaluated(name, program.as_ref(), meter);
        self.known.borrow_mut().insert(name, value.clone());
        value.map(Some)
    }

    /// Evaluates a variable. It has limits of its own, and what it costs is nothing that the expression costs which asks for it.
    fn evaluated(&self, name: &str, program: Result<&'a Program, &String>, meter: &mut Meter) -> Evaluated<'a> {
        let program = program.map_err(|why| Fault::error(format!("composited variable {name:?} fails to compile: {why}")))?;
        meter.enter(program.depth())?;
        let outside = meter.pause();
        let value = self.evaluate(program, meter);
        self.cost.set(self.cost.get().saturating_add(meter.spent()));
        meter.resume(outside, program.depth());
        match value {
            Err(Fault::Limit) if meter.is_exhausted() => Err(Fault::Limit),
            value => value.map_err(|fault| Fault::error(format!("composited variable {name:?} fails to evaluate: {}", fault.text()))),
        }
    }
}
