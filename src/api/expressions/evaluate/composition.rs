//! Variables that stand beside an expression and are expressions themselves (`k8s.io/apiserver/pkg/cel/lazy`): each is evaluated when it is
//! first asked for, and then known to all expressions that have the same values.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    rc::Rc,
};

use super::{Evaluated, Fault, Meter};
use crate::expressions::{Program, Val};

/// A variable: its name, and its program or why there is none.
pub type Composed = (Box<str>, Result<Program, String>);

/// See the module.
pub struct Composition<'a> {
    variables: HashMap<&'a str, &'a Result<Program, String>>,
    /// The values of the environment; the last of them stands for this.
    inputs: Vec<Option<Val<'a>>>,
    known: RefCell<HashMap<&'a str, Evaluated<'a>>>,
    /// What evaluating variables cost since it was asked last.
    cost: Cell<u64>,
}

impl fmt::Debug for Composition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composition").field("variables", &self.variables.keys()).finish_non_exhaustive()
    }
}

impl<'a> Composition<'a> {
    /// `inputs` are the values of the environment without these variables.
    pub fn new(variables: &'a [Composed], inputs: Vec<Option<Val<'a>>>) -> Rc<Self> {
        let variables = variables.iter().map(|(name, program)| (&**name, program)).collect();
        Rc::new(Composition { variables, inputs, known: RefCell::default(), cost: Cell::new(0) })
    }

    /// What evaluating variables cost since this was called last.
    pub fn take_cost(&self) -> u64 {
        self.cost.replace(0)
    }

    /// Forgets all values, which may hold this.
    pub fn forget(&self) {
        self.known.borrow_mut().clear();
    }

    /// The value of a variable; `None` if there is no such variable.
    ///
    /// # Errors
    /// What went wrong with it, or that the meter's limit is reached.
    pub(super) fn get(this: &Rc<Self>, name: &str, meter: &mut Meter) -> Result<Option<Val<'a>>, Fault> {
        let Some((&name, &program)) = this.variables.get_key_value(name) else { return Ok(None) };
        if let Some(known) = this.known.borrow().get(name) {
            return known.clone().map(Some);
        }
        let value = this.evaluated(name, program.as_ref(), meter);
        this.known.borrow_mut().insert(name, value.clone());
        value.map(Some)
    }

    /// Evaluates a variable. It has limits of its own, and what it costs is nothing that the expression costs which asks for it.
    fn evaluated(self: &Rc<Self>, name: &str, program: Result<&'a Program, &String>, meter: &mut Meter) -> Evaluated<'a> {
        let program = program.map_err(|why| Fault::error(format!("composited variable {name:?} fails to compile: {why}")))?;
        meter.enter(program.depth())?;
        let outside = meter.pause();
        let mut inputs = self.inputs.clone();
        inputs.push(Some(Val::Variables(self.clone())));
        let value = program.evaluate(&inputs, meter);
        self.cost.set(self.cost.get().saturating_add(meter.spent()));
        meter.resume(outside, program.depth());
        match value {
            Err(Fault::Limit) if meter.is_exhausted() => Err(Fault::Limit),
            value => value.map_err(|fault| Fault::error(format!("composited variable {name:?} fails to evaluate: {}", fault.text()))),
        }
    }
}
