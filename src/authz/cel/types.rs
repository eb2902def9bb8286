//! What is known of an expression's type before it runs: enough to refuse what can never hold.
//!
//! CEL is typed when it runs. Here a type is either certain or [`Ty::Dyn`], and only certainty refuses anything.

/// A type, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CelType {
    /// Anything.
    Dyn,
    /// Anything that JSON has: a claim.
    Claim,
    /// `jwt`, `jwtAuth`, `basicAuth`, `apiKey`: a map, or null without an accepted credential of that kind.
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
}

use CelType as T;

impl CelType {
    /// The type's name in messages.
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
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, T::Int | T::Uint | T::Double)
    }

    /// Certainly neither a list nor a map.
    pub(crate) fn is_scalar(self) -> bool {
        !matches!(self, T::Dyn | T::Claim | T::Jwt | T::Record | T::Headers | T::List | T::Map | T::Optional)
    }

    /// Whether all values of this type are small.
    pub(crate) fn is_small(self) -> bool {
        self.is_number() || matches!(self, T::Bool | T::Null | T::Timestamp | T::Duration | T::Type | T::Cidr | T::Ip)
    }

    /// Whether a value of this type may be a text.
    pub(crate) fn may_be_text(self) -> bool {
        matches!(self, T::Dyn | T::Claim | T::String | T::Bytes)
    }

    /// Whether a value of this type may be an optional, through which CEL selects.
    pub(crate) fn may_be_optional(self) -> bool {
        matches!(self, T::Dyn | T::Optional)
    }

    fn is_map(self) -> bool {
        matches!(self, T::Map | T::Jwt | T::Record | T::Headers)
    }

    /// Whether a value of this type may be one of the other.
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

    /// Whether `==` between the two can ever be true.
    pub(crate) fn may_equal(self, other: Self) -> bool {
        self.may_be(other) || (self.is_number() && other.is_number())
    }

    /// Whether `<` between the two is defined.
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

    /// The type of `self op other` for `+ - * / %`, or `None` when that is not defined.
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

/// One way to call a function. Of a method, the first parameter is what it is called on.
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) method: bool,
    pub(crate) params: &'static [CelType],
    pub(crate) result: CelType,
}

const fn method(name: &'static str, params: &'static [CelType], result: CelType) -> Signature {
    Signature { name, method: true, params, result }
}

const fn global(name: &'static str, params: &'static [CelType], result: CelType) -> Signature {
    Signature { name, method: false, params, result }
}

/// Every function that can be written: the standard library, and SPEC §6.
pub(crate) const SIGNATURES: &[Signature] = &[
    global("size", &[T::String], T::Int),
    global("size", &[T::Bytes], T::Int),
    global("size", &[T::List], T::Int),
    global("size", &[T::Map], T::Int),
    method("size", &[T::String], T::Int),
    method("size", &[T::Bytes], T::Int),
    method("size", &[T::List], T::Int),
    method("size", &[T::Map], T::Int),
    method("contains", &[T::String, T::String], T::Bool),
    method("contains", &[T::List, T::Dyn], T::Bool),
    method("contains", &[T::Map, T::Dyn], T::Bool),
    method("startsWith", &[T::String, T::String], T::Bool),
    method("endsWith", &[T::String, T::String], T::Bool),
    method("matches", &[T::String, T::String], T::Bool),
    global("matches", &[T::String, T::String], T::Bool),
    global("int", &[T::Int], T::Int),
    global("int", &[T::Uint], T::Int),
    global("int", &[T::Double], T::Int),
    global("int", &[T::String], T::Int),
    global("int", &[T::Timestamp], T::Int),
    global("uint", &[T::Int], T::Uint),
    global("uint", &[T::Uint], T::Uint),
    global("uint", &[T::Double], T::Uint),
    global("uint", &[T::String], T::Uint),
    global("double", &[T::Int], T::Double),
    global("double", &[T::Uint], T::Double),
    global("double", &[T::Double], T::Double),
    global("double", &[T::String], T::Double),
    global("bool", &[T::Bool], T::Bool),
    global("bool", &[T::String], T::Bool),
    global("string", &[T::String], T::String),
    global("string", &[T::Bool], T::String),
    global("string", &[T::Int], T::String),
    global("string", &[T::Uint], T::String),
    global("string", &[T::Double], T::String),
    global("string", &[T::Bytes], T::String),
    global("string", &[T::Timestamp], T::String),
    global("string", &[T::Duration], T::String),
    global("string", &[T::Ip], T::String),
    global("bytes", &[T::Bytes], T::Bytes),
    global("bytes", &[T::String], T::Bytes),
    global("timestamp", &[T::String], T::Timestamp),
    global("timestamp", &[T::Int], T::Timestamp),
    global("timestamp", &[T::Timestamp], T::Timestamp),
    global("duration", &[T::String], T::Duration),
    global("duration", &[T::Duration], T::Duration),
    global("type", &[T::Dyn], T::Type),
    global("dyn", &[T::Dyn], T::Dyn),
    method("getFullYear", &[T::Timestamp], T::Int),
    method("getFullYear", &[T::Timestamp, T::String], T::Int),
    method("getMonth", &[T::Timestamp], T::Int),
    method("getMonth", &[T::Timestamp, T::String], T::Int),
    method("getDayOfYear", &[T::Timestamp], T::Int),
    method("getDayOfYear", &[T::Timestamp, T::String], T::Int),
    method("getDayOfMonth", &[T::Timestamp], T::Int),
    method("getDayOfMonth", &[T::Timestamp, T::String], T::Int),
    method("getDate", &[T::Timestamp], T::Int),
    method("getDate", &[T::Timestamp, T::String], T::Int),
    method("getDayOfWeek", &[T::Timestamp], T::Int),
    method("getDayOfWeek", &[T::Timestamp, T::String], T::Int),
    method("getHours", &[T::Timestamp], T::Int),
    method("getHours", &[T::Timestamp, T::String], T::Int),
    method("getHours", &[T::Duration], T::Int),
    method("getMinutes", &[T::Timestamp], T::Int),
    method("getMinutes", &[T::Timestamp, T::String], T::Int),
    method("getMinutes", &[T::Duration], T::Int),
    method("getSeconds", &[T::Timestamp], T::Int),
    method("getSeconds", &[T::Timestamp, T::String], T::Int),
    method("getSeconds", &[T::Duration], T::Int),
    method("getMilliseconds", &[T::Timestamp], T::Int),
    method("getMilliseconds", &[T::Timestamp, T::String], T::Int),
    method("getMilliseconds", &[T::Duration], T::Int),
    global("optional.of", &[T::Dyn], T::Optional),
    global("optional.ofNonZeroValue", &[T::Dyn], T::Optional),
    global("optional.none", &[], T::Optional),
    method("value", &[T::Optional], T::Dyn),
    method("hasValue", &[T::Optional], T::Bool),
    method("or", &[T::Optional, T::Optional], T::Optional),
    method("orValue", &[T::Optional, T::Dyn], T::Dyn),
    method("charAt", &[T::String, T::Int], T::String),
    method("indexOf", &[T::String, T::String], T::Int),
    method("indexOf", &[T::String, T::String, T::Int], T::Int),
    method("lastIndexOf", &[T::String, T::String], T::Int),
    method("lastIndexOf", &[T::String, T::String, T::Int], T::Int),
    method("lowerAscii", &[T::String], T::String),
    method("upperAscii", &[T::String], T::String),
    method("trim", &[T::String], T::String),
    method("reverse", &[T::String], T::String),
    method("replace", &[T::String, T::String, T::String], T::String),
    method("replace", &[T::String, T::String, T::String, T::Int], T::String),
    method("split", &[T::String, T::String], T::List),
    method("split", &[T::String, T::String, T::Int], T::List),
    method("substring", &[T::String, T::Int], T::String),
    method("substring", &[T::String, T::Int, T::Int], T::String),
    method("join", &[T::List], T::String),
    method("join", &[T::List, T::String], T::String),
    method("format", &[T::String, T::List], T::String),
    global("strings.quote", &[T::String], T::String),
    method("stripPrefix", &[T::String, T::String], T::String),
    method("stripSuffix", &[T::String, T::String], T::String),
    global("scopes", &[T::Jwt], T::List),
    global("claim", &[T::Jwt, T::List], T::Claim),
    global("headers", &[T::Record, T::String], T::List),
    global("default", &[T::Dyn, T::Dyn], T::Dyn),
    global("cidr", &[T::String], T::Cidr),
    global("ip", &[T::String], T::Ip),
    method("containsIP", &[T::Cidr, T::String], T::Bool),
    method("containsIP", &[T::Cidr, T::Ip], T::Bool),
    global("json", &[T::String], T::Dyn),
    global("json", &[T::Bytes], T::Dyn),
    global("base64.encode", &[T::String], T::String),
    global("base64.encode", &[T::Bytes], T::String),
    global("base64.decode", &[T::String], T::Bytes),
    global("sha256.encode", &[T::String], T::String),
    global("sha256.encode", &[T::Bytes], T::String),
];

/// The macros, for a did-you-mean.
pub(crate) const MACROS: &[&str] = &["has", "all", "exists", "exists_one", "map", "filter", "optMap", "optFlatMap"];

/// Names of types, which an expression may compare with `type(x)`.
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
