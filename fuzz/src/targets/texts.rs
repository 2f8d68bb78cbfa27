//! Short texts with a grammar of their own.

use jiff::{Timestamp, tz::TimeZone};
use troupe_api::{
    meta::{FieldSelector, LabelSelector, Quantity},
    resources::cron as schedules,
};

use crate::budget;

/// What is printed parses to the same.
pub fn label_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = budget::hold(data.len(), || LabelSelector::parse(text)) else { return };
    let printed = selector.to_string();
    let again = LabelSelector::parse(&printed).expect("what is printed parses");
    assert_eq!(again.to_string(), printed);
    for labels in [vec![], vec![("a", "b")], vec![("a", ""), ("x/y", "1")]] {
        let find = |name: &str| labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value);
        assert_eq!(again.matches_with(find), selector.matches_with(find), "{text:?} selects other objects when it is printed");
    }
}

pub fn field_selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = budget::hold(data.len(), || FieldSelector::parse(text)) else { return };
    // No field has such a path; whoever asks for one is refused later.
    if selector.terms.iter().any(|(path, ..)| path.contains(|character: char| !character.is_alphanumeric() && character != '.')) {
        return;
    }
    let printed = selector.to_string();
    let again = FieldSelector::parse(&printed).expect("what is printed parses");
    assert_eq!(again, selector, "as {printed:?}");
}

/// The canonical form parses to the same quantity, and is canonical.
pub fn quantity(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(quantity) = budget::hold(data.len(), || Quantity::parse(text)) else { return };
    let canonical = quantity.to_string();
    let again = Quantity::parse(&canonical).expect("the canonical form parses");
    assert_eq!(again.to_string(), canonical, "of {text:?}");
    assert!(again.cmp(&quantity).is_eq(), "{text:?} is not {canonical:?}");
    let (_, _, _) = (quantity.value(), quantity.milli_value(), quantity.as_f64());
}

/// The next time lies ahead, and is found soon.
pub fn cron(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(schedule) = budget::hold(data.len(), || schedules::parse(text)) else { return };
    for begin in [Timestamp::UNIX_EPOCH, "2026-02-28T23:59:59Z".parse().expect("a time"), Timestamp::MAX] {
        let next = budget::hold(data.len(), || schedule.next(begin, &TimeZone::UTC));
        assert!(next.is_none_or(|next| next > begin), "{text:?} after {begin}");
    }
}
