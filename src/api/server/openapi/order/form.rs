//! What may stand at a place of an OpenAPI document.

/// What stands at a place of a document. A list has the form of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nobody's struct: keys are sorted.
    Any,
    /// A document of OpenAPI v3.
    Document,
    Info,
    Paths,
    PathItem,
    Operation,
    Parameter,
    RequestBody,
    Responses,
    Response,
    Content,
    MediaType,
    Components,
    SecuritySchemes,
    SecurityScheme,
    Schemas,
    Schema,
    /// Group, version and kind of an operation.
    Kind,
    /// `x-kubernetes-validations`
    Rules,
    /// A document of OpenAPI v2.
    Swagger,
    SwaggerPaths,
    SwaggerPathItem,
    SwaggerOperation,
    SwaggerParameters,
    SwaggerParameter,
    SwaggerResponses,
    SwaggerResponse,
    SwaggerSchemas,
    SwaggerSchema,
    SwaggerSecurityDefinitions,
    SwaggerSecurityScheme,
}

impl Form {
    /// The form of what stands behind the fields: what a map holds, and extensions.
    fn others(self) -> Form {
        match self {
            Form::Paths => Form::PathItem,
            Form::Responses => Form::Response,
            Form::Content => Form::MediaType,
            Form::SecuritySchemes => Form::SecurityScheme,
            Form::Schemas => Form::Schema,
            Form::SwaggerPaths => Form::SwaggerPathItem,
            Form::SwaggerParameters => Form::SwaggerParameter,
            Form::SwaggerResponses => Form::SwaggerResponse,
            Form::SwaggerSchemas => Form::SwaggerSchema,
            Form::SwaggerSecurityDefinitions => Form::SwaggerSecurityScheme,
            _ => Form::Any,
        }
    }

    /// The form of a field behind the others.
    pub fn other(self, name: &str) -> Form {
        if self == Form::Schema && name == "x-kubernetes-validations" { Form::Rules } else { self.others() }
    }
}
