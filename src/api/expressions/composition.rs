//! Variables that stand beside an expression and are expressions themselves (`k8s.io/apiserver/pkg/cel/lazy`): each is evaluated when it is
//! first asked for, and then known to all expressions that have the same values.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::{
    evaluate::Variables,
    meter::{Fault, Meter},
    program::Program,
    values::Val,
};

/// A variable: its name, and its program or why there is none.
pub type Composed = (Box<str>, Result<Program, String>);

/// See the module.
pub struct Composition<'a> {
    variables: HashMap<&'a str, &'a Result<Program, String>>,
    /// The values of the environment; one of them stands for this.
    inputs: Vec<Option<Val<'a>>>,
    known: RefCell<HashMap<&'a str, Result<Val<'a>, Fault>>>,
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

    /// Evaluates a variable. It has limits of its own, and what it costs is nothing that the expression costs which asks for it.
    fn evaluated(&self, name: &str, program: Result<&'a Program, &String>, meter: &mut Meter) -> Result<Val<'a>, Fault> {
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

impl<'a> Variables<'a> for Composition<'a> {
    fn get(&self, name: &str, meter: &mut Meter) -> Result<Option<Val<'a>>, Fault> {
        let Some((&name, &program)) = self.variables.get_key_value(name) else { return Ok(None) };
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone().map(Some);
        }
        let value = self.evaluated(name, program.as_ref(), meter);
        self.known.borrow_mut().insert(name, value.clone());
        value.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::expressions::{Declaration, Environment, Type};

    /// Compiles variables one after the other, then an expression, and evaluates that.
    fn evaluated(variables: &[(&str, &str)], text: &str) -> (Result<bool, String>, u64, u64) {
        let mut environment = Environment::default().with("variables", Arc::new(Declaration::plain(Type::Variables, 0, 0)));
        let mut composed: Vec<Composed> = Vec::new();
        for (name, text) in variables {
            let program = Program::compile_any(text, &environment).map_err(|why| format!("{why:?}"));
            let ty = program.as_ref().map_or(Type::Dyn, |program| program.ty().clone());
            environment.composed.insert((*name).into(), ty);
            composed.push(((*name).into(), program));
        }
        let program = Program::compile(text, &Type::Bool, &environment).expect("compiles");
        let composition = Composition::new(&composed, vec![Some(Val::Variables)]);
        let mut meter = Meter::new(1_000);
        let value = composition.evaluate(&program, &mut meter).map(|value| matches!(value, Val::Bool(true)));
        (value.map_err(|fault| fault.text().to_owned()), meter.spent(), composition.take_cost())
    }

    #[test]
    fn a_variable_is_evaluated_once_and_only_where_it_is_asked_for() {
        let variables = [("a", "[1, 2].map(x, x + 1)"), ("b", "variables.a[0] == 2"), ("broken", "1 / 0 == 1")];
        let (value, spent, cost) = evaluated(&variables, "variables.b && variables.a.size() == 2 && has(variables.a)");
        assert_eq!(value, Ok(true));
        let (_, _, alone) = evaluated(&variables, "variables.b");
        assert_eq!(cost, alone, "what is known costs nothing more");
        assert!(spent < cost, "variables cost the expression nothing: {spent} {cost}");
        let (value, ..) = evaluated(&variables, "variables.b || variables.broken");
        assert_eq!(value, Ok(true));
        let (value, ..) = evaluated(&variables, "variables.broken");
        assert_eq!(value, Err("composited variable \"broken\" fails to evaluate: division by zero".to_owned()));
    }

    #[test]
    fn limits_hold_for_each_variable_and_circles_end() {
        let long = "[1, 2, 3, 4, 5, 6, 7, 8, 9].all(x, [1, 2, 3, 4, 5, 6, 7, 8, 9].all(y, x + y > 0))";
        let (value, ..) = evaluated(&[("long", long)], "variables.long || true");
        assert_eq!(value, Ok(true), "an error that an expression may hide");
        let (value, ..) = evaluated(&[("x", "1"), ("x", "variables.x + 1")], "variables.x == 2");
        assert!(value.is_err_and(|why| why.ends_with("expression recursion limit exceeded: 400")));
    }
}
