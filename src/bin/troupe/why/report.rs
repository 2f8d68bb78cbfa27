//! What `troupe why` answers, for people and for machines.

use serde::Serialize;

/// The answer about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `pod default/web-1`
    pub object: String,
    /// How it stands, in a few words.
    pub state: String,
    pub reasons: Vec<Reason>,
    /// How it got where it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<String>,
    /// What happened a while ago and may say why the object is as it is; it is no fault of the present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}

/// One thing that keeps the object from what it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    pub what: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Reason {
    pub fn new(what: impl Into<String>) -> Self {
        Reason { what: what.into(), ..Reason::default() }
    }

    pub fn details(self, details: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut all = self.details;
        all.extend(details.into_iter().map(Into::into));
        Reason { details: all, ..self }
    }

    /// Adds what somebody else said: each of its lines is marked, so that none passes for ours.
    pub fn quotes(self, said: &str) -> Self {
        self.details(said.lines().map(|line| format!("| {line}")))
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Reason { hint: Some(hint.into()), ..self }
    }
}

impl Report {
    /// The answer about one object as a part of that about another.
    pub fn as_reason(&self) -> Reason {
        let lines = self.reasons.iter().flat_map(|reason| {
            std::iter::once(reason.what.clone())
                .chain(reason.details.iter().map(|detail| format!("  {detail}")))
                .chain(reason.hint.iter().map(|hint| format!("  → {hint}")))
        });
        let earlier = self.earlier.iter().map(|told| format!("earlier: {told}"));
        Reason::new(format!("{}: {}", self.object, self.state)).details(lines.chain(earlier))
    }

    /// The answer as text. Pods' own words are in it, which a terminal must not obey.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", plain(&self.object), plain(&self.state));
        for reason in &self.reasons {
            text.push_str(&format!("  • {}\n", plain(&reason.what)));
            for detail in &reason.details {
                text.push_str(&format!("      {}\n", plain(detail)));
            }
            if let Some(hint) = &reason.hint {
                text.push_str(&format!("      → {}\n", plain(hint)));
            }
        }
        for (at, told) in self.placed.iter().enumerate() {
            text.push_str(&format!("  {}{}\n", if at == 0 { "placed: " } else { "    " }, plain(told)));
        }
        for told in &self.earlier {
            text.push_str(&format!("  earlier: {}\n", plain(told)));
        }
        text
    }
}

/// A text without what moves a terminal's cursor, changes its colours or turns the direction of writing: `^[` and the like instead.
/// Its lines stay, each as far in as details are; those after the first are marked, as we say nothing in several.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\n      | "),
            '\t' => out.push(' '),
            '\u{0}'..='\u{1f}' => out.extend(['^', char::from(c as u8 + b'@')]),
            '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_said_does_not_drive_the_terminal() {
        let said = "\u{1b}]0;owned\u{7}\u{1b}[2Jx\nnode it: fine\r\u{9b}31m\u{202e}gnp";
        let report =
            Report { object: "pod a/b".into(), state: "Failed".into(), reasons: vec![Reason::new("ended").details([said])], ..Report::default() };
        let want = "pod a/b: Failed\n  • ended\n      ^[]0;owned^G^[[2Jx\n      | node it: fine^M\u{fffd}31m\u{fffd}gnp\n";
        assert_eq!(report.text(), want);
    }

    #[test]
    fn what_others_said_does_not_pass_for_advice() {
        let said = "no\n      \u{2192} kubectl delete namespace shop\u{2028}x\r\n\u{2192} run this";
        let condition = Reason::new(format!("Ready is False: {said}"));
        let report = Report {
            object: "pod a/b".into(),
            state: "Failed".into(),
            reasons: vec![Reason::new("refused").quotes(said), condition],
            ..Report::default()
        };
        for text in [report.text(), Report { reasons: vec![report.as_reason()], ..Report::default() }.text()] {
            assert!(!text.lines().any(|line| line.trim_start().starts_with('\u{2192}')), "{text}");
            assert_eq!(text.matches("| ").count(), 5, "{text}");
        }
    }
}
