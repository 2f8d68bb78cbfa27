//! For tests: whether work grows as its input does.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How much larger the large input is.
const TIMES: usize = 16;
/// Linear work takes [`TIMES`] as long, quadratic work [`TIMES`] squared: this is far from both.
const LIMIT: u32 = 80;

/// Rounds after which enough was seen; what else the machine does may lengthen some.
const ROUNDS: usize = 15;

/// Panics where `work` on sixteen times `small` items takes far more than sixteen times as long.
pub fn assert_linear<I>(small: usize, input: impl Fn(usize) -> I, work: impl Fn(&I)) {
    let took = |input: &I| {
        let begun = worked();
        work(input);
        (worked() - begun).max(Duration::from_micros(50))
    };
    let (little, much) = (input(small), input(TIMES * small));
    let (mut few, mut many) = (took(&little), took(&much));
    for _ in 1..ROUNDS {
        if many < few * LIMIT {
            return;
        }
        (few, many) = (few.min(took(&little)), many.min(took(&much)));
    }
    assert!(many < few * LIMIT, "{small} items take {few:?}, {} take {many:?}", TIMES * small);
}

/// How long this thread has worked: what it waited for others does not count.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("threads have clocks").into()
}
