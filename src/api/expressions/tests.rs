//! Expressions by table, against a small document.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::resources::custom::validations;

fn schema() -> Value {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "f": {"type": "number"}, "s": text, "b": {"type": "boolean"}, "bytes": {"type": "string", "format": "byte"},
        "d": {"type": "string", "format": "duration"}, "t": {"type": "string", "format": "date-time"}, "date": {"type": "string", "format": "date"},
        "ns": {"type": "array", "items": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {
            "type": "object", "properties": {"k": text, "v": text, "w": text}}},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "either": {"x-kubernetes-int-or-string": true},
        "o": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "nullable": true}, "namespace": text, "x-y": text}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": text}},
    }})
}

fn document() -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": "default"},
        "n": 5, "f": 2.5, "s": "häuser", "b": true, "bytes": "QUI=", "d": "1h2m3s4ms", "t": "2011-08-18T19:03:37.01+01:00", "date": "1997-07-16",
        "ns": [1, 1, 2, 2, 3, 3, 4, 5], "set": ["a", "b", "c"],
        "ports": [{"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "w": "z"}],
        "m": {"x": 1, "y": 2}, "either": "25%", "o": {"a": 1, "b": null, "namespace": "here", "x-y": "dash"}, "free": {"known": "k", "other": 1},
    })
}

fn environment() -> Environment {
    let declared = validations::declaration(&schema(), true, "self").expect("an object");
    Environment::default().with("self", Arc::new(declared))
}

/// What an expression comes to, shown, with its cost.
fn evaluated(text: &str, wanted: &Type) -> Result<(String, u64), String> {
    let (environment, document) = (environment(), document());
    let program = Program::compile(text, wanted, &environment).map_err(|failure| match failure {
        Failure::Compilation(why) => why,
        Failure::WrongType(_) => "another type".to_owned(),
        Failure::Instantiation(why) => why,
    })?;
    let mut meter = Meter::new(1_000_000);
    let value = from_json(&document, &environment.variables[0].declaration).map_err(|fault| fault.text().to_owned())?;
    let found = program.evaluate(&[Some(value)], &mut meter).map_err(|fault| fault.text().to_owned())?;
    let shown = match found {
        Val::Bool(value) => value.to_string(),
        Val::String(text) => text.to_string(),
        other => other.type_name().to_owned(),
    };
    Ok((shown, meter.spent()))
}

fn why(text: &str) -> String {
    evaluated(text, &Type::Bool).expect_err(text)
}

#[test]
fn what_is_true_is_true() {
    for text in [
        // Numbers.
        "self.n == 5 && self.n != 6 && self.n > 4 && self.n <= 5 && 1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 % 4 == 3 && -7 / 2 == -3",
        "self.f == 2.5 && self.n > self.f && 1 < 1.5 && 2u + 3u == 5u && 0x1F == 31 && 1e3 == 1000.0 && -self.n == -5 && --self.n == 5",
        "double(self.n) / 2.0 == self.f && int(self.f) == 2 && string(self.f) == '2.5' && string(10.0) == '10' && uint(3) == 3u && int('12') == 12",
        "dyn(1) == dyn(1.0) && dyn(1) == dyn(1u) && dyn(1) != dyn('1') && 9007199254740993 > 9007199254740992.0",
        // Texts.
        "self.s == 'häuser' && size(self.s) == 6 && self.s.startsWith('h') && self.s.endsWith('er') && self.s.contains('us') && self.s + '!' == \"häuser!\"",
        "self.s.charAt(1) == 'ä' && self.s.indexOf('u') == 2 && self.s.indexOf('u', 3) == -1 && 'abcabc'.lastIndexOf('b') == 4 && 'abcabc'.lastIndexOf('b', 3) == 1",
        "self.s.substring(1, 3) == 'äu' && ' a '.trim() == 'a' && 'aB'.upperAscii() == 'AB' && 'aB'.lowerAscii() == 'ab' && 'a-b-c'.replace('-', '', 1) == 'ab-c'",
        "'a b c'.split(' ') == ['a', 'b', 'c'] && 'a b c'.split(' ', 2) == ['a', 'b c'] && 'abc'.split('') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b'",
        "self.s.matches('^h.*r$') && !self.s.matches('^[0-9]*$') && 'abc 123'.find('[0-9]+') == '123' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "'%d %s %.2f %x %b %s'.format([1, 'a', 1.0, 255, 5, [1, 2]]) == '1 a 1.00 ff 101 [1, 2]' && '%e'.format([3.14]) == '3.140000×10⁰⁰'",
        "r'\\d' == '\\\\d' && '''a'b''' == \"a'b\" && '\\u00e4' == 'ä' && b'\\x41' == b'A' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        // Bytes, times.
        "self.bytes == b'AB' && size(self.bytes) == 2 && string(self.bytes) == 'AB' && bytes('AB') == self.bytes",
        "self.d == duration('1h2m') + duration('3s4ms') && self.d.getMinutes() == 62 && string(self.d) == '3723.004s' && self.d > duration('1h')",
        "self.t == timestamp('2011-08-18T18:03:37.010Z') && self.t.getHours() == 18 && self.t.getHours('01:00') == 19 && self.t.getMonth() == 7",
        "string(self.t) == '2011-08-18T19:03:37.01+01:00' && self.date.getFullYear() == 1997 && self.t - duration('1s') < self.t && self.date.getDate() == 16",
        "timestamp('9999-12-31T23:59:59Z') > self.t && timestamp('9999-12-31T23:59:59Z') > timestamp('9999-12-30T21:00:00Z')",
        // Lists and maps.
        "size(self.ns) == 8 && self.ns[0] == 1 && 4 in self.ns && !(9 in self.ns) && self.ns.sum() == 21 && self.ns.max() == 5 && self.ns.min() == 1",
        "self.ns.isSorted() && self.ns.indexOf(2) == 2 && self.ns.lastIndexOf(2) == 3 && self.ns.distinct() == [1, 2, 3, 4, 5] && self.ns.reverse()[0] == 5",
        "self.ns.slice(0, 2) == [1, 1] && lists.range(3) == [0, 1, 2] && [[1], [2, 3]].flatten() == [1, 2, 3] && [3, 1, 2].sort() == [1, 2, 3]",
        "[-3, 1, -5, 4].sortBy(e, e * e) == [1, -3, 4, -5] && sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "self.set == ['c', 'b', 'a'] && self.set + ['c', 'd'] == ['a', 'b', 'c', 'd'] && self.ports == [self.ports[2], self.ports[0], self.ports[1]]",
        "'x' in self.m && self.m.x == 1 && self.m['y'] == 2 && self.m == {'y': 2, 'x': 1} && has(self.m.x) && !has(self.m.z) && size(self.m) == 2",
        // Macros.
        "self.ns.all(e, e > 0) && self.ns.exists(e, e > 4) && self.ns.exists_one(e, e > 4) && self.ns.filter(e, e > 3) == [4, 5]",
        "self.ns.map(e, e > 3, e * 2) == [8, 10] && self.m.all(k, self.m[k] > 0) && self.m.all(k, v, v > 0) && self.ns.all(i, e, i >= 0)",
        "self.m.transformMap(k, v, v + 1) == {'x': 2, 'y': 3} && self.ns.transformList(i, e, i < 2, e + i) == [1, 2]",
        "self.m.transformMapEntry(k, v, {k + '2': v}) == {'x2': 1, 'y2': 2} && self.ports.exists(p, p.w == 'z')",
        // Types and fields.
        "type(self.n) == int && type(self.s) == string && type(self.d) == google.protobuf.Duration && type(self.either) == string && type(null) == null_type",
        "self.either == '25%' && self.either != 1 && has(self.o.a) && !has(self.o.b) && self.o.__namespace__ == 'here' && self.o.x__dash__y == 'dash'",
        "self.metadata.name == 'one' && self.kind == 'Thing' && !has(self.metadata.generateName) && self.free.known == 'k'",
        "self.n == 5 ? true : 1 / 0 == 1",
        // What decides is enough.
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        // Optional values.
        "self.?n.orValue(0) == 5 && self.o.?b.orValue(7) == 7 && !self.m.?z.hasValue() && self.m[?'x'].value() == 1 && self.ns[?99].orValue(-1) == -1",
        "optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().hasValue() && [?optional.none(), ?optional.of(2)] == [2] && self.ns.first().value() == 1",
        // Libraries.
        "quantity('1Gi').isGreaterThan(quantity('1000Mi')) && quantity('50k').add(20) == quantity('50020') && isQuantity('1.5') && !isQuantity('x')",
        "quantity('2').asInteger() == 2 && quantity('1.5').asApproximateFloat() == 1.5 && quantity('-1').sign() == -1 && quantity('1').compareTo(quantity('2')) == -1",
        "url('https://user@[::1]:80/a b?k=v&k=w').getHostname() == '::1' && url('https://h/a b').getEscapedPath() == '/a%20b' && isURL('/x') && !isURL('x')",
        "url('https://h:1/?k=v&k=w').getQuery() == {'k': ['v', 'w']} && url('https://h:1/').getPort() == '1' && url('https://h').getScheme() == 'https'",
        "ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('::ffff:1.2.3.4') && ip('127.0.0.1').isLoopback() && ip.isCanonical('fd00::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').containsCIDR(cidr('10.0.0.0/9')) && cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('v1.2', true) && !isSemver('v1.2') && semver('1.0.0-a').compareTo(semver('1.0.0')) == -1",
        "!format.dns1123Label().validate('a-b').hasValue() && format.named('dns1123Label').value().validate('A').hasValue()",
    ] {
        assert_eq!(evaluated(text, &Type::Bool).map(|(shown, _)| shown), Ok("true".to_owned()), "{text}");
    }
}

#[test]
fn what_goes_wrong_is_told_in_upstreams_words() {
    for (text, wanted) in [
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + self.n > 0", "integer overflow"),
        ("self.ns[99] == 1", "index out of bounds: 99"),
        ("self.m.z == 1", "no such key: z"),
        ("self.m['z'] == 1", "no such key: z"),
        ("self.o.b == 1", "no such key: b"),
        ("self.either < 5", "no such overload"),
        ("self.s.substring(2, 1) == ''", "invalid substring range. start: 2, end: 1"),
        ("self.s.charAt(99) == ''", "index out of range: 99"),
        ("[1].slice(0, 5) == [1]", "cannot slice(0, 5), list is length 1"),
        ("self.ns.filter(e, e > 9).max() == 1", "max called on empty list"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("ip(self.s) == ip('::1')", "IP Address \"häuser\" parse error during conversion from string: ParseAddr(\"häuser\"): unable to parse IP"),
        (
            "self.ns.all(x, self.ns.all(y, self.ns.all(z, self.ns.all(a, self.ns.all(b, self.ns.all(c, c > 0))))))",
            "operation cancelled: actual cost limit exceeded",
        ),
    ] {
        assert_eq!(why(text), wanted, "{text}");
    }
}

#[test]
fn expressions_that_do_not_fit_are_refused_with_their_place() {
    for (text, wanted) in [
        ("self.z == 1", "ERROR: <input>:1:5: undefined field 'z'\n | self.z == 1\n | ....^"),
        ("self.o.z == 1", "ERROR: <input>:1:7: undefined field 'z'\n | self.o.z == 1\n | ......^"),
        ("this.n == 1", "ERROR: <input>:1:1: undeclared reference to 'this' (in container '')\n | this.n == 1\n | ^"),
        ("nothing(1)", "ERROR: <input>:1:8: undeclared reference to 'nothing' (in container '')\n | nothing(1)\n | .......^"),
        ("self.n == 'a'", "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(int, string)'\n | self.n == 'a'\n | .......^"),
        (
            "self.s.size(1) == 1",
            "ERROR: <input>:1:12: found no matching overload for 'size' applied to 'string.(int)'\n | self.s.size(1) == 1\n | ...........^",
        ),
        ("self.n && true", "ERROR: <input>:1:5: expected type 'bool' but found 'int'\n | self.n && true\n | ....^"),
        ("[1, 'a'] == [1]", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'] == [1]\n | ....^"),
        ("self = 42", "ERROR: <input>:1:6: Syntax error: token recognition error at: '= '\n | self = 42\n | .....^"),
        ("self.n ==", "ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting"),
        ("self.n > 1)", "ERROR: <input>:1:11: Syntax error: extraneous input ')' expecting <EOF>\n | self.n > 1)\n | ..........^"),
        ("self.n.x == 1", "ERROR: <input>:1:7: type 'int' does not support field selection\n | self.n.x == 1\n | ......^"),
        ("self.n.all(x, true)", "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension"),
        ("self.s.matches(')')", "ERROR: <input>:1:16: invalid matches argument\n | self.s.matches(')')\n | ...............^"),
        ("duration('1d') > self.d", "ERROR: <input>:1:10: invalid duration argument\n | duration('1d') > self.d\n | .........^"),
        ("timestamp('1000-00-00T00:00:00Z') < self.t", "ERROR: <input>:1:11: invalid timestamp argument"),
        ("has(self)", "ERROR: <input>:1:4: invalid argument to has() macro\n | has(self)\n | ...^"),
        ("self.o['a'] == 1", "ERROR: <input>:1:7: found no matching overload for '_[_]' applied to '(self.o, string)'"),
        ("self.free.other == 1", "ERROR: <input>:1:10: undefined field 'other'"),
        ("self.s == null", "ERROR: <input>:1:8: found no matching overload for '_==_' applied to '(string, null)'"),
        ("self.s\n  == 1", "ERROR: <input>:2:3: found no matching overload for '_==_' applied to '(string, int)'\n |   == 1\n | ..^"),
        ("self.n", "another type"),
        ("while == 1", "ERROR: <input>:1:1: Syntax error: reserved identifier: while"),
    ] {
        let found = why(text);
        assert!(found.starts_with(wanted), "{text}\n{found}\n{wanted}");
    }
}

/// The figures are those of upstream's tests.
#[test]
fn evaluation_costs_what_it_costs_upstream() {
    for (text, cost) in [
        ("self.n == 5", 3),
        ("double(self.n) < self.f", 6),
        ("double(5) < 10.0", 1),
        ("type(self.f) == double", 4),
        ("self.s.matches('^[^0-9]*$')", 5),
        ("size(self.s) == 6", 4),
        ("self.ns.all(e, e > 0)", 43),
        ("self.ns.exists(e, e > 2)", 36),
        ("self.ns.exists_one(e, e > 4)", 22),
        ("!self.ns.all(e, e < 2)", 21),
        ("!self.ns.exists(e, e < 0)", 52),
        ("size(self.ns.filter(e, e%2 == 0)) == 3", 68),
        ("self.ns.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)", 194),
        ("self.ns.transformList(i, e, e > 2, e * 2).size() > 0", 77),
        ("2 in self.ns", 10),
        ("self.ports.all(m, m.k.startsWith('a'))", 21),
        ("self.ports.all(m, !has(m.w) || m.w == 'z')", 21),
        ("self.ports.exists(m, m.w == 'z')", 24),
        ("self.m.all(k, self.m[k] > 0)", 17),
        ("optional.of('a').optMap(v, v == 'value').hasValue()", 8),
        ("self.o.?b == optional.none()", 4),
        ("has(self.ports[0].v)", 3),
        ("self.m.transformMap(k, v, v + 1).size() == 2", 15),
        ("self.m.transformMapEntry(k, v, {k + '2': v + 1}).size() == 2", 77),
        ("self.set + ['c', 'd'] == ['a', 'b', 'c', 'd']", 4),
        ("sets.equivalent(self.set, ['a', 'b', 'c'])", 21),
        ("self.o.__namespace__ in ['here', 'there']", 3),
        ("type(self.either) == int ? self.either == 1 : self.either == '25%'", 7),
    ] {
        assert_eq!(evaluated(text, &Type::Bool).map(|(_, cost)| cost), Ok(cost), "{text}");
    }
}

/// The figures are those of upstream's tests.
#[test]
fn estimates_are_upstreams() {
    for (text, cost) in [
        ("has(self.ports[0].v)", 3),
        ("self.ports.all(m, m.k.startsWith('a'))", 6_291_453),
        ("self.ports.all(m, !has(m.w) || m.w == 'z')", 8_388_603),
        ("self.ports.exists(m, m.k.endsWith('1'))", 7_340_028),
        ("self.ports.exists_one(m, m.k == 'a3')", 5_242_879),
        ("size(self.ports.filter(m, m.k == 'a1')) == 1", 16_777_215),
        ("self.ports.map(m, m.v).exists(v, v == 'b1')", 19_922_939),
        ("self.ports.filter(m, has(m.w) && m.w == 'z').map(m, m.w).size() == 1", 32_505_851),
        ("size(self.m) == 2", 4),
    ] {
        let program = Program::compile(text, &Type::Bool, &environment()).expect(text);
        assert_eq!(program.cost.most, cost, "{text}");
    }
}

#[test]
fn hostile_expressions_are_refused_or_come_to_an_end() {
    let deep = |open: &str, close: &str, count: usize| format!("{}1{} == 1", open.repeat(count), close.repeat(count));
    for text in [
        deep("(", ")", 100_000),
        deep("[", "]", 100_000),
        deep("-(", ")", 100_000),
        format!("{}true", "!(".repeat(50_000)),
        format!("1{} == 1", " + 1".repeat(100_000)),
        format!("self{} == 1", ".o".repeat(100_000)),
        format!("true{}", " ? true : true".repeat(100_000)),
        "'".to_owned(),
        "\"\\u12".to_owned(),
        "\\".to_owned(),
        "`".to_owned(),
        "1.".repeat(1000),
        "\u{0}\u{ffff}ä".to_owned(),
    ] {
        assert!(evaluated(&text, &Type::Bool).is_err(), "{}", &text[..text.len().min(20)]);
    }
    // As deep as it may be, on a stack as threads have it.
    let handle = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for depth in [95, 101, 245] {
            assert_eq!(evaluated(&deep("(", ")", depth), &Type::Bool).map(|(shown, _)| shown), Ok("true".to_owned()), "{depth}");
        }
        assert!(why(&deep("(", ")", 251)).contains("recursion limit exceeded: 250"));
        assert!(evaluated(&format!("{}1{}.size() == 1", "[".repeat(95), "]".repeat(95)), &Type::Bool).is_ok());
        assert!(why(&deep("[", "]", 101)).contains("recursion limit exceeded: 100"));
        let long = format!("{}true", "true && ".repeat(20_000));
        assert!(evaluated(&long, &Type::Bool).is_ok());
        let chain = format!("{}self.b", "self.b == ".repeat(240));
        assert!(evaluated(&chain, &Type::Bool).is_ok());
        let nested = (0..40).fold("true".to_owned(), |inner, at| format!("[1].all(x{at}, {inner})"));
        assert!(evaluated(&nested, &Type::Bool).is_ok());
    });
    handle.expect("a thread").join().expect("no overflow");
}

#[test]
fn neither_time_nor_memory_is_without_bound() {
    let begun = std::time::Instant::now();
    let doubled = (0..40).fold("'aaaaaaaaaaaaaaaa'".to_owned(), |inner, at| format!("[{inner}].map(x{at}, x{at} + x{at})[0]"));
    assert_eq!(why(&format!("{doubled} == ''")), "operation cancelled: actual cost limit exceeded");
    let replaced = (0..12).fold("'aaaaaaaaaaaaaaaa'".to_owned(), |inner, at| format!("[{inner}].map(x{at}, x{at}.replace('', x{at}))[0]"));
    assert_eq!(why(&format!("{replaced} == ''")), "operation cancelled: actual cost limit exceeded");
    assert_eq!(why("lists.range(9223372036854775807).size() == 1"), "operation cancelled: actual cost limit exceeded");
    let listed = (0..40).fold("[1, 2]".to_owned(), |inner, at| format!("[{inner}].map(x{at}, x{at} + x{at})[0]"));
    assert_eq!(why(&format!("{listed} == [1]")), "operation cancelled: actual cost limit exceeded");
    let patterns = "lists.range(100000).exists(i, 'a'.matches('(a{1,50}){1,' + string(i) + '}b'))";
    assert!(evaluated(patterns, &Type::Bool).is_err());
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn comparing_costs_what_is_compared_even_where_entries_are_shared() {
    let begun = std::time::Instant::now();
    let doubled = |times: usize| format!("[1]{}", ".map(x, [x, x])".repeat(times));
    let deep = doubled(22);
    for text in [format!("{deep} == {deep}"), format!("{deep} != {deep}"), format!("{deep} in [{deep}]"), format!("sets.contains({deep}, {deep})")] {
        assert_eq!(why(&text), "operation cancelled: actual cost limit exceeded");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    let cost = |times: usize| {
        let list = doubled(times);
        evaluated(&format!("{list} == {list}"), &Type::Bool).expect("it is cheap").1
    };
    let step = cost(4) - cost(3);
    assert_eq!(cost(8) - cost(7), step, "what is small costs what upstream says");
    assert!(cost(14) - cost(13) > 10_000, "what is large costs what it is");
}
