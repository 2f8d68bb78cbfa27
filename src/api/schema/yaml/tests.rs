use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Result<Value, YamlError> {
    parse(text.as_bytes(), &mut Meter::new(text.len())).map(|(raw, _)| raw.into_value())
}

fn value(text: &str) -> Value {
    read(text).expect(text)
}

#[test]
fn scalars_mean_what_they_mean_upstream() {
    for (text, want) in [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("~", json!(null)),
        ("", json!(null)),
        ("0o17", json!(15)),
        ("017", json!(15)),
        ("08", json!(8)),
        ("0x1F", json!(31)),
        ("1_000", json!(1000)),
        ("-5", json!(-5)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1e3", json!(1000)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("1.2.3", json!("1.2.3")),
        ("500m", json!("500m")),
        ("'1'", json!("1")),
        ("!!str 1", json!("1")),
        ("!!int 7", json!(7)),
        ("!other 7", json!("7")),
        ("!!binary aGk=", json!("hi")),
        ("2001-12-14", json!("2001-12-14")),
        ("2001-1-1", json!("2001-1-1")),
        ("2001-12-14 21:59:43.10", json!("2001-12-14 21:59:43.10")),
        ("2001-12-14T21:59:43Z", json!("2001-12-14T21:59:43Z")),
        ("!!timestamp 2001-12-14", json!("2001-12-14")),
        ("!!float 7", json!(7)),
        ("-9223372036854775809", json!(-9_223_372_036_854_775_808.0)),
        ("+9223372036854775808", json!(9_223_372_036_854_775_808.0)),
        ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
        ("100_000_000_000_000_000_000", json!(1e20)),
        ("1234567890123456789.0", json!(1_234_567_890_123_456_800_i64)),
        ("-0x8000000000000001", json!("-0x8000000000000001")),
        ("--.inf", json!("--.inf")),
        (r#""it's\' '""#, json!(r"it's' '")),
        ("10.96.0.10", json!("10.96.0.10")),
        ("1-2", json!("1-2")),
    ] {
        assert_eq!(value(text), want, "{text}");
    }
    assert_eq!(value("{1e3: a, 1e20: b, .5: c, 7: d, -.inf: e}"), json!({"1000": "a", "1e+20": "b", "0.5": "c", "7": "d", "-.inf": "e"}));
}

#[test]
fn floats_are_printed_as_gos_json_prints_them() {
    let json = |text: &str| {
        let mut out = Vec::new();
        crate::meta::floats::write_json(&mut out, &value(text)).expect("encodes");
        String::from_utf8(out).expect("text")
    };
    for (text, want) in [
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("18446744073709551616", "18446744073709552000"),
        ("-9223372036854775809", "-9223372036854776000"),
        ("1e16", "10000000000000000"),
        ("0.0000001", "1e-7"),
    ] {
        assert_eq!(json(text), want, "{text}");
    }
}

#[test]
fn texts_that_are_no_yaml_are_refused_in_upstreams_words() {
    let why = |text: &str| read(text).expect_err(text).to_string();
    for (text, want) in [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("kind: Pod\nmetadata: name: x\n", "yaml: line 2: mapping values are not allowed in this context"),
        ("a:\n  b: 1\n c: 2\n", "yaml: line 2: did not find expected key"),
        ("a:\n- x\n  y: 1\n", "yaml: line 3: mapping values are not allowed in this context"),
        ("a:\n\tb: 1\n", "yaml: line 2: found character that cannot start any token"),
        ("a: @b\n", "yaml: found character that cannot start any token"),
        ("a: 1\nfoo\nb: 2\n", "yaml: line 3: could not find expected ':'"),
        ("a: [1\n", "yaml: line 1: did not find expected ',' or ']'"),
        ("a: 1\nb: 'x\n", "yaml: line 3: found unexpected end of stream"),
        ("a: 1\nb: \"\\q\"\n", "yaml: line 2: found unknown escape character"),
        ("a: 1\nb: \"x\n  \\/\"\n", "yaml: line 3: found unknown escape character"),
        ("a: *gone\n", "yaml: unknown anchor 'gone' referenced"),
        ("!!int x", "yaml: cannot decode !!str `x` as a !!int"),
        ("a: -.inf", "json: unsupported value: -Inf"),
    ] {
        assert_eq!(why(text), want, "{text}");
    }
    let bytes = |bytes: &[u8]| parse(bytes, &mut Meter::new(bytes.len())).map(drop).expect_err("is no text").to_string();
    assert_eq!(bytes(b"a: \xff"), "yaml: invalid leading UTF-8 octet");
    assert_eq!(bytes(b"a: \xc3x"), "yaml: invalid trailing UTF-8 octet");
    assert_eq!(bytes(b"a: \xe2\x82"), "yaml: incomplete UTF-8 octet sequence");
}

#[test]
fn naming_an_error_costs_no_more_than_reading_the_text() {
    for text in ["[".repeat(100_000), format!("a: b: c\n{}", "[".repeat(100_000)), format!("- x\n{}a: b: c", "- y\n".repeat(100_000))] {
        assert!(read(&text).is_err());
    }
    let apostrophes = format!("{}- \"\\q\"\n", "- \"\\'\"\n".repeat(50));
    assert!(read(&apostrophes).is_err());
    assert_eq!(value(&"- \"\\'\"\n".repeat(50)), json!(vec!["'"; 50]));
    assert!(read(&"- \"\\'\"\n".repeat(20_000)).is_err(), "nobody writes so many");
}

#[test]
fn documents_become_trees() {
    let text = "kind: Pod\nspec:\n  containers:\n  - name: a\n    args: [x, 'y']\n  - {name: b, ports: []}\n1: one\ntrue: t\ntext: |\n  a\n  b\n";
    let want = json!({"kind": "Pod", "spec": {"containers": [{"name": "a", "args": ["x", "y"]}, {"name": "b", "ports": []}]}, "1": "one", "true": "t", "text": "a\nb\n"});
    assert_eq!(value(text), want);
    assert_eq!(value("a: 1\n---\nb: 2\n"), json!({"a": 1}), "the first document counts");
    assert!(read("{a: 1").is_err());
    assert!(read("? [a]\n: b").is_err());
    assert!(parse(&[b'a', 0xff], &mut Meter::new(2)).is_err());
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts_and_strict_readers_are_told() {
    let read = |text: &str| {
        let (raw, problems) = parse(text.as_bytes(), &mut Meter::new(text.len())).expect(text);
        (raw.into_value(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let told = |line: u32, key: &str| format!("line {line}: key {key} already set in map");
    assert_eq!(read("a: 1\nb: 0\na: 2"), (json!({"a": 2, "b": 0}), vec![told(3, "\"a\"")]));
    assert_eq!(read("a:\n  b: 1\n  b: 2\n  b: 3\na:\n- c\n").1, [told(3, "\"b\""), told(4, "\"b\""), told(6, "\"a\"")]);
    assert_eq!(read("yes: 1\ntrue: 2\n7: 1\n0x7: 2\n"), (json!({"true": 2, "7": 2}), vec![told(2, "true"), told(4, "7")]));
    assert_eq!(read("x: &x {p: 1}\nz:\n  p: 2\n  <<: *x\n"), (json!({"x": {"p": 1}, "z": {"p": 1}}), vec![told(4, "\"p\"")]));
    assert_eq!(read(&"a: 1\n".repeat(1000)).1.len(), PROBLEM_LIMIT);
}

#[test]
fn aliases_and_merges_stand_for_what_they_name() {
    assert_eq!(value("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n"), json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3}}));
    assert_eq!(value("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}\n")["c"], json!({"p": 1, "q": 2}));
    assert_eq!(value("? &k name\n: 1\nv: *k\n*k : 2\n")["v"], json!("name"));
    assert!(read("a: &x [*x]").is_err(), "a value that contains itself");
    assert!(read("a: *gone").is_err());
    assert!(read("a: {<<: 1}").is_err());
}

/// Ten levels, each of which names the one before nine times.
fn bomb() -> String {
    let mut text = "l0: &l0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let names = vec![format!("*l{}", level - 1); 9].join(", ");
        text.push_str(&format!("l{level}: &l{level} [{names}]\n"));
    }
    text
}

#[test]
fn aliases_that_expand_to_too_much_are_refused() {
    assert!(matches!(read(&bomb()), Err(YamlError::Excess(Excess::Aliasing))));
    let long = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(20_000), "*a,".repeat(20_000));
    assert!(matches!(read(&long), Err(YamlError::Excess(Excess::Aliasing))));
}

#[test]
fn aliases_do_not_get_around_the_depth() {
    let mut text = "- &a0 [x]\n".to_owned();
    for level in 1..200 {
        text.push_str(&format!("- &a{level} [*a{}]\n", level - 1));
    }
    assert!(matches!(read(&text), Err(YamlError::Excess(_))));
    let nested = |depth: usize| format!("{}x{}", "[".repeat(depth), "]".repeat(depth));
    let text = format!("- &a {}\n- {}\n", nested(60), nested(50).replace('x', "*a"));
    assert!(matches!(read(&text), Err(YamlError::Excess(Excess::Depth))));
}

#[test]
fn deep_documents_are_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(MAX_DEPTH)).is_ok());
    assert!(read(&nested(MAX_DEPTH + 1)).is_err());
    assert!(read(&"[".repeat(1 << 20)).is_err());
    assert!(read(&"- ".repeat(1 << 19)).is_err());
    assert!(read(&"? ".repeat(1 << 19)).is_err());
}

#[test]
fn what_costs_more_than_its_text_is_worth_is_refused() {
    let dense = |item: &str| format!("[{}]", item.repeat((2 << 20) / item.len()));
    for item in ["{a: 0},", "[[0]],", "0,"] {
        assert!(matches!(read(&dense(item)), Err(YamlError::Excess(Excess::Cost))), "{item}");
    }
    assert!(read(&dense("some longer text that is worth its slot,")).is_ok());
}
