//! What is counted of tokens of service accounts that are used, under upstream's names.

use crate::metrics::{Collect, Counter, Family};

static INVALID: Family<Counter> =
    Family::new("serviceaccount_invalid_legacy_auto_token_uses_total", "Cumulative invalid auto-generated legacy tokens used", &[]);
static AUTO: Family<Counter> = Family::new("serviceaccount_legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used", &[]);
static MANUAL: Family<Counter> = Family::new("serviceaccount_legacy_manual_token_uses_total", "Cumulative manually created legacy tokens used", &[]);
static LEGACY: Family<Counter> = Family::new("serviceaccount_legacy_tokens_total", "Cumulative legacy service account tokens used", &[]);
static STALE: Family<Counter> = Family::new("serviceaccount_stale_tokens_total", "Cumulative stale projected service account tokens used", &[]);
static VALID: Family<Counter> = Family::new("serviceaccount_valid_tokens_total", "Cumulative valid projected service account tokens used", &[]);

/// See the module.
pub static COLLECTORS: [&dyn Collect; 6] = [&INVALID, &AUTO, &MANUAL, &LEGACY, &STALE, &VALID];

/// A token out of a secret, whether it is taken or not.
pub(super) fn legacy() {
    LEGACY.with(&[]).increment();
}

/// One of a secret that is marked as invalid.
pub(super) fn invalidated() {
    INVALID.with(&[]).increment();
}

/// One that is taken: of a secret that was made for its service account, or by hand.
pub(super) fn taken(was_generated: bool) {
    let family = if was_generated { &AUTO } else { &MANUAL };
    family.with(&[]).increment();
}

/// A token of a pod that lives longer than it should be used: in time, or after it.
pub(super) fn projected(is_stale: bool) {
    let family = if is_stale { &STALE } else { &VALID };
    family.with(&[]).increment();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{parse::Samples, render};

    #[test]
    fn uses_are_on_the_page() {
        legacy();
        invalidated();
        for either in [true, false] {
            taken(either);
            projected(either);
        }
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        for name in
            ["invalid_legacy_auto_token_uses", "legacy_auto_token_uses", "legacy_manual_token_uses", "legacy_tokens", "stale_tokens", "valid_tokens"]
        {
            // Other tests of this process use tokens too.
            assert!(samples.value(&format!("serviceaccount_{name}_total"), &[]).is_some_and(|count| count >= 1.0), "{name}");
        }
    }
}
