//! What becomes of a flag of upstream's that has no setting here.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// It is taken with these values, which say what holds here anyway; what to do for others.
    Always(&'static [&'static str], &'static str),
    /// What to do instead.
    Never(&'static str),
    /// What it is called here, without the dashes.
    Named(&'static str),
}
