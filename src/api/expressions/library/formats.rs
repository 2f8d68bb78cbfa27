//! Formats of texts that have a name (`k8s.io/apiserver/pkg/cel/library/format.go`).

use super::{Context, Row};
use crate::{
    expressions::{
        meter::Fault,
        url,
        values::{Format, Named, Val, no_overload},
    },
    formats,
    meta::names,
};

static FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", check: |text| names::label(text, false), pattern_length: 30 },
    Format { name: "dns1123Subdomain", check: |text| names::subdomain(text, false), pattern_length: 60 },
    Format { name: "dns1035Label", check: |text| names::dns_1035_label(text, false), pattern_length: 30 },
    Format { name: "qualifiedName", check: names::qualified, pattern_length: 60 },
    Format { name: "dns1123LabelPrefix", check: |text| names::label(text, true), pattern_length: 30 },
    Format { name: "dns1123SubdomainPrefix", check: |text| names::subdomain(text, true), pattern_length: 60 },
    Format { name: "dns1035LabelPrefix", check: |text| names::dns_1035_label(text, true), pattern_length: 30 },
    Format { name: "labelValue", check: names::label_value, pattern_length: 40 },
    Format { name: "uri", check: |text| url::parse(text).err().into_iter().collect(), pattern_length: 1129 },
    Format { name: "uuid", check: |text| known(text, "uuid", "does not match the UUID format"), pattern_length: 67 },
    Format { name: "byte", check: |text| known(text, "byte", "invalid base64"), pattern_length: 83 },
    Format { name: "date", check: |text| known(text, "date", "invalid date"), pattern_length: 83 },
    Format { name: "datetime", check: |text| known(text, "datetime", "invalid datetime"), pattern_length: 83 },
];

pub(super) const FUNCTIONS: &[Row] = &[
    ("validate", validate, &[("format-validate", "format.(string) -> optional(list(string))")]),
    ("format.named", named, &[("format-named", "(string) -> optional(format)")]),
    ("format.dns1123Label", |_, _| Ok(of(0)), &[("format.dns1123Label", "() -> format")]),
    ("format.dns1123Subdomain", |_, _| Ok(of(1)), &[("format.dns1123Subdomain", "() -> format")]),
    ("format.dns1035Label", |_, _| Ok(of(2)), &[("format.dns1035Label", "() -> format")]),
    ("format.qualifiedName", |_, _| Ok(of(3)), &[("format.qualifiedName", "() -> format")]),
    ("format.dns1123LabelPrefix", |_, _| Ok(of(4)), &[("format.dns1123LabelPrefix", "() -> format")]),
    ("format.dns1123SubdomainPrefix", |_, _| Ok(of(5)), &[("format.dns1123SubdomainPrefix", "() -> format")]),
    ("format.dns1035LabelPrefix", |_, _| Ok(of(6)), &[("format.dns1035LabelPrefix", "() -> format")]),
    ("format.labelValue", |_, _| Ok(of(7)), &[("format.labelValue", "() -> format")]),
    ("format.uri", |_, _| Ok(of(8)), &[("format.uri", "() -> format")]),
    ("format.uuid", |_, _| Ok(of(9)), &[("format.uuid", "() -> format")]),
    ("format.byte", |_, _| Ok(of(10)), &[("format.byte", "() -> format")]),
    ("format.date", |_, _| Ok(of(11)), &[("format.date", "() -> format")]),
    ("format.datetime", |_, _| Ok(of(12)), &[("format.datetime", "() -> format")]),
];

fn known(text: &str, name: &str, fault: &str) -> Vec<String> {
    if formats::format(name).is_none_or(|is| is(text)) { Vec::new() } else { vec![fault.to_owned()] }
}

fn of<'a>(at: usize) -> Val<'a> {
    Val::named(Named::Format(&FORMATS[at]))
}

fn named<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Result<Val<'a>, Fault> {
    let [Val::String(name)] = args else { return Err(no_overload()) };
    let found = FORMATS.iter().position(|format| *format.name == **name);
    Ok(found.map_or(Val::Optional(None), |at| Val::some(of(at))))
}

fn validate<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Result<Val<'a>, Fault> {
    let [Val::Named(named), Val::String(text)] = args else { return Err(no_overload()) };
    let Named::Format(format) = &**named else { return Err(no_overload()) };
    context.meter.allocate(4 * text.len())?;
    let faults = (format.check)(text);
    Ok(if faults.is_empty() { Val::Optional(None) } else { Val::some(Val::list(faults.into_iter().map(Val::text).collect())) })
}
