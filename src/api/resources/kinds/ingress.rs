//! Ingresses, their classes, and the address bookkeeping of services.

use serde_json::{Value, json};

use super::{created_at_cells, service::ingress_addresses, split_update, split_update_strictly};
use crate::{
    meta::{Clock, Object, names::NameRule},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, or_none, string},
        resource::{ALL_METADATA, age_of},
        tree::{child, fill, text},
        validation::{address, ingress, load_balancer, service_range, warnings},
    },
    status::FieldError,
};

/// The rules of ingresses.
#[derive(Default)]
pub struct Ingress;

impl Strategy for Ingress {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        ingress::ingress(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { load_balancer::of_ingress(new, old) } else { ingress::ingress_update(new, old) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::ingress(object)
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        warnings::load_balancer(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Class", "The name of the IngressClass resource that should be used for additional configuration"),
            string("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
            string("Address", "Address is a list containing ingress points for the load-balancer"),
            string("Ports", "Ports of TLS configurations that open"),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let ports = if object.list(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
        vec![
            object.name().into(),
            or_none(object.str(&["spec", "ingressClassName"])).into(),
            hosts(object.list(&["spec", "rules"])).into(),
            ingress_addresses(object).join(",").into(),
            ports.into(),
            age_of(object, clock).into(),
        ]
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut list = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= list.len() == 3;
        let host = text(rule, &["host"]);
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match (list.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", list.join(","), rules.len() - 3),
        (false, false) => list.join(","),
    }
}

/// The rules of ingress classes.
#[derive(Default)]
pub struct IngressClass;

impl Strategy for IngressClass {
    fn default_object(&self, object: &mut Object) {
        if let Some(parameters) = child(object.map_mut(&["spec"]), "parameters") {
            fill(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        ingress::ingress_class(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        ingress::ingress_class_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Controller", "Controller that is responsible for handling this class"),
            string("Parameters", "A reference to a resource with additional parameters"),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let default = object.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
        let parameters = match object.get(&["spec", "parameters"]) {
            Some(reference @ Value::Object(_)) => {
                let group = match text(reference, &["apiGroup"]) {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                format!("{}{group}/{}", text(reference, &["kind"]), text(reference, &["name"]))
            }
            _ => "<none>".to_owned(),
        };
        vec![
            format!("{}{}", object.name(), if default { " (default)" } else { "" }).into(),
            object.str(&["spec", "controller"]).into(),
            parameters.into(),
            age_of(object, clock).into(),
        ]
    }
}

/// The rules of IP addresses.
#[derive(Default)]
pub struct IpAddress;

impl Strategy for IpAddress {
    fn has_generation(&self) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        address::canonical_ip
    }

    fn prepare_create(&self, _object: &mut Object, _context: &WriteContext<'_>) {}

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        service_range::ip_address(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        service_range::ip_address_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("ParentRef", "The object that the address is allocated for.")]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let part = |field: &str| object.str(&["spec", "parentRef", field]);
        let group = if part("group").is_empty() { String::new() } else { format!(".{}", part("group")) };
        let parent = format!("{}{group}/{}/{}", part("resource"), part("namespace"), part("name"));
        vec![object.name().into(), parent.into()]
    }
}

/// The rules of service CIDRs.
#[derive(Default)]
pub struct ServiceCidr;

impl Strategy for ServiceCidr {
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        super::empty_status(object);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        ALL_METADATA
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update_strictly(new, old, context);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        service_range::service_cidr(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { Vec::new() } else { service_range::service_cidr_update(new, old) }
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("CIDRs", "The ranges that service addresses come from."), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let cidrs = object.list(&["spec", "cidrs"]).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        let mut cells = created_at_cells(object);
        cells[1] = cidrs.into();
        cells.push(age_of(object, clock).into());
        cells
    }
}
