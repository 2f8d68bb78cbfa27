//! Expressions that select devices, in device classes and in claims (KEP-4381, `k8s.io/dynamic-resource-allocation/cel`).
//!
//! An expression sees one variable, `device`: the name of its driver, whether it may be allocated several times, and attributes and
//! capacities by domain and name. What has no domain has the driver's. A domain that a device has nothing of is an empty map.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};

use crate::expressions::{
    Declaration, Environment, Failure, Fault, Field, Made, Map, Meter, ObjectType, Program, QUANTITY, Shape, Type, Val, parsed_quantity,
    parsed_version,
};

/// What an evaluation may cost, and what it may be estimated to cost (`CELSelectorExpressionMaxCost`).
pub const MOST_COST: u64 = 1_000_000;
/// Attributes and capacities that a device may have.
const MOST_ENTRIES: u64 = 32;
/// The longest value of an attribute.
const LONGEST_VALUE: u64 = 64;
const LONGEST_DRIVER: u64 = 63;

static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let value = Declaration { ty: Type::Any, shape: Shape::Any, nullable: false, most: LONGEST_VALUE, least: 1 };
    let by_domain = |values| Declaration::map(Declaration::map(values, MOST_ENTRIES), MOST_ENTRIES);
    let fields = [
        ("driver", Declaration::plain(Type::String, LONGEST_DRIVER, 2)),
        ("allowMultipleAllocations", Declaration::plain(Type::Bool, 1, 4)),
        ("attributes", by_domain(value)),
        ("capacity", by_domain(Declaration::plain(QUANTITY, 0, 2))),
    ];
    let field = |(name, declaration): (&str, Declaration)| (name.into(), Field { name: name.into(), declaration });
    let device = ObjectType { name: "kubernetes.DRADevice".into(), fields: fields.into_iter().map(field).collect() };
    Environment { binds: true, ..Environment::default() }.with("device", Arc::new(Declaration::object(Arc::new(device), 2)))
});

/// A compiled expression.
#[derive(Debug)]
pub struct DeviceSelector(Program);

impl DeviceSelector {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, as upstream words it.
    pub fn compile(text: &str) -> Result<Self, String> {
        let program = Program::compile_any(text, &ENVIRONMENT).map_err(|failure| match failure {
            Failure::Compilation(why) => format!("compilation failed: {why}"),
            Failure::Instantiation(why) => format!("program instantiation failed: {why}"),
            Failure::WrongType(found) => wrong_type(&found),
        })?;
        // An attribute may be true or false, which is known only when it is looked at.
        if !matches!(program.ty(), Type::Bool | Type::Any) {
            return Err(wrong_type(&program.ty().declared_name()));
        }
        Ok(DeviceSelector(program))
    }

    /// Whether an evaluation may cost more than is allowed.
    pub fn is_too_complex(&self) -> bool {
        self.0.cost.most > MOST_COST
    }

    /// Whether a driver's device is selected.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub fn matches(&self, driver: &str, device: &Device) -> Result<bool, String> {
        self.matches_within(driver, device, MOST_COST).verdict.unwrap_or_else(|| Err(Fault::Limit.text().to_owned()))
    }

    /// The same for who has time for no more than `most` units of cost, of which about ten million take a second. An evaluation that reaches
    /// [`MOST_COST`] is an error however much more there is time for.
    pub fn matches_within(&self, driver: &str, device: &Device, most: u64) -> Judged {
        let value = match value_of(driver, device) {
            Ok(value) => value,
            Err(why) => return Judged { verdict: Some(Err(why)), cost: 0 },
        };
        let mut meter = Meter::quick(most.min(MOST_COST));
        let verdict = match self.0.evaluate(&[Some(value)], &mut meter) {
            Ok(Val::Bool(selected)) => Some(Ok(selected)),
            Ok(other) => Some(Err(format!("CEL result of type {} could not be converted to bool", other.type_name()))),
            Err(Fault::Limit) if most < MOST_COST && meter.spent() > most => None,
            Err(fault) => Some(Err(fault.text().to_owned())),
        };
        Judged { verdict, cost: meter.spent() }
    }
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether the device is selected, or why that cannot be said; `None` if there was no time to find out.
    pub verdict: Option<Result<bool, String>>,
    /// What it cost.
    pub cost: u64,
}

fn wrong_type(found: &str) -> String {
    format!("must evaluate to bool or the unknown type, not {found}")
}

fn value_of<'a>(driver: &'a str, device: &'a Device) -> Result<Val<'a>, String> {
    let mut attributes = Vec::new();
    for (name, attribute) in device.attributes.iter().flatten() {
        attributes.push((name.as_str(), attribute_value(attribute).map_err(|why| format!("attribute {name}: {why}"))?));
    }
    let quantity = |text: &str| parsed_quantity(text).ok_or_else(|| format!("capacity {text:?} is no quantity"));
    let capacities = device.capacity.iter().flatten().map(|(name, capacity)| Ok((name.as_str(), quantity(&capacity.value.0)?)));
    let capacities = capacities.collect::<Result<Vec<_>, String>>()?;
    made(
        Made::default(),
        [
            ("driver", Val::borrowed(driver)),
            ("allowMultipleAllocations", Val::Bool(device.allow_multiple_allocations.unwrap_or(false))),
            ("attributes", by_domain(driver, attributes)?),
            ("capacity", by_domain(driver, capacities)?),
        ],
    )
}

fn attribute_value(attribute: &DeviceAttribute) -> Result<Val<'_>, String> {
    match attribute {
        DeviceAttribute { int: Some(value), .. } => Ok(Val::Int(*value)),
        DeviceAttribute { bool: Some(value), .. } => Ok(Val::Bool(*value)),
        DeviceAttribute { string: Some(value), .. } => Ok(Val::borrowed(value)),
        DeviceAttribute { version: Some(value), .. } => parsed_version(value).map_err(|why| format!("parse semantic version: {why}")),
        _ => Err("unsupported attribute value".to_owned()),
    }
}

/// Values in maps by their domains.
fn by_domain<'a>(driver: &'a str, mut values: Vec<(&'a str, Val<'a>)>) -> Result<Val<'a>, String> {
    let split = |name: &'a str| name.split_once('/').unwrap_or((driver, name));
    // A stable order keeps names of one domain together.
    values.sort_by_key(|(name, _)| split(name));
    let mut domains: Vec<(&str, Vec<(&str, Val<'_>)>)> = Vec::new();
    for (name, value) in values {
        let (domain, name) = split(name);
        match domains.last_mut() {
            Some((known, entries)) if *known == domain => {
                // A name with the driver's domain and the same without are one.
                entries.retain(|(other, _)| *other != name);
                entries.push((name, value));
            }
            _ => domains.push((domain, vec![(name, value)])),
        }
    }
    let domains = domains.into_iter().map(|(domain, entries)| Ok((domain, made(Made::default(), entries)?)));
    made(Made::with_default(Val::Map(Map::Made(Made::default().into()))), domains.collect::<Result<Vec<_>, String>>()?)
}

fn made<'a>(mut map: Made<'a>, entries: impl IntoIterator<Item = (&'a str, Val<'a>)>) -> Result<Val<'a>, String> {
    for (name, value) in entries {
        map.insert(Val::borrowed(name), value).map_err(|fault| fault.text().to_owned())?;
    }
    Ok(Val::Map(Map::Made(map.into())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device() -> Device {
        serde_json::from_value(json!({
            "name": "gpu-0",
            "attributes": {
                "model": {"string": "A100"},
                "other.example.com/index": {"int": 3},
                "ecc": {"bool": true},
                "driverVersion": {"version": "1.2.10-beta.1"},
            },
            "capacity": {"memory": {"value": "40Gi"}},
        }))
        .expect("a device")
    }

    fn selects(text: &str) -> Result<bool, String> {
        DeviceSelector::compile(text).expect(text).matches("gpu.example.com", &device())
    }

    #[test]
    fn a_device_is_selected_by_driver_attributes_and_capacity() {
        let holds = [
            "device.driver == 'gpu.example.com'",
            "device.attributes['gpu.example.com'].model == 'A100'",
            "device.attributes['other.example.com'].index > 2",
            "device.attributes['gpu.example.com'].ecc",
            "device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.2.9'))",
            "device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) == 0",
            "!device.allowMultipleAllocations",
            "!('index' in device.attributes['gpu.example.com'])",
            "!('none.example.com' in device.attributes)",
            "!has(device.attributes['none.example.com'].model)",
            "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.ecc && gpu.model.startsWith('A'))",
            "device.attributes['gpu.example.com'].exists(name, name == 'model')",
        ];
        for text in holds {
            assert_eq!(selects(text), Ok(true), "{text}");
        }
        assert_eq!(selects("device.attributes['gpu.example.com'].model == 'H100'"), Ok(false));
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        assert_eq!(selects("device.attributes['gpu.example.com'].absent == 1"), Err("no such key: absent".into()));
        assert_eq!(selects("device.attributes['gpu.example.com'].model"), Err("CEL result of type string could not be converted to bool".into()));
        let mut odd = device();
        odd.attributes.get_or_insert_default().insert("empty".into(), DeviceAttribute::default());
        let always = DeviceSelector::compile("true").expect("an expression");
        assert_eq!(always.matches("d", &odd), Err("attribute empty: unsupported attribute value".into()));
    }

    #[test]
    fn an_evaluation_ends_where_there_is_time_for_no_more() {
        let numbers = "[0,1,2,3,4,5,6,7,8,9]";
        let nested = format!("{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c >= 0)))");
        let selector = DeviceSelector::compile(&nested).expect("an expression");
        let short = selector.matches_within("gpu.example.com", &device(), 500);
        assert_eq!(short.verdict, None);
        assert!((501..1_000).contains(&short.cost), "{short:?}");
        let whole = selector.matches_within("gpu.example.com", &device(), MOST_COST);
        assert_eq!(whole.verdict, Some(Ok(true)));
        assert!(whole.cost > 3_000, "{whole:?}");
        let absent = DeviceSelector::compile("device.attributes['gpu.example.com'].absent == 1").expect("an expression");
        assert_eq!(absent.matches_within("gpu.example.com", &device(), 500).verdict, Some(Err("no such key: absent".into())));
    }

    #[test]
    fn expressions_are_judged_before_they_are_used() {
        let refused = |text: &str| DeviceSelector::compile(text).expect_err(text);
        assert_eq!(refused("1 + 1"), "must evaluate to bool or the unknown type, not int");
        assert_eq!(refused("dyn(true)"), "must evaluate to bool or the unknown type, not dyn");
        assert_eq!(refused("[dyn(true)][0]"), "must evaluate to bool or the unknown type, not dyn");
        assert!(refused("device.attributes['a'].b.all(x, x)").contains("expression of type 'any' cannot be range of a comprehension"));
        assert!(DeviceSelector::compile("true ? device.attributes['a'].b : device.attributes['a'].c").is_ok());
        assert!(refused("device.nothing == 1").starts_with("compilation failed: "));
        assert!(refused("noSuchVariable").contains("undeclared reference to 'noSuchVariable'"));
        let simple = DeviceSelector::compile("device.attributes['a'].b.matches('x.*')").expect("an expression");
        assert!(!simple.is_too_complex(), "{:?}", simple.0.cost);
        let over = |inner: &str| format!("device.attributes.all(d, device.attributes[d].all(a, {inner}))");
        let nested = over(&over("device.attributes.all(e, device.attributes[e].all(f, e + f != 'x'))"));
        let nested = DeviceSelector::compile(&nested.replacen("d,", "g,", 1).replacen("[d]", "[g]", 1).replacen("(a,", "(h,", 1));
        assert!(nested.expect("an expression").is_too_complex());
    }

    #[test]
    fn names_are_bound_only_where_that_is_allowed() {
        let elsewhere = Program::compile("cel.bind(x, 1, x == 1)", &Type::Bool, &Environment::default());
        assert!(matches!(elsewhere, Err(Failure::Compilation(why)) if why.contains("undeclared reference to 'bind'")));
    }
}
