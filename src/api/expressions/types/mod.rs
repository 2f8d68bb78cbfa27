//! The types of expressions, and how variables are declared.

mod declaration;
mod object;
mod signature;
mod unify;

use std::{fmt, sync::Arc};

pub use declaration::{Declaration, Field, Identity, ObjectType, Shape};
pub use object::{escape, unescape};
pub use signature::{Overload, overload};
pub use unify::{Substitution, more_general};

/// A type. Types with parameters share them.
#[derive(Clone, Debug)]
pub enum Type {
    /// Known only when it is evaluated.
    Dyn,
    /// The same of a value that is no list or map.
    Any,
    /// Of an expression that has an error, so that it is told of once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Object(Arc<ObjectType>),
    /// A message that expressions construct, by its name; what is known of its fields follows from that.
    Message(Arc<str>),
    /// The variables that stand beside an expression (`kubernetes.variables`); their types are the environment's.
    Variables,
    /// One of a library, by its full name.
    Named(&'static str),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// A parameter of a signature (of few letters) or one that is to be found out.
    Parameter(usize),
}

pub const QUANTITY: Type = Type::Named("kubernetes.Quantity");
pub const URL: Type = Type::Named("kubernetes.URL");
pub const IP: Type = Type::Named("net.IP");
pub const CIDR: Type = Type::Named("net.CIDR");
pub const SEMVER: Type = Type::Named("kubernetes.Semver");
pub const FORMAT: Type = Type::Named("kubernetes.NamedFormat");
pub const AUTHORIZER: Type = Type::Named("kubernetes.authorization.Authorizer");
pub const PATH_CHECK: Type = Type::Named("kubernetes.authorization.PathCheck");
pub const GROUP_CHECK: Type = Type::Named("kubernetes.authorization.GroupCheck");
pub const RESOURCE_CHECK: Type = Type::Named("kubernetes.authorization.ResourceCheck");
pub const DECISION: Type = Type::Named("kubernetes.authorization.Decision");

impl Type {
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn optional(of: Type) -> Type {
        Type::Optional(Arc::new(of))
    }

    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any | Type::Error)
    }

    /// What an optional type is of, and whether it is one.
    pub fn unwrapped(&self) -> (Type, bool) {
        match self {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        }
    }

    /// The name as declarations show it, which is not in all cases the one of errors.
    pub fn declared_name(&self) -> String {
        match self {
            Type::Null => "null_type".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::List(of) => format!("list({})", of.declared_name()),
            Type::Optional(of) => format!("optional_type({})", of.declared_name()),
            Type::Type(of) => format!("type({})", of.declared_name()),
            Type::Map(of) => format!("map({}, {})", of.0.declared_name(), of.1.declared_name()),
            other => other.to_string(),
        }
    }

    /// Whether every value has the same size.
    pub fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp => true,
            Type::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    /// The type that a name stands for.
    pub fn of_name(name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "null_type" => Type::Null,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "type" => Type::Type(Arc::new(Type::Dyn)),
            "optional_type" => Type::optional(Type::Dyn),
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "kubernetes.Quantity" => QUANTITY,
            "kubernetes.URL" => URL,
            "net.IP" => IP,
            "net.CIDR" => CIDR,
            "kubernetes.Semver" => SEMVER,
            _ => return None,
        })
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) | (Type::Type(a), Type::Type(b)) => a == b,
            (Type::Map(a), Type::Map(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Message(a), Type::Message(b)) => a == b,
            (Type::Named(a), Type::Named(b)) => a == b,
            (Type::Parameter(a), Type::Parameter(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Any => f.write_str("any"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(of) => write!(f, "list({of})"),
            Type::Map(of) => write!(f, "map({}, {})", of.0, of.1),
            Type::Object(object) => f.write_str(&object.name),
            Type::Message(name) => f.write_str(name),
            Type::Variables => f.write_str("kubernetes.variables"),
            Type::Named(name) => f.write_str(name),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Type(of) => write!(f, "type({of})"),
            Type::Parameter(number) => write!(f, "_var{number}"),
        }
    }
}
