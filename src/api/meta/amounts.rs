//! Amounts by resource name (`v1.ResourceList`) and their arithmetic.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::meta::Quantity;

/// Amounts by resource name, such as `requests.cpu: 500m`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a JSON map of quantities; what is no quantity is left out, validation refuses it elsewhere.
    pub fn read(value: Option<&Value>) -> Self {
        let fields = value.and_then(Value::as_object);
        let amounts = fields.into_iter().flatten().filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?)));
        Amounts(amounts.collect())
    }

    /// The JSON map, in canonical form.
    pub fn to_value(&self) -> Value {
        self.0.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect::<Map<_, _>>().into()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<Quantity> {
        self.0.get(name).copied()
    }

    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sets a whole number.
    pub fn count(&mut self, name: impl Into<String>, number: i64) {
        self.set(name, Quantity::from_value(number));
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds `other`, name by name.
    pub fn add(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += *amount;
        }
    }

    /// Raises each amount to at least that of `other`.
    pub fn raise(&mut self, other: &Amounts) {
        for (name, amount) in &other.0 {
            let known = self.0.get(name).copied();
            if known.is_none_or(|known| known < *amount) {
                self.set(name.clone(), *amount);
            }
        }
    }

    /// What is left of these amounts without `other`, never below zero; names of either side stay.
    pub fn less(&self, other: &Amounts) -> Amounts {
        let mut rest = self.clone();
        for (name, amount) in &other.0 {
            let left = rest.0.entry(name.clone()).or_default();
            *left -= *amount;
        }
        for amount in rest.0.values_mut().filter(|amount| amount.sign() < 0) {
            *amount = Quantity::default();
        }
        rest
    }

    /// Only the names that `keep` says.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Amounts {
        Amounts(self.0.iter().filter(|(name, _)| keep(name)).map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// Only the names that `other` has too.
    pub fn masked(&self, other: &Amounts) -> Amounts {
        self.only(|name| other.0.contains_key(name))
    }

    pub fn without_zeros(&self) -> Amounts {
        Amounts(self.0.iter().filter(|(_, amount)| !amount.is_zero()).map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// The names of amounts that are above those of `limit`.
    pub fn above(&self, limit: &Amounts) -> Vec<&str> {
        let over = self.0.iter().filter(|(name, amount)| limit.0.get(*name).is_some_and(|limit| *amount > limit));
        over.map(|(name, _)| name.as_str()).collect()
    }

    /// The names of amounts below zero.
    pub fn negative(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name.as_str()).collect()
    }
}

impl fmt::Display for Amounts {
    /// `cpu=1,memory=2Gi`, sorted by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, amount)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{name}={amount}")?;
        }
        Ok(())
    }
}

/// A quantity in JSON: text, or a bare number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amounts(value: Value) -> Amounts {
        Amounts::read(Some(&value))
    }

    #[test]
    fn amounts_add_subtract_and_compare_by_name() {
        let mut used = amounts(json!({"cpu": "500m", "pods": "1"}));
        used.add(&amounts(json!({"cpu": "600m", "memory": "1Gi"})));
        assert_eq!(used.to_string(), "cpu=1100m,memory=1Gi,pods=1");
        assert_eq!(used.above(&amounts(json!({"cpu": "1", "pods": "1"}))), ["cpu"]);
        assert_eq!(used.less(&amounts(json!({"cpu": "2", "pods": "1"}))).without_zeros().to_string(), "memory=1Gi");
        assert_eq!(used.masked(&amounts(json!({"pods": "9"}))).to_string(), "pods=1");
    }
}
