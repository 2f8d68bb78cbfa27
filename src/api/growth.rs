//! For tests: whether work grows as its input does.

use std::time::{Duration, Instant};

/// How much larger the large input is.
const TIMES: usize = 16;
/// Linear work takes [`TIMES`] as long, quadratic work [`TIMES`] squared: this is far from both.
const LIMIT: u32 = 80;

/// Panics where `work` on sixteen times `small` items takes far more than sixteen times as long.
pub fn assert_linear<I>(small: usize, input: impl Fn(usize) -> I, work: impl Fn(&I)) {
    let fastest = |items| {
        let input = input(items);
        let took = |_| {
            let begun = Instant::now();
            work(&input);
            begun.elapsed()
        };
        (0..3).map(took).min().unwrap_or_default().max(Duration::from_micros(50))
    };
    let (few, many) = (fastest(small), fastest(TIMES * small));
    assert!(many < few * LIMIT, "{small} items take {few:?}, {} take {many:?}", TIMES * small);
}
