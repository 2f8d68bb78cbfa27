//! Words that the language keeps for itself.

/// Words that no variable can be named by.
pub const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether the language keeps a word for itself, as a value or operator or for later.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word) || matches!(word, "true" | "false" | "null" | "in")
}
