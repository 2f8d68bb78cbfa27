use serde_json::json;

use super::*;
use crate::resources::validation::tests::{object, texts};

fn with(mut base: Value, change: &Value) -> Value {
    for (field, value) in change.as_object().into_iter().flatten() {
        base[field] = value.clone();
    }
    base
}

fn version(name: &str, change: &Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    with(json!({"name": name, "served": true, "storage": name == "v1", "schema": schema}), change)
}

fn definition(change: &Value) -> Object {
    let names = json!({"plural": "cats", "singular": "cat", "kind": "Cat", "listKind": "CatList"});
    let spec = json!({"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version("v1", &json!({}))],
        "conversion": {"strategy": "None"}});
    object(json!({"kind": "CustomResourceDefinition", "metadata": {"name": "cats.example.com"}, "spec": with(spec, change),
        "status": {"storedVersions": ["v1"]}}))
}

fn said(change: &Value) -> Vec<String> {
    texts(create(&definition(change)))
}

fn of_version(change: &Value) -> Vec<String> {
    said(&json!({"versions": [version("v1", change)]}))
}

/// What is said of a schema, after the path at which it stands.
fn of_schema(schema: Value) -> Vec<String> {
    let said = of_version(&json!({"schema": {"openAPIV3Schema": schema}}));
    said.into_iter().map(|text| text.replacen("spec.validation.openAPIV3Schema", "", 1)).collect()
}

/// What is said of a field's schema.
fn of_field(schema: Value) -> Vec<String> {
    let said = of_schema(json!({"type": "object", "properties": {"f": schema}}));
    said.into_iter().map(|text| text.replacen(".properties[f]", "", 1)).collect()
}

#[test]
fn a_definition_goes_by_its_plural_and_group() {
    assert_eq!(said(&json!({})), Vec::<String>::new());
    let name = "metadata.name: Invalid value: \"cats.example.com\": must be spec.names.plural+\".\"+spec.group";
    assert_eq!(said(&json!({"group": "example.org"})), [name]);
    assert_eq!(said(&json!({"group": "com"})), [name, "spec.group: Invalid value: \"com\": should be a domain with at least one dot"]);
    assert_eq!(said(&json!({"scope": ""})), ["spec.scope: Required value"]);
    assert_eq!(said(&json!({"scope": "World"})), ["spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\""]);
    let names = json!({"plural": "cats", "singular": "", "kind": "Cat", "listKind": "Cat", "shortNames": ["1"], "categories": ["A"]});
    let odd = said(&json!({"names": names}));
    assert_eq!(odd[0], "spec.names.singular: Required value");
    assert!(odd[1].starts_with("spec.names.shortNames[0]: Invalid value: \"1\": a DNS-1035 label"), "{odd:?}");
    assert_eq!(odd[2], "spec.names.listKind: Invalid value: \"Cat\": kind and listKind may not be the same");
    assert!(odd[3].starts_with("spec.names.categories[0]: Invalid value: \"A\": a DNS-1035 label"), "{odd:?}");
}

#[test]
fn groups_of_the_community_need_an_approval() {
    let of = |annotation: Option<&str>| {
        let mut object = definition(&json!({"group": "example.k8s.io"}));
        object.set(&["metadata", "name"], "cats.example.k8s.io");
        if let Some(text) = annotation {
            object.set(&["metadata", "annotations"], json!({"api-approved.kubernetes.io": text}));
        }
        texts(create(&object))
    };
    assert!(of(Some("https://example.com/1")).is_empty() && of(Some("unapproved, a test")).is_empty());
    let missing = "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \
                   \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
    assert_eq!(of(None), [missing]);
    assert!(of(Some("yes"))[0].starts_with("metadata.annotations[api-approved.kubernetes.io]: Invalid value: \"yes\": protected groups must have"));
}

#[test]
fn versions_have_names_and_one_of_them_stores() {
    let two = |first: &Value, second: &Value| said(&json!({"versions": [version("v1", first), version("v2", second)]}));
    assert!(two(&json!({}), &json!({})).is_empty());
    assert!(two(&json!({}), &json!({"storage": true}))[0].ends_with("must have exactly one version marked as storage version"));
    assert!(two(&json!({}), &json!({"name": "v1"}))[0].ends_with("must contain unique version names"));
    assert_eq!(two(&json!({}), &json!({"schema": null})), ["spec.versions[1].schema.openAPIV3Schema: Required value"]);
    let deprecation = |change: Value| of_version(&change);
    assert_eq!(
        deprecation(json!({"deprecationWarning": "old"})),
        ["spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"]
    );
    assert_eq!(
        deprecation(json!({"deprecated": true, "deprecationWarning": "a\u{202e}"})),
        ["spec.versions[0].deprecationWarning: Invalid value: \"a\u{202e}\": must only contain printable UTF-8 characters; non-printable \
          character found at index 1"]
    );
    assert_eq!(deprecation(json!({"deprecated": true, "deprecationWarning": ""})).len(), 1);
}

#[test]
fn what_is_in_different_versions_is_named_by_version() {
    let versions = json!([version("v1", &json!({"schema": {"openAPIV3Schema": {"type": "array"}}})), version("v2", &json!({}))]);
    assert_eq!(
        said(&json!({"versions": versions})),
        [
            "spec.versions[0].schema.openAPIV3Schema.items: Required value: must be specified",
            "spec.versions[0].schema.openAPIV3Schema.type: Invalid value: \"array\": must be object at the root",
        ]
    );
}

#[test]
fn columns_and_scales_are_paths() {
    let column = json!({"name": "", "type": "text", "format": "long", "jsonPath": "spec"});
    assert_eq!(
        of_version(&json!({"additionalPrinterColumns": [column]})),
        [
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].format: Invalid value: \"long\": must be one of byte,date,date-time,double,float,int32,int64,password",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
        ]
    );
    let scale = json!({"scale": {"specReplicasPath": ".status.replicas", "statusReplicasPath": "", "labelSelectorPath": "x"}});
    assert_eq!(
        of_version(&json!({"subresources": scale})),
        [
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.replicas\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
            "spec.subresources.scale.labelSelectorPath: Invalid value: \"x\": must be a simple json path starting with .",
        ]
    );
}

#[test]
fn fields_that_are_selected_by_are_scalars_of_the_schema() {
    let spec = json!({"type": "object", "properties": {"color": {"type": "string"}, "parts": {"type": "object"}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let select = |paths: &[&str]| {
        let fields: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
        of_version(&json!({"schema": schema, "selectableFields": fields}))
    };
    assert!(select(&[".spec.color"]).is_empty());
    let scalar = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
    assert_eq!(
        select(&["", "spec", ".spec.size", ".spec['color']", ".spec.parts", ".spec.color", ".spec.color", ".spec."]),
        [
            "spec.selectableFields[0].jsonPath: Required value".to_owned(),
            "spec.selectableFields[1].jsonPath: Invalid value: \"spec\": is an invalid path: expected [ or . but got: spec".to_owned(),
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec.size\": is an invalid path: does not refer to a valid field".to_owned(),
            "spec.selectableFields[3].jsonPath: Invalid value: \".spec['color']\": is an invalid path: array notation is not allowed".to_owned(),
            format!("spec.selectableFields[4].jsonPath: Invalid value: \".spec.parts\": {scalar}"),
            "spec.selectableFields[6].jsonPath: Duplicate value: \".spec.color\"".to_owned(),
            "spec.selectableFields[7].jsonPath: Invalid value: \".spec.\": is an invalid path: unexpected end of JSON path".to_owned(),
        ]
    );
}

#[test]
fn a_conversion_by_webhook_says_whom_to_ask() {
    let webhook = |webhook: Value| said(&json!({"conversion": {"strategy": "Webhook", "webhook": webhook}}));
    assert_eq!(
        webhook(json!({})),
        [
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ]
    );
    assert_eq!(
        webhook(json!({"clientConfig": {"url": "http://h"}, "conversionReviewVersions": ["v2"]})),
        [
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ]
    );
    assert!(webhook(json!({"clientConfig": {"url": "https://h"}, "conversionReviewVersions": ["v1"]})).is_empty());
    let detail = "Forbidden: should not be set when strategy is not set to Webhook";
    assert_eq!(
        said(&json!({"conversion": {"strategy": "None", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}}})),
        [format!("spec.conversion.webhookClientConfig: {detail}"), format!("spec.conversion.conversionReviewVersions: {detail}")]
    );
}

#[test]
fn schemas_are_structural() {
    assert_eq!(of_schema(json!({})), [".type: Required value: must not be empty at the root"]);
    assert_eq!(of_schema(json!({"type": "string"})), [".type: Invalid value: \"string\": must be object at the root"]);
    assert_eq!(
        of_schema(json!({"type": "object", "additionalProperties": {"type": "string"}})),
        [".additionalProperties: Forbidden: must not be used at the root"]
    );
    assert_eq!(of_schema(json!({"type": "object", "nullable": true})), [".nullable: Forbidden: nullable cannot be true at the root"]);
    assert_eq!(of_field(json!({})), [".type: Required value: must not be empty for specified object fields"]);
    assert_eq!(of_field(json!({"type": "array"})), [".items: Required value: must be specified"]);
    assert_eq!(of_field(json!({"type": "array", "items": {}})), [".items.type: Required value: must not be empty for specified array items"]);
    assert_eq!(
        of_field(json!({"type": "text"})),
        [".type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""]
    );
    assert!(of_field(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})).is_empty());
    assert!(of_field(json!({"x-kubernetes-preserve-unknown-fields": true})).is_empty());
    assert_eq!(
        of_field(json!({"type": "string", "pattern": "("})),
        [".pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`"]
    );
}

#[test]
fn junctors_say_nothing_of_structure() {
    let empty = "must be empty to be structural";
    assert_eq!(
        of_field(json!({"type": "object", "properties": {"a": {"type": "string"}},
            "anyOf": [{"type": "object", "description": "x", "default": {}, "properties": {"a": {}, "b": {}, "metadata": {}}}]})),
        [
            ".anyOf[0].default: Forbidden: must be undefined to be structural".to_owned(),
            format!(".anyOf[0].description: Forbidden: {empty}"),
            ".anyOf[0].properties[metadata]: Forbidden: must not be specified in a nested context".to_owned(),
            format!(".anyOf[0].type: Forbidden: {empty}"),
        ]
    );
    assert_eq!(
        of_schema(json!({"type": "object", "properties": {"a": {"type": "string"}}, "not": {"properties": {"b": {"minLength": 1}}}})),
        [".properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.not.properties[b]"]
    );
}

#[test]
fn metadata_is_the_servers_to_describe() {
    let meta = |schema: Value| of_schema(json!({"type": "object", "properties": {"metadata": schema}}));
    assert!(meta(json!({"type": "object"})).is_empty());
    assert!(meta(json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}})).is_empty());
    let more = ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified";
    assert_eq!(meta(json!({"type": "object", "properties": {"labels": {"type": "object"}}})), [more]);
    assert_eq!(
        of_schema(json!({"type": "object", "properties": {"kind": {"type": "integer"}, "apiVersion": {"type": "string", "default": "v1"}}})),
        [
            ".properties[kind].type: Invalid value: \"integer\": must be string",
            ".properties[apiVersion].default: Forbidden: must not be set in top-level apiVersion",
        ]
    );
}

#[test]
fn what_openapi_v3_has_not_is_forbidden() {
    let cases = [
        ("id", json!("x"), "id is not supported"),
        ("$ref", json!("#/x"), "$ref is not supported"),
        ("definitions", json!({"a": {}}), "definitions is not supported"),
        ("dependencies", json!({"a": ["b"]}), "dependencies is not supported"),
        ("patternProperties", json!({"a": {}}), "patternProperties is not supported"),
        ("additionalItems", json!(true), "additionalItems is not supported"),
        ("uniqueItems", json!(true), "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"),
    ];
    for (name, value, why) in cases {
        assert_eq!(of_field(json!({"type": "string", name: value})), [format!(".{name}: Forbidden: {why}")]);
    }
    assert_eq!(
        of_field(json!({"type": "array", "items": [{"type": "string"}]})),
        [".items: Forbidden: items must be a schema object and not an array"]
    );
    assert_eq!(of_field(json!({"type": "string", "$schema": "x"})), [": Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"]);
    assert_eq!(
        of_field(json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}})),
        [".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"]
    );
    assert_eq!(
        of_field(json!({"type": "string", "x-kubernetes-preserve-unknown-fields": false})),
        [".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"]
    );
}

#[test]
fn schemas_that_stand_in_place_of_flags_are_schemas_all_the_same() {
    assert_eq!(of_field(json!({"type": "array", "items": {"type": 5}})), [".items.type: Invalid value: 5: must be of type string"]);
    assert_eq!(of_field(json!({"type": "array", "items": "x"})), [".items: Invalid value: \"x\": must be of type object"]);
    assert_eq!(
        of_field(json!({"type": "object", "additionalProperties": {"properties": {"a": 1}, "required": [2]}})),
        [
            ".additionalProperties.required: Invalid value: [2]: must be of type array",
            ".additionalProperties.properties[a]: Invalid value: 1: must be of type object"
        ]
    );
}

#[test]
fn with_a_status_the_root_says_little() {
    let status = |schema: Value| of_version(&json!({"schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}));
    assert!(status(json!({"type": "object", "description": "x", "nullable": false, "required": ["spec"]})).is_empty());
    let only = status(json!({"type": "object", "minProperties": 1}));
    assert!(only[0].starts_with("spec.validation.openAPIV3Schema: Invalid value: {"), "{only:?}");
    assert!(only[0].ends_with("fields are allowed at the root of the schema if the status subresource is enabled"), "{only:?}");
}

#[test]
fn lists_say_what_makes_their_entries_one() {
    let list = |change: Value| of_field(with(json!({"type": "array", "items": {"type": "object"}}), &change));
    let types = "supported values: \"atomic\", \"set\", \"map\"";
    assert_eq!(list(json!({"x-kubernetes-list-type": "bag"})), [format!(".x-kubernetes-list-type: Unsupported value: \"bag\": {types}")]);
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "set"})),
        [".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"]
    );
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "map"})),
        [".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"]
    );
    assert_eq!(
        list(json!({"x-kubernetes-list-map-keys": ["a"]})),
        [".x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty"]
    );
    let items = json!({"type": "object", "nullable": true, "properties": {"a": {"type": "string"}, "b": {"type": "object", "nullable": true}}, "required": ["b"]});
    assert_eq!(
        list(json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b", "c", "a"], "items": items})),
        [
            ".items.properties[b].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
            ".x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"c\",\"a\"]: entries must all be names of item properties",
            ".x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"c\",\"a\"]: must not contain duplicate entries",
            ".items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
            ".items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ".items.properties[b].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ".items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ]
    );
    assert_eq!(
        of_field(json!({"type": "string", "x-kubernetes-map-type": "atomic"})),
        [".type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"]
    );
}

#[test]
fn rules_are_whole() {
    let rule = |rule: Value| of_field(json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [rule]}));
    assert!(rule(json!({"rule": "true", "fieldPath": ".a", "reason": "FieldValueInvalid"})).is_empty());
    let at = ".x-kubernetes-validations[0]";
    assert_eq!(rule(json!({"rule": " "})), [format!("{at}.rule: Required value: rule is not specified")]);
    assert_eq!(rule(json!({"rule": "a\nb"})), [format!("{at}.message: Required value: message must be specified if rule contains line breaks")]);
    assert_eq!(
        rule(json!({"rule": "true", "message": "a\nb", "messageExpression": " ", "fieldPath": ".b"})),
        [
            format!("{at}.message: Invalid value: \"a\\nb\": must not contain line breaks"),
            format!("{at}.messageExpression: Required value: messageExpression must be non-empty if specified"),
            format!("{at}.fieldPath: Invalid value: \".b\": must be a valid path"),
        ]
    );
}

#[test]
fn defaults_are_what_the_schema_allows() {
    let unknown = json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}});
    assert_eq!(of_field(unknown), [".default: Invalid value: {\"b\":1}: must not have unknown fields"]);
    let cases = [
        (json!({"type": "integer", "default": "x"}), ".default: Invalid value: \"string\":  in body must be of type integer: \"string\""),
        (json!({"type": "integer", "default": 3, "maximum": 2.0}), ".default: Invalid value: 3:  in body should be less than or equal to 2"),
        (json!({"type": "string", "default": "c", "enum": ["a", "b"]}), ".default: Unsupported value: \"c\": supported values: \"a\", \"b\""),
        (json!({"type": "string", "default": "ab", "maxLength": 1}), ".default: Too long: may not be more than 1 byte"),
        (
            json!({"type": "array", "items": {"type": "string"}, "default": [], "minItems": 1}),
            ".default: Invalid value: 0:  in body should have at least 1 items",
        ),
        (json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "default": {}}), ".default.a: Required value"),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"a": 1}}),
            ".default.a: Invalid value: \"integer\": a in body must be of type string: \"integer\"",
        ),
        (json!({"type": "string", "default": "A", "pattern": "^[a-z]+$"}), ".default: Invalid value: \"A\":  in body should match '^[a-z]+$'"),
        (
            json!({"type": "string", "default": "soon", "format": "date-time"}),
            ".default: Invalid value: \"soon\":  in body must be of type date-time: \"soon\"",
        ),
        (
            json!({"type": "array", "default": [{"a": "x"}], "items": {"type": "object", "properties": {"a": {"type": "string", "pattern": "y"}}}}),
            ".default[0].a: Invalid value: \"x\": [0].a in body should match 'y'",
        ),
        (json!({"type": "integer", "default": 3, "not": {"minimum": 2.0}}), ".default: Invalid value: \"\": \"\" must not validate the schema (not)"),
    ];
    for (schema, want) in cases {
        assert_eq!(of_field(schema), [want]);
    }
    assert!(of_field(json!({"type": "object", "additionalProperties": {"type": "string"}, "default": {"x": "y"}})).is_empty());
    assert!(of_field(json!({"type": "string", "nullable": true, "default": "x"})).is_empty());
}

#[test]
fn rules_are_tried_on_defaults() {
    let rules = |rule: Value| json!([rule]);
    let counted = |default: i64, rule: Value| json!({"type": "integer", "default": default, "x-kubernetes-validations": rules(rule)});
    assert_eq!(of_field(counted(3, json!({"rule": "self > 2"}))), Vec::<String>::new());
    assert_eq!(of_field(counted(1, json!({"rule": "self > 2"}))), [".default: Invalid value: 1: failed rule: self > 2"]);
    let as_new = json!({"rule": "oldSelf.hasValue() || self > 2", "optionalOldSelf": true, "message": "starts above 2"});
    assert_eq!(of_field(counted(1, as_new)), [".default: Invalid value: 1: starts above 2"]);
    let within =
        json!({"type": "object", "default": {"a": 1}, "properties": {"a": counted(5, json!({"rule": "self > 2", "reason": "FieldValueForbidden"}))}});
    assert_eq!(of_field(within), [".default.a: Forbidden: failed rule: self > 2"]);
}

#[test]
fn an_update_changes_no_name_that_objects_are_stored_by() {
    let mut old = definition(&json!({}));
    let names = json!({"plural": "dogs", "singular": "dog", "kind": "Dog", "listKind": "DogList"});
    let new = definition(&json!({"names": names, "scope": "Cluster"}));
    assert_eq!(texts(update(&new, &old)), ["spec.names.plural: Invalid value: \"dogs\": field is immutable"]);
    old.set(&["status", "conditions"], json!([{"type": "Established", "status": "True"}]));
    assert_eq!(
        texts(update(&new, &old)),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Dog\": field is immutable",
            "spec.names.plural: Invalid value: \"dogs\": field is immutable",
        ]
    );
}

#[test]
fn versions_that_objects_were_stored_in_stay() {
    let mut object = definition(&json!({}));
    object.set(&["status", "storedVersions"], json!(["v0"]));
    let said = texts(create(&object));
    assert_eq!(said[0], "status.storedVersions: Invalid value: [\"v0\"]: must have the storage version v1");
    assert!(said[1].starts_with("status.storedVersions[0]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version"));
    object.set(&["status", "storedVersions"], json!([]));
    assert_eq!(texts(create(&object)), ["status.storedVersions: Invalid value: []: must have at least one stored version"]);
}

#[test]
fn broken_certificates_are_refused_once_somebody_is_served() {
    let bundle = |text: &str| {
        definition(&json!({"conversion": {"strategy": "Webhook", "webhook":
        {"clientConfig": {"url": "https://h", "caBundle": text}, "conversionReviewVersions": ["v1"]}}}))
    };
    assert!(create(&bundle("eA==")).is_empty());
    let mut old = bundle("");
    assert!(update(&bundle("eA=="), &old).is_empty());
    old.set(&["status", "conditions"], json!([{"type": "Established", "status": "True"}]));
    assert_eq!(
        texts(update(&bundle("eA=="), &old)),
        [
            "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"eA==\": unable to load root certificates: unable to parse bytes as PEM block"
        ]
    );
}

#[test]
fn unknown_fields_are_kept_by_schemas_only() {
    let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    assert_eq!(said(&json!({"preserveUnknownFields": true})), [format!("spec.preserveUnknownFields: Invalid value: true: {detail}")]);
}

#[test]
fn schemas_with_long_paths_are_not_told_about_for_ever() {
    let wrong: serde_json::Map<String, Value> = (0..2000).map(|index| (format!("{index:04}"), json!({}))).collect();
    let deep = json!({"type": "object", "properties": {"x".repeat(100_000): {"type": "object", "properties": wrong}}});
    let said = of_schema(deep);
    assert!((10..200).contains(&said.len()), "{}", said.len());
}

/// What is said of one rule at a field.
fn of_rule(field: Value, rule: Value) -> Vec<String> {
    let mut field = field;
    field["x-kubernetes-validations"] = json!([rule]);
    of_field(field)
}

#[test]
fn rules_must_compile() {
    let object = || json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 10}}});
    let of = |rule: Value| of_rule(object(), rule);
    assert_eq!(of(json!({"rule": "self.a == 'x'"})), Vec::<String>::new());
    let shown = |rule: &str, message: &str| {
        format!(
            "{{\"Rule\":{rule:?},\"Message\":\"\",\"MessageExpression\":{message:?},\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}"
        )
    };
    let at = ".x-kubernetes-validations[0]";
    let undefined = "compilation failed: ERROR: <input>:1:5: undefined field 'b'\n | self.b == 'x'\n | ....^";
    assert_eq!(of(json!({"rule": "self.b == 'x'"})), [format!("{at}.rule: Invalid value: {}: {undefined}", shown("self.b == 'x'", ""))]);
    let wrong = format!("{at}.rule: Invalid value: {}: cel expression must evaluate to a bool", shown("self.a", ""));
    assert_eq!(of(json!({"rule": "self.a"})), [wrong]);
    let message = format!("{at}.messageExpression: Invalid value: {}: messageExpression must evaluate to a string", shown("true", "1"));
    assert_eq!(of(json!({"rule": "true", "messageExpression": "1"})), [message]);
    let optional = format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule");
    assert_eq!(of(json!({"rule": "true", "optionalOldSelf": true})), [optional]);
}

#[test]
fn old_values_are_asked_for_where_they_can_be_told() {
    let of = |kind: &str| {
        let entry = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "maxLength": 9}},
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
        let mut list = json!({"type": "array", "maxItems": 5, "items": entry, "x-kubernetes-list-type": kind});
        if kind == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["k"]);
        }
        of_field(list)
    };
    assert_eq!(of("map"), Vec::<String>::new());
    let wanted = "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[f]";
    assert_eq!(of("atomic"), [format!(".items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": {wanted}")]);
}

#[test]
fn rules_may_cost_so_much_and_all_together() {
    let advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let list = json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [
        {"rule": "self.all(s, s == 'string constant')"}]}});
    let each = of_field(list);
    let wanted =
        format!(".items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}");
    assert_eq!(each[0], wanted);
    assert!(
        each[1].contains("contributed to estimated rule cost total") && each[2].contains("for entire OpenAPIv3 schema exceeds budget"),
        "{each:?}"
    );
    // Each is cheap enough, all are not.
    let one = json!({"rule": "self.all(x, self.all(y, x == y))"});
    let many = json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"}, "x-kubernetes-validations": vec![one; 30]});
    let all = of_field(many);
    assert!(
        all.len() == 5 && all[4].starts_with(": Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"),
        "{all:?}"
    );
}
