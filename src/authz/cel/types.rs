//! Static types, which let the checker reject expressions that can never succeed.
//!
//! CEL is dynamically typed. A static type is either certain or [`CelType::Dyn`], and the checker rejects an expression only
//! if its types are certain.

/// A static type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CelType {
    /// Any value.
    Dyn,
    /// Any value of JSON: a claim.
    Claim,
    /// `jwt`, `jwtAuth`, `basicAuth`, `apiKey`: a map, or null without a valid credential of that kind.
    Jwt,
    /// A variable with declared fields.
    Record,
    /// Header fields.
    Headers,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    List,
    Map,
    Timestamp,
    Duration,
    Type,
    Optional,
    Cidr,
    Ip,
    /// A compiled regex. Only the checker creates one.
    Regex,
}

use CelType as T;

impl CelType {
    /// Returns the name of the type in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            T::Dyn => "anything",
            T::Claim => "a claim",
            T::Jwt | T::Record | T::Headers | T::Map => "map",
            T::Bool => "bool",
            T::Int => "int",
            T::Uint => "uint",
            T::Double => "double",
            T::String => "string",
            T::Bytes => "bytes",
            T::Null => "null",
            T::List => "list",
            T::Timestamp => "timestamp",
            T::Duration => "duration",
            T::Type => "type",
            T::Optional => "optional",
            T::Cidr => "CIDR range",
            T::Ip => "IP address",
            T::Regex => "regex",
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, T::Int | T::Uint | T::Double)
    }

    /// Reports whether the type is certainly neither a list nor a map.
    pub(crate) fn is_scalar(self) -> bool {
        !matches!(self, T::Dyn | T::Claim | T::Jwt | T::Record | T::Headers | T::List | T::Map | T::Optional)
    }

    /// Reports whether all values of this type are small.
    pub(crate) fn is_small(self) -> bool {
        self.is_number() || matches!(self, T::Bool | T::Null | T::Timestamp | T::Duration | T::Type | T::Cidr | T::Ip)
    }

    /// Reports whether a value of this type may be a string or bytes.
    pub(crate) fn may_be_text(self) -> bool {
        matches!(self, T::Dyn | T::Claim | T::String | T::Bytes)
    }

    /// Reports whether a value of this type may be an optional, on whose content CEL performs selections.
    pub(crate) fn may_be_optional(self) -> bool {
        matches!(self, T::Dyn | T::Optional)
    }

    fn is_map(self) -> bool {
        matches!(self, T::Map | T::Jwt | T::Record | T::Headers)
    }

    /// Reports whether a value of this type may also be of type `other`.
    pub(crate) fn may_be(self, other: Self) -> bool {
        match (self, other) {
            (T::Dyn, _) | (_, T::Dyn) => true,
            (T::Claim, other) | (other, T::Claim) => {
                !matches!(other, T::Timestamp | T::Duration | T::Bytes | T::Type | T::Optional | T::Cidr | T::Ip)
            }
            (T::Jwt, T::Null) | (T::Null, T::Jwt) => true,
            (a, b) => a == b || (a.is_map() && b.is_map()),
        }
    }

    /// Reports whether `==` of the two types can be true.
    pub(crate) fn may_equal(self, other: Self) -> bool {
        self.may_be(other) || (self.is_number() && other.is_number())
    }

    /// Reports whether `<` is defined for the two types.
    pub(crate) fn is_comparable_with(self, other: Self) -> bool {
        let ordered = |ty: Self| {
            matches!(
                ty,
                T::Dyn
                    | T::Claim
                    | T::Bool
                    | T::Int
                    | T::Uint
                    | T::Double
                    | T::String
                    | T::Bytes
                    | T::Timestamp
                    | T::Duration
            )
        };
        ordered(self) && ordered(other) && self.may_equal(other)
    }

    /// Returns the type of `self op other` for `+ - * / %`, or `None` if the operation is not defined.
    pub(crate) fn arithmetic_result(self, op: char, other: Self) -> Option<Self> {
        if matches!(self, T::Dyn | T::Claim) || matches!(other, T::Dyn | T::Claim) {
            return Some(T::Dyn);
        }
        match (self, op, other) {
            (T::Int, _, T::Int) => Some(T::Int),
            (T::Uint, _, T::Uint) => Some(T::Uint),
            (T::Double, '+' | '-' | '*' | '/', T::Double) => Some(T::Double),
            (T::String, '+', T::String) => Some(T::String),
            (T::Bytes, '+', T::Bytes) => Some(T::Bytes),
            (T::List, '+', T::List) => Some(T::List),
            (T::Timestamp, '+' | '-', T::Duration) | (T::Duration, '+', T::Timestamp) => Some(T::Timestamp),
            (T::Timestamp, '-', T::Timestamp) | (T::Duration, '+' | '-', T::Duration) => Some(T::Duration),
            _ => None,
        }
    }
}

/// The names of types, which an expression may compare with `type(x)`.
pub(crate) const TYPE_NAMES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "uint",
    "string",
    "list",
    "map",
    "null_type",
    "type",
    "optional_type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "net.IP",
    "net.CIDR",
];
