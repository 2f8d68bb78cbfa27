//! What is fuzzed: a function for every decoder, and for every rule, that takes bytes of others.
//!
//! Each of them holds its decoder to a budget of memory and time ([`budget`]), and checks what must be true of the result:
//! what decodes can be encoded and decodes again to the same, what is printed parses, a patch of nothing changes nothing.
//! The corpus is replayed by an ordinary test of the main workspace (`tests/fuzz`), which includes this file.

pub mod budget;
mod targets;

pub use targets::{TARGETS, run};

#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;
