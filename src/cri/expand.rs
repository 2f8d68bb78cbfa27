//! `$(VAR)` references in commands, arguments and environment values.

/// The environment and the arguments of a program are no larger than this together, in bytes: Linux gives them a quarter of the
/// stack, which is 8 MiB unless somebody changed it. References can ask for any amount: each variable may name another one twice.
pub const MOST: usize = 2 << 20;

/// What would be larger than there is room for.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("environment and arguments are larger than {MOST} bytes: no program can be started with them")]
pub struct TooLarge;

/// Takes the bytes of a text that a program is started with from what is left.
///
/// # Errors
/// When less is left.
pub fn take(room: &mut usize, bytes: usize) -> Result<(), TooLarge> {
    // With the byte at its end.
    *room = room.checked_sub(bytes.saturating_add(1)).ok_or(TooLarge)?;
    Ok(())
}

/// Replaces `$(NAME)` by its value. `$$` stands for one `$`; references to names that are not known stay as they are.
///
/// # Errors
/// When the outcome is longer than `most`; it is never made.
pub fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>, most: usize) -> Result<String, TooLarge> {
    let mut out = String::with_capacity(text.len().min(most));
    let mut put = |part: &str| -> Result<(), TooLarge> {
        if part.len() > most - out.len() {
            return Err(TooLarge);
        }
        out.push_str(part);
        Ok(())
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        put(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            put("$")?;
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => put(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(&mut put)?,
            }
            rest = after;
        } else {
            put("$")?;
        }
    }
    put(rest)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn known_names_are_replaced_and_the_rest_stays() {
        let values = HashMap::from([("A", "1"), ("E", "")]);
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(E)|", "|"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("100%", "100%"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, |name| values.get(name).copied(), MOST).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_grows_beyond_its_room_is_not_made() {
        let long = "x".repeat(1000);
        let value = |_: &str| Some(long.as_str());
        assert_eq!(expand("$(A)$(A)", value, 2000).map(|text| text.len()), Ok(2000));
        assert_eq!(expand("$(A)$(A)$", value, 2000), Err(TooLarge));
        assert_eq!(expand(&"$(A)".repeat(100_000), value, MOST), Err(TooLarge));
        let mut room = 5;
        assert_eq!((take(&mut room, 3), room), (Ok(()), 1));
        assert_eq!((take(&mut room, 1), take(&mut room, usize::MAX)), (Err(TooLarge), Err(TooLarge)));
    }
}
