use super::*;

#[test]
fn what_re2_takes_is_taken() {
    let good = [
        "",
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "a|b||c",
        "(?i)x(?P<n>y)(?<m>z)(?:w)(?s-i:v)",
        r"\d\D\s\S\w\W\pL\p{Greek}\P{^Lu}\A\z\b\B",
        r"\Q(*\E*",
        r"[]a]",
        r"[^]a-]",
        r"[[:alpha:][:^digit:]\d-]",
        r"\x41\x{10FFFF}\012\0\.\-\/",
        "a{",
        "a{,5}",
        "a{2}{",
        "^{{.*}}$",
        "a{1000}",
        "(a{10}){100}",
        "a{01}",
        r"[\d-z]",
        r"\Q",
        "(?P<n>a)(?P<n>b)",
        "(?)",
        "x{2}?",
        "x*?y+?z??",
        "[a-z&&b]",
        "[[]",
        "é+",
        r"[\]\\]",
        "a{0}",
        "a{1,}",
    ];
    for pattern in good {
        assert_eq!(fault(pattern), None, "{pattern}");
    }
}

#[test]
fn what_re2_refuses_is_refused_in_its_words() {
    let bad = [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[", "missing closing ]: `[`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("(|*)", "missing argument to repetition operator: `*`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+??", "invalid nested repetition operator: `+??`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{100}){100}", "invalid repeat count: `{100}`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
        ("(?P<a", "invalid named capture: `(?P<a`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        (r"\", "trailing backslash at end of expression: ``"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\p{1}", r"invalid character class range: `\p{1}`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\x4", r"invalid escape sequence: `\x4`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(((a{9}){9}){9}){9}", "invalid repeat count: `{9}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:vowel:]]", "invalid character class range: `[:vowel:]`"),
    ];
    for (pattern, why) in bad {
        assert_eq!(fault(pattern), Some(format!("error parsing regexp: {why}")), "{pattern}");
    }
}

#[test]
fn what_is_opened_a_hundred_thousand_times_and_never_closed_is_read_once() {
    for pattern in [format!("[{}", "[:".repeat(100_000)), "{".repeat(100_000), "a{1".repeat(100_000), "(?P<".repeat(100_000), "\\p{".repeat(100_000)]
    {
        let begun = std::time::Instant::now();
        let _ = fault(&pattern);
        assert!(begun.elapsed().as_secs() < 2, "{} {:?}", &pattern[..6], begun.elapsed());
    }
}
