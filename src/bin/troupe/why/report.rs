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
        Reason::new(format!("{}: {}", self.object, self.state)).details(lines)
    }

    /// The answer as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.object, self.state);
        for reason in &self.reasons {
            text.push_str(&format!("  • {}\n", reason.what));
            for detail in &reason.details {
                text.push_str(&format!("      {detail}\n"));
            }
            if let Some(hint) = &reason.hint {
                text.push_str(&format!("      → {hint}\n"));
            }
        }
        text
    }
}
