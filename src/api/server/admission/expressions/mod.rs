//! Expressions that are asked about a request (`k8s.io/apiserver/pkg/admission/plugin/cel`): what they see, what they may cost.
//!
//! They are tried where the request is handled, which is enough for nearly all of them; what takes longer is begun anew on a thread of its
//! own ([`in_time`]). Evaluating changes nothing, so that nobody notices.

mod access;
mod conditions;

use std::{borrow::Cow, future, ops::Range, sync::Arc};

use serde_json::Value;

pub use access::Access;
pub use conditions::{Condition, Held, hold};
use troupe_api::{
    aside,
    expressions::{self, Composed, Composition, Declaration, Inquiry, Meter, Named, Program, Question, Subject, Val, from_json, object_from_json},
    meta::Object,
    resources::validation::admission::environment::{Compiler, Wanted, place},
};

use super::{
    Attributes,
    admission_request::without_objects,
    matching::{Matched, shown_or_same},
};

/// What one expression may cost (`k8s.io/apiserver/pkg/apis/cel`, `PerCallLimit`).
const MOST_PER_EXPRESSION: u64 = 1_000_000;

/// An expression as it is written, with its program or why there is none.
#[derive(Debug)]
pub struct Expression {
    text: Box<str>,
    program: Result<Program, String>,
}

impl Expression {
    pub fn compile(text: &str, compiler: &mut Compiler, wanted: Wanted) -> Self {
        Expression { text: text.into(), program: compiler.compile(text, wanted) }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why it cannot be evaluated.
    pub fn fault(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref().ok()
    }
}

/// Evaluation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// What the expressions together may cost is spent.
    Budget,
    /// It takes too long for this thread.
    TooLong,
}

impl Stopped {
    /// In upstream's words.
    pub const OUT_OF_BUDGET: &str = "validation failed due to running out of cost budget, no further validation rules will be run";
}

/// A request as expressions see it.
#[derive(Debug)]
pub struct Shown<'a> {
    pub object: Option<Cow<'a, Object>>,
    pub old: Option<Cow<'a, Object>>,
    /// The request without its objects, where somebody wants to know.
    pub asked: Option<Value>,
}

impl<'a> Shown<'a> {
    /// A request as it is matched.
    pub fn of(matched: &'a Matched, request: &'a Attributes<'_>, asked: bool) -> Self {
        let shown = |object: &'a Object| match matched.converted.find(request, object) {
            Some(converted) => Cow::Borrowed(converted),
            None => shown_or_same(matched, request.target, object),
        };
        Shown { object: request.object().map(shown), old: request.old.map(shown), asked: asked.then(|| without_objects(matched, request)) }
    }

    /// The same with copies of the objects.
    pub fn to_owned(&self) -> Shown<'static> {
        let owned = |object: &Option<Cow<'a, Object>>| object.as_ref().map(|object| Cow::Owned((**object).clone()));
        Shown { object: owned(&self.object), old: owned(&self.old), asked: self.asked.clone() }
    }
}

/// What expressions see of a request.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub shown: &'a Shown<'a>,
    /// The Namespace that the object is in.
    pub namespace: Option<&'a Object>,
    /// The object with parameters.
    pub params: Option<&'a Object>,
    pub access: Option<&'a Access>,
}

/// What expressions of a webhook or a policy were compiled with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub variables: &'a [Composed],
    pub compiler: &'a Compiler,
}

/// The values that several expressions share, with the variables that are evaluated once for all of them.
pub struct Activation<'a>(Composition<'a>);

impl<'a> Activation<'a> {
    pub fn new(inputs: Inputs<'a>, around: Surroundings<'a>, meter: &mut Meter) -> Self {
        meter.forget();
        let compiler: &'a Compiler = around.compiler;
        let declared = move |at: usize| -> &'a Declaration { &compiler.environment().variables[at].declaration };
        let object = |object: Option<&'a Object>, at: usize| match object {
            Some(object) => object_from_json(object.root(), declared(at)).ok(),
            None => Some(Val::Null),
        };
        let asked = inputs.shown.asked.as_ref().and_then(|asked| from_json(asked, declared(place::REQUEST)).ok());
        let mut values = vec![
            object(inputs.shown.object.as_deref(), place::OBJECT),
            object(inputs.shown.old.as_deref(), place::OLD_OBJECT),
            asked,
            object(inputs.namespace, place::NAMESPACE),
            object(inputs.params, place::PARAMS),
        ];
        values.extend(authorizers(inputs));
        values.push(Some(Val::Variables));
        Activation(Composition::new(around.variables, values))
    }

    /// The value of an expression, or what went wrong in upstream's words.
    ///
    /// # Errors
    /// It is not known, because evaluation ends.
    pub fn evaluate(&self, expression: &'a Expression, meter: &mut Meter, budget: &mut u64) -> Result<Result<Val<'a>, String>, Stopped> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        meter.begin();
        let value = self.0.evaluate(program, meter);
        if meter.ends_early() {
            return Err(Stopped::TooLong);
        }
        for cost in [self.0.take_cost(), meter.spent()] {
            *budget = budget.checked_sub(cost).ok_or(Stopped::Budget)?;
        }
        Ok(value.map_err(|fault| format!("expression '{}' resulted in error: {}", expression.text, fault.text())))
    }
}

/// `authorizer` and `authorizer.requestResource`.
fn authorizers<'a>(inputs: Inputs<'a>) -> [Option<Val<'a>>; 2] {
    let Some(access) = inputs.access else { return [None, None] };
    let inquiry = |question| Inquiry { access: expressions::Access(access.permissions()), subject: Subject::Requester, question };
    let resource = Val::named(Named::ResourceCheck(inquiry(access.request_resource())));
    [Some(Val::named(Named::Authorizer(inquiry(Question::default())))), Some(resource)]
}

/// How much work may be done on this thread.
pub struct Effort {
    tentative: bool,
    meter: Meter,
}

impl Effort {
    /// What a request may cost.
    pub fn of_request() -> Self {
        Effort::new(false)
    }

    fn new(tentative: bool) -> Self {
        let meter = if tentative { Meter::tentative(MOST_PER_EXPRESSION) } else { Meter::new(MOST_PER_EXPRESSION) };
        Effort { tentative, meter }
    }

    /// The meter of the next policy or webhook: one for all while work is only tried. All share what a request's work is bounded to.
    pub fn begin(&mut self) -> &mut Meter {
        if !self.tentative {
            self.meter = self.meter.renewed();
        }
        &mut self.meter
    }
}

/// Work that may end early.
pub type Work<T> = Box<dyn FnOnce(&mut Effort) -> Result<T, Stopped> + Send>;

/// Tries work here, and does it on a thread of its own if it takes too long; `owned` makes the same work out of what it owns.
pub async fn in_time<T: Send + 'static>(here: impl FnOnce(&mut Effort) -> Result<T, Stopped>, owned: impl FnOnce() -> Work<T>) -> T {
    if let Ok(done) = here(&mut Effort::new(true)) {
        return done;
    }
    let work = owned();
    let done = aside::compute(aside::SMALL + 1, move || work(&mut Effort::new(false))).await;
    done.unwrap_or_else(|_| unreachable!("only work that is tried ends early"))
}

/// One of several parts of work, by position.
pub type Part<T> = Arc<dyn Fn(usize, &mut Effort) -> Result<T, Stopped> + Send + Sync>;

/// The same for work of as many `parts`: what takes too long here is done part by part, and others have their turns between them.
pub async fn in_turns<T: Send + 'static>(
    parts: usize,
    here: impl FnOnce(&mut Effort) -> Result<Vec<T>, Stopped>,
    owned: impl FnOnce() -> Part<T>,
) -> Vec<T> {
    if let Ok(done) = here(&mut Effort::new(true)) {
        return done;
    }
    let part = owned();
    let (mut effort, mut all) = (Effort::new(false), Vec::with_capacity(parts));
    for at in 0..parts {
        // A call that runs aside has a place, which others have first if they wait for one.
        aside::elsewhere(future::ready(())).await;
        let part = part.clone();
        let work = move || {
            let done = part(at, &mut effort);
            (done, effort)
        };
        let (done, after) = aside::compute(aside::SMALL + 1, work).await;
        effort = after;
        all.push(done.unwrap_or_else(|_| unreachable!("only work that is tried ends early")));
    }
    all
}

/// A part of work that goes on with what those before it left, by position.
pub type Sequel<T> = Arc<dyn Fn(usize, T, &mut Effort) -> Result<T, Stopped> + Send + Sync>;

/// The same for parts that each go on with what the one before left. Also gives what the request may still cost.
pub async fn in_sequence<T: Send + 'static>(
    mut effort: Effort,
    parts: Range<usize>,
    here: impl FnOnce(&mut Effort) -> Result<T, Stopped>,
    owned: impl FnOnce() -> (T, Sequel<T>),
) -> (T, Effort) {
    if let Ok(done) = here(&mut Effort::new(true)) {
        return (done, effort);
    }
    let (mut made, part) = owned();
    for at in parts {
        aside::elsewhere(future::ready(())).await;
        let part = part.clone();
        let work = move || {
            let done = part(at, made, &mut effort);
            (done, effort)
        };
        let (done, after) = aside::compute(aside::SMALL + 1, work).await;
        made = done.unwrap_or_else(|_| unreachable!("only work that is tried ends early"));
        effort = after;
    }
    (made, effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_go_on_with_what_was_made_and_share_a_bound() {
        let owned = || -> (Vec<bool>, Sequel<Vec<bool>>) {
            let part: Sequel<Vec<bool>> = Arc::new(|_: usize, mut all: Vec<bool>, effort: &mut Effort| {
                all.push(effort.begin().work(200 << 20).is_ok());
                Ok(all)
            });
            (Vec::new(), part)
        };
        let (done, effort) = in_sequence(Effort::of_request(), 0..3, |_| Err(Stopped::TooLong), owned).await;
        assert_eq!(done, [true, true, false]);
        let (done, _) = in_sequence(effort, 3..4, |_| Err(Stopped::TooLong), owned).await;
        assert_eq!(done, [false], "nothing is left for those behind");
    }

    #[tokio::test]
    async fn long_work_is_done_part_by_part_within_one_bound() {
        let part = || -> Part<(usize, bool)> { Arc::new(|at: usize, effort: &mut Effort| Ok((at, effort.begin().work(200 << 20).is_ok()))) };
        let done = in_turns(4, |_| Err(Stopped::TooLong), part).await;
        assert_eq!(done, [(0, true), (1, true), (2, false), (3, false)]);
        assert_eq!(in_turns(1, |_| Ok(vec![(7, true)]), part).await, [(7, true)], "what is quick is done here");
    }
}
