//! The fields of the structs of OpenAPI documents, as kube-openapi declares them. Data.

use super::form::Form;

/// Names of fields in their order, each with the form of its value.
pub type Fields = &'static [(&'static str, Form)];

/// The fields of a struct; none of a map.
pub fn of(form: Form) -> Fields {
    FIELDS.iter().find(|(known, _)| *known == form).map_or(&[], |(_, fields)| *fields)
}

/// The fields of structs in their order, with the forms of their values. A form that is not here is a map.
const FIELDS: &[(Form, Fields)] = &[
    (
        Form::Document,
        &[
            ("openapi", Form::Any),
            ("info", Form::Info),
            ("paths", Form::Paths),
            ("servers", Form::Any),
            ("components", Form::Components),
            ("security", Form::Any),
            ("externalDocs", Form::Any),
        ],
    ),
    (
        Form::Info,
        &[
            ("description", Form::Any),
            ("title", Form::Any),
            ("termsOfService", Form::Any),
            ("contact", Form::Any),
            ("license", Form::Any),
            ("version", Form::Any),
        ],
    ),
    (
        Form::PathItem,
        &[
            ("$ref", Form::Any),
            ("summary", Form::Any),
            ("description", Form::Any),
            ("get", Form::Operation),
            ("put", Form::Operation),
            ("post", Form::Operation),
            ("delete", Form::Operation),
            ("options", Form::Operation),
            ("head", Form::Operation),
            ("patch", Form::Operation),
            ("trace", Form::Operation),
            ("servers", Form::Any),
            ("parameters", Form::Parameter),
        ],
    ),
    (
        Form::Operation,
        &[
            ("tags", Form::Any),
            ("summary", Form::Any),
            ("description", Form::Any),
            ("externalDocs", Form::Any),
            ("operationId", Form::Any),
            ("parameters", Form::Parameter),
            ("requestBody", Form::RequestBody),
            ("responses", Form::Responses),
            ("deprecated", Form::Any),
            ("security", Form::Any),
            ("servers", Form::Any),
            ("x-kubernetes-action", Form::Any),
            ("x-kubernetes-group-version-kind", Form::Kind),
        ],
    ),
    (
        Form::Parameter,
        &[
            ("$ref", Form::Any),
            ("name", Form::Any),
            ("in", Form::Any),
            ("description", Form::Any),
            ("required", Form::Any),
            ("deprecated", Form::Any),
            ("allowEmptyValue", Form::Any),
            ("style", Form::Any),
            ("explode", Form::Any),
            ("allowReserved", Form::Any),
            ("schema", Form::Schema),
            ("content", Form::Content),
            ("example", Form::Any),
            ("examples", Form::Any),
        ],
    ),
    (Form::RequestBody, &[("$ref", Form::Any), ("description", Form::Any), ("content", Form::Content), ("required", Form::Any)]),
    (Form::Responses, &[("default", Form::Response)]),
    (Form::Response, &[("$ref", Form::Any), ("description", Form::Any), ("headers", Form::Any), ("content", Form::Content), ("links", Form::Any)]),
    (Form::MediaType, &[("schema", Form::Schema), ("example", Form::Any), ("examples", Form::Any), ("encoding", Form::Any)]),
    (
        Form::Components,
        &[
            ("schemas", Form::Schemas),
            ("securitySchemes", Form::SecuritySchemes),
            ("responses", Form::Any),
            ("parameters", Form::Any),
            ("examples", Form::Any),
            ("requestBodies", Form::Any),
            ("links", Form::Any),
            ("headers", Form::Any),
        ],
    ),
    (
        Form::SecurityScheme,
        &[
            ("$ref", Form::Any),
            ("type", Form::Any),
            ("description", Form::Any),
            ("name", Form::Any),
            ("in", Form::Any),
            ("scheme", Form::Any),
            ("bearerFormat", Form::Any),
            ("flows", Form::Any),
            ("openIdConnectUrl", Form::Any),
        ],
    ),
    (Form::Schema, SCHEMA),
    (Form::Kind, &[("group", Form::Any), ("version", Form::Any), ("kind", Form::Any)]),
    (
        Form::Rules,
        &[
            ("rule", Form::Any),
            ("message", Form::Any),
            ("messageExpression", Form::Any),
            ("reason", Form::Any),
            ("fieldPath", Form::Any),
            ("optionalOldSelf", Form::Any),
        ],
    ),
    (
        Form::Swagger,
        &[
            ("id", Form::Any),
            ("consumes", Form::Any),
            ("produces", Form::Any),
            ("schemes", Form::Any),
            ("swagger", Form::Any),
            ("info", Form::Info),
            ("host", Form::Any),
            ("basePath", Form::Any),
            ("paths", Form::SwaggerPaths),
            ("definitions", Form::SwaggerSchemas),
            ("parameters", Form::SwaggerParameters),
            ("responses", Form::SwaggerResponses),
            ("securityDefinitions", Form::SwaggerSecurityDefinitions),
            ("security", Form::Any),
            ("tags", Form::Any),
            ("externalDocs", Form::Any),
        ],
    ),
    (
        Form::SwaggerPathItem,
        &[
            ("$ref", Form::Any),
            ("get", Form::SwaggerOperation),
            ("put", Form::SwaggerOperation),
            ("post", Form::SwaggerOperation),
            ("delete", Form::SwaggerOperation),
            ("options", Form::SwaggerOperation),
            ("head", Form::SwaggerOperation),
            ("patch", Form::SwaggerOperation),
            ("parameters", Form::SwaggerParameter),
        ],
    ),
    (
        Form::SwaggerOperation,
        &[
            ("description", Form::Any),
            ("consumes", Form::Any),
            ("produces", Form::Any),
            ("schemes", Form::Any),
            ("tags", Form::Any),
            ("summary", Form::Any),
            ("externalDocs", Form::Any),
            ("operationId", Form::Any),
            ("deprecated", Form::Any),
            ("security", Form::Any),
            ("parameters", Form::SwaggerParameter),
            ("responses", Form::SwaggerResponses),
        ],
    ),
    (Form::SwaggerParameter, SWAGGER_PARAMETER),
    (Form::SwaggerResponses, &[("default", Form::SwaggerResponse)]),
    (
        Form::SwaggerResponse,
        &[("$ref", Form::Any), ("description", Form::Any), ("schema", Form::SwaggerSchema), ("headers", Form::Any), ("examples", Form::Any)],
    ),
    (Form::SwaggerSchema, SWAGGER_SCHEMA),
    (
        Form::SwaggerSecurityScheme,
        &[
            ("description", Form::Any),
            ("type", Form::Any),
            ("name", Form::Any),
            ("in", Form::Any),
            ("flow", Form::Any),
            ("authorizationUrl", Form::Any),
            ("tokenUrl", Form::Any),
            ("scopes", Form::Any),
        ],
    ),
];

/// The fields of a schema; `$of` and `$map` are the forms of schemas within it and of maps to such.
macro_rules! schema_fields {
    ($of:expr, $map:expr) => {
        &[
            ("id", Form::Any),
            ("description", Form::Any),
            ("type", Form::Any),
            ("nullable", Form::Any),
            ("format", Form::Any),
            ("title", Form::Any),
            ("default", Form::Any),
            ("maximum", Form::Any),
            ("exclusiveMaximum", Form::Any),
            ("minimum", Form::Any),
            ("exclusiveMinimum", Form::Any),
            ("maxLength", Form::Any),
            ("minLength", Form::Any),
            ("pattern", Form::Any),
            ("maxItems", Form::Any),
            ("minItems", Form::Any),
            ("uniqueItems", Form::Any),
            ("multipleOf", Form::Any),
            ("enum", Form::Any),
            ("maxProperties", Form::Any),
            ("minProperties", Form::Any),
            ("required", Form::Any),
            ("items", $of),
            ("allOf", $of),
            ("oneOf", $of),
            ("anyOf", $of),
            ("not", $of),
            ("properties", $map),
            ("additionalProperties", $of),
            ("patternProperties", $map),
            ("dependencies", $map),
            ("additionalItems", $of),
            ("definitions", $map),
            ("discriminator", Form::Any),
            ("readOnly", Form::Any),
            ("externalDocs", Form::Any),
            ("example", Form::Any),
            ("$schema", Form::Any),
            ("$ref", Form::Any),
        ]
    };
}

const SCHEMA: Fields = schema_fields!(Form::Schema, Form::Schemas);
const SWAGGER_SCHEMA: Fields = schema_fields!(Form::SwaggerSchema, Form::SwaggerSchemas);

const SWAGGER_PARAMETER: Fields = &[
    ("maximum", Form::Any),
    ("exclusiveMaximum", Form::Any),
    ("minimum", Form::Any),
    ("exclusiveMinimum", Form::Any),
    ("maxLength", Form::Any),
    ("minLength", Form::Any),
    ("pattern", Form::Any),
    ("maxItems", Form::Any),
    ("minItems", Form::Any),
    ("uniqueItems", Form::Any),
    ("multipleOf", Form::Any),
    ("enum", Form::Any),
    ("type", Form::Any),
    ("nullable", Form::Any),
    ("format", Form::Any),
    ("items", Form::Any),
    ("collectionFormat", Form::Any),
    ("default", Form::Any),
    ("example", Form::Any),
    ("description", Form::Any),
    ("name", Form::Any),
    ("in", Form::Any),
    ("required", Form::Any),
    ("schema", Form::SwaggerSchema),
    ("allowEmptyValue", Form::Any),
    ("$ref", Form::Any),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_form_has_its_fields_once_and_each_field_one_place() {
        for (at, (form, fields)) in FIELDS.iter().enumerate() {
            assert!(!FIELDS[..at].iter().any(|(before, _)| before == form), "{form:?} stands twice");
            let names: BTreeSet<&str> = fields.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), fields.len(), "{form:?}");
        }
        assert!(of(Form::Any).is_empty() && of(Form::Paths).is_empty());
        assert_eq!(of(Form::Kind).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["group", "version", "kind"]);
    }
}
