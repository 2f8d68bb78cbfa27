//! The functions of the language and of its libraries, as upstream has them (`k8s.io/apiserver/pkg/cel/environment/base.go`).

mod addresses;
mod arithmetic;
pub mod authorization;
mod comparisons;
mod conversions;
mod formats;
mod formatting;
pub mod lists;
mod optionals;
pub mod patterns;
mod quantities;
mod sets;
mod texts;
pub mod times;
pub mod urls;
mod versions;

use std::{collections::HashMap, fmt, sync::LazyLock};

use regex::Regex;

use super::{
    meter::{Fault, Meter},
    types::{Overload, overload},
    values::{Named, Val},
};

/// The value of a quantity that is written in a document.
pub fn parsed_quantity(text: &str) -> Option<Val<'static>> {
    quantities::parse(text).map(|nanos| Val::named(Named::Quantity(nanos)))
}

/// The value of a semantic version that is written in a document.
///
/// # Errors
/// What is wrong with it.
pub fn parsed_version(text: &str) -> Result<Val<'static>, String> {
    versions::parse(text).map(|version| Val::named(Named::Semver(version)))
}

/// What a function has beside its arguments.
pub struct Context<'c> {
    pub meter: &'c mut Meter,
    /// The pattern that is written down in the call.
    pub pattern: Option<&'c Regex>,
}

/// How functions are named that there are only where patches are made.
pub const OF_PATCHES: &str = "jsonpatch.";

type Run = for<'a> fn(&[Val<'a>], &mut Context<'_>) -> Result<Val<'a>, Fault>;

/// A function with all the ways to call it. The target of a call is its first argument.
pub struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub run: Run,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A row of a library's table: a name, what it does, and its overloads by name and signature.
type Row = (&'static str, Run, &'static [(&'static str, &'static str)]);

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let tables = [
        arithmetic::FUNCTIONS,
        comparisons::FUNCTIONS,
        conversions::FUNCTIONS,
        texts::FUNCTIONS,
        lists::FUNCTIONS,
        sets::FUNCTIONS,
        patterns::FUNCTIONS,
        times::FUNCTIONS,
        quantities::FUNCTIONS,
        urls::FUNCTIONS,
        addresses::FUNCTIONS,
        authorization::FUNCTIONS,
        versions::FUNCTIONS,
        formats::FUNCTIONS,
        optionals::FUNCTIONS,
    ];
    let mut functions: HashMap<&'static str, Function> = HashMap::new();
    for (name, run, overloads) in tables.into_iter().flatten() {
        let overloads = overloads.iter().map(|(id, signature)| overload(id, signature));
        // Libraries share names; whoever comes first runs them all.
        functions.entry(name).or_insert_with(|| Function { name, overloads: Vec::new(), run: *run }).overloads.extend(overloads);
    }
    functions
});

/// The function of that name.
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}
