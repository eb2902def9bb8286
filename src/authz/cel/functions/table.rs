//! The table of functions: the one list from which functions are registered with the engine, calls are checked, and the
//! reference is generated.
//!
//! Adding a function takes a row here, an implementation in one of the sibling modules, and tests.

use super::{allocating, encoding, lookup, matching, membership, net, strings};
use crate::authz::cel::engine::common::functions::Function as NativeFunction;
use crate::authz::cel::types::CelType as T;

/// An overload of a function. The first parameter of a method is its receiver.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) method: bool,
    pub(crate) params: &'static [T],
    pub(crate) result: T,
    pub(crate) implementation: Implementation,
}

/// The implementation of an overload.
#[derive(Clone, Copy)]
pub(crate) enum Implementation {
    /// The function of the engine, whose result is small.
    Engine,
    /// The function of the engine. Its result may be about as large as its arguments, so each call is charged for it.
    EngineAllocating,
    /// A function of this module under the same name. It charges for itself.
    Native(NativeFunction),
    /// A function of this module that replaces one of the engine. It is registered as `@name`, to which the checker
    /// redirects calls, and charges for itself.
    Replacement(NativeFunction),
    /// A function that the checker rewrites into another expression.
    Rewritten,
}

use Implementation::{Engine, EngineAllocating, Native, Replacement, Rewritten};

const fn method(name: &'static str, params: &'static [T], result: T, implementation: Implementation) -> Function {
    Function { name, method: true, params, result, implementation }
}

const fn global(name: &'static str, params: &'static [T], result: T, implementation: Implementation) -> Function {
    Function { name, method: false, params, result, implementation }
}

/// Every function that an expression may call: those of the standard library of CEL, of its strings extension, and of this
/// project.
pub(crate) const FUNCTIONS: &[Function] = &[
    global("size", &[T::String], T::Int, Engine),
    global("size", &[T::Bytes], T::Int, Engine),
    global("size", &[T::List], T::Int, Engine),
    global("size", &[T::Map], T::Int, Engine),
    method("size", &[T::String], T::Int, Engine),
    method("size", &[T::Bytes], T::Int, Engine),
    method("size", &[T::List], T::Int, Engine),
    method("size", &[T::Map], T::Int, Engine),
    method("contains", &[T::String, T::String], T::Bool, Engine),
    method("contains", &[T::List, T::Dyn], T::Bool, Native(membership::contains)),
    method("contains", &[T::Map, T::Dyn], T::Bool, Native(membership::contains)),
    method("startsWith", &[T::String, T::String], T::Bool, Engine),
    method("endsWith", &[T::String, T::String], T::Bool, Engine),
    method("matches", &[T::String, T::String], T::Bool, Rewritten),
    global("matches", &[T::String, T::String], T::Bool, Rewritten),
    global("int", &[T::Int], T::Int, Engine),
    global("int", &[T::Uint], T::Int, Engine),
    global("int", &[T::Double], T::Int, Engine),
    global("int", &[T::String], T::Int, Engine),
    global("int", &[T::Timestamp], T::Int, Engine),
    global("uint", &[T::Int], T::Uint, Engine),
    global("uint", &[T::Uint], T::Uint, Engine),
    global("uint", &[T::Double], T::Uint, Engine),
    global("uint", &[T::String], T::Uint, Engine),
    global("double", &[T::Int], T::Double, Engine),
    global("double", &[T::Uint], T::Double, Engine),
    global("double", &[T::Double], T::Double, Engine),
    global("double", &[T::String], T::Double, Engine),
    global("bool", &[T::Bool], T::Bool, Engine),
    global("bool", &[T::String], T::Bool, Engine),
    global("string", &[T::String], T::String, EngineAllocating),
    global("string", &[T::Bool], T::String, EngineAllocating),
    global("string", &[T::Int], T::String, EngineAllocating),
    global("string", &[T::Uint], T::String, EngineAllocating),
    global("string", &[T::Double], T::String, EngineAllocating),
    global("string", &[T::Bytes], T::String, EngineAllocating),
    global("string", &[T::Timestamp], T::String, EngineAllocating),
    global("string", &[T::Duration], T::String, EngineAllocating),
    global("string", &[T::Ip], T::String, Native(net::ip_to_string)),
    global("bytes", &[T::Bytes], T::Bytes, EngineAllocating),
    global("bytes", &[T::String], T::Bytes, EngineAllocating),
    global("timestamp", &[T::String], T::Timestamp, Engine),
    global("timestamp", &[T::Int], T::Timestamp, Engine),
    global("timestamp", &[T::Timestamp], T::Timestamp, Engine),
    global("duration", &[T::String], T::Duration, Engine),
    global("duration", &[T::Duration], T::Duration, Engine),
    global("type", &[T::Dyn], T::Type, Engine),
    global("dyn", &[T::Dyn], T::Dyn, Engine),
    method("getFullYear", &[T::Timestamp], T::Int, Engine),
    method("getFullYear", &[T::Timestamp, T::String], T::Int, Engine),
    method("getMonth", &[T::Timestamp], T::Int, Engine),
    method("getMonth", &[T::Timestamp, T::String], T::Int, Engine),
    method("getDayOfYear", &[T::Timestamp], T::Int, Engine),
    method("getDayOfYear", &[T::Timestamp, T::String], T::Int, Engine),
    method("getDayOfMonth", &[T::Timestamp], T::Int, Engine),
    method("getDayOfMonth", &[T::Timestamp, T::String], T::Int, Engine),
    method("getDate", &[T::Timestamp], T::Int, Engine),
    method("getDate", &[T::Timestamp, T::String], T::Int, Engine),
    method("getDayOfWeek", &[T::Timestamp], T::Int, Engine),
    method("getDayOfWeek", &[T::Timestamp, T::String], T::Int, Engine),
    method("getHours", &[T::Timestamp], T::Int, Engine),
    method("getHours", &[T::Timestamp, T::String], T::Int, Engine),
    method("getHours", &[T::Duration], T::Int, Engine),
    method("getMinutes", &[T::Timestamp], T::Int, Engine),
    method("getMinutes", &[T::Timestamp, T::String], T::Int, Engine),
    method("getMinutes", &[T::Duration], T::Int, Engine),
    method("getSeconds", &[T::Timestamp], T::Int, Engine),
    method("getSeconds", &[T::Timestamp, T::String], T::Int, Engine),
    method("getSeconds", &[T::Duration], T::Int, Engine),
    method("getMilliseconds", &[T::Timestamp], T::Int, Engine),
    method("getMilliseconds", &[T::Timestamp, T::String], T::Int, Engine),
    method("getMilliseconds", &[T::Duration], T::Int, Engine),
    global("optional.of", &[T::Dyn], T::Optional, Engine),
    global("optional.ofNonZeroValue", &[T::Dyn], T::Optional, Engine),
    global("optional.none", &[], T::Optional, Engine),
    method("value", &[T::Optional], T::Dyn, Engine),
    method("hasValue", &[T::Optional], T::Bool, Engine),
    method("or", &[T::Optional, T::Optional], T::Optional, Engine),
    method("orValue", &[T::Optional, T::Dyn], T::Dyn, Engine),
    method("charAt", &[T::String, T::Int], T::String, EngineAllocating),
    method("indexOf", &[T::String, T::String], T::Int, Replacement(strings::index_of)),
    method("indexOf", &[T::String, T::String, T::Int], T::Int, Replacement(strings::index_of)),
    method("lastIndexOf", &[T::String, T::String], T::Int, Replacement(strings::last_index_of)),
    method("lastIndexOf", &[T::String, T::String, T::Int], T::Int, Replacement(strings::last_index_of)),
    method("lowerAscii", &[T::String], T::String, EngineAllocating),
    method("upperAscii", &[T::String], T::String, EngineAllocating),
    method("trim", &[T::String], T::String, EngineAllocating),
    method("reverse", &[T::String], T::String, EngineAllocating),
    method("replace", &[T::String, T::String, T::String], T::String, Replacement(allocating::replace)),
    method("replace", &[T::String, T::String, T::String, T::Int], T::String, Replacement(allocating::replace)),
    method("split", &[T::String, T::String], T::List, Replacement(allocating::split)),
    method("split", &[T::String, T::String, T::Int], T::List, Replacement(allocating::split)),
    method("substring", &[T::String, T::Int], T::String, EngineAllocating),
    method("substring", &[T::String, T::Int, T::Int], T::String, EngineAllocating),
    method("join", &[T::List], T::String, Replacement(allocating::join)),
    method("join", &[T::List, T::String], T::String, Replacement(allocating::join)),
    method("format", &[T::String, T::List], T::String, Engine),
    global("strings.quote", &[T::String], T::String, EngineAllocating),
    method("stripPrefix", &[T::String, T::String], T::String, Native(strings::strip_prefix)),
    method("stripSuffix", &[T::String, T::String], T::String, Native(strings::strip_suffix)),
    global("scopes", &[T::Jwt], T::List, Rewritten),
    global("claim", &[T::Jwt, T::List], T::Claim, Native(lookup::claim)),
    global("headers", &[T::Record, T::String], T::List, Rewritten),
    global("default", &[T::Dyn, T::Dyn], T::Dyn, Rewritten),
    global("cidr", &[T::String], T::Cidr, Native(net::cidr)),
    global("ip", &[T::String], T::Ip, Native(net::ip)),
    method("containsIP", &[T::Cidr, T::String], T::Bool, Native(net::contains_ip)),
    method("containsIP", &[T::Cidr, T::Ip], T::Bool, Native(net::contains_ip)),
    global("json", &[T::String], T::Dyn, Native(encoding::parse_json)),
    global("json", &[T::Bytes], T::Dyn, Native(encoding::parse_json)),
    global("base64.encode", &[T::String], T::String, Native(encoding::base64_encode)),
    global("base64.encode", &[T::Bytes], T::String, Native(encoding::base64_encode)),
    global("base64.decode", &[T::String], T::Bytes, Native(encoding::base64_decode)),
    global("sha256.encode", &[T::String], T::String, Native(encoding::sha256)),
    global("sha256.encode", &[T::Bytes], T::String, Native(encoding::sha256)),
];

/// The names of the functions that only the checker calls. No source can contain them, since `@` is not a part of an
/// identifier.
pub(crate) mod internal {
    /// `contains` on a claim.
    pub(crate) const CLAIM_CONTAINS: &str = "@claim_contains";
    /// `in`, where an element may be a list or a map.
    pub(crate) const MEMBER: &str = "@member";
    /// `==`, where an operand may be a list or a map.
    pub(crate) const EQUAL: &str = "@equal";
    /// Charges for the range of a comprehension.
    pub(crate) const CHARGE_RANGE: &str = "@charge_range";
    /// `matches`.
    pub(crate) const MATCHES: &str = "@matches";
    /// Charges for a copy of a borrowed value.
    pub(crate) const CHARGE_COPY: &str = "@charge_copy";
    /// Charges for a value that the engine has built.
    pub(crate) const CHARGE_RESULT: &str = "@charge_result";
    /// Charges for reading a text.
    pub(crate) const CHARGE_READ: &str = "@charge_read";
    /// Charges for the arguments of `format`.
    pub(crate) const CHARGE_FORMAT_ARGS: &str = "@charge_format_args";
    /// `+`.
    pub(crate) const ADD: &str = "@add";
    /// `a.b` and `a[b]`, where `a` may be an optional.
    pub(crate) const INDEX: &str = "@index";
    /// `a.?b` and `a[?b]`.
    pub(crate) const OPTIONAL_INDEX: &str = "@optional_index";
    /// `has(a.b)`, where `a` may be an optional.
    pub(crate) const HAS: &str = "@has";
}

/// The functions that only the checker calls.
pub(super) const INTERNAL: &[(&str, &[T], NativeFunction)] = &[
    (internal::CLAIM_CONTAINS, &[T::Dyn, T::Dyn], membership::claim_contains),
    (internal::MEMBER, &[T::Dyn, T::Dyn], membership::member),
    (internal::EQUAL, &[T::Dyn, T::Dyn], membership::equal),
    (internal::CHARGE_RANGE, &[T::Dyn, T::Int], allocating::charge_comprehension),
    (internal::MATCHES, &[T::String, T::Regex], matching::matches),
    (internal::MATCHES, &[T::String, T::String], matching::matches_dynamic),
    (internal::CHARGE_COPY, &[T::Dyn], allocating::charge_copy),
    (internal::CHARGE_RESULT, &[T::Dyn], allocating::charge_result),
    (internal::CHARGE_READ, &[T::Dyn], allocating::charge_read),
    (internal::CHARGE_FORMAT_ARGS, &[T::Dyn], allocating::charge_format_args),
    (internal::ADD, &[T::Dyn, T::Dyn], allocating::add),
    (internal::INDEX, &[T::Dyn, T::Dyn], lookup::index),
    (internal::OPTIONAL_INDEX, &[T::Dyn, T::Dyn], lookup::optional_index),
    (internal::HAS, &[T::Dyn, T::Dyn], lookup::has),
];

/// The macros, which [`macros`](crate::authz::cel::macros) and the parser expand.
pub(crate) const MACROS: &[&str] = &["has", "all", "exists", "exists_one", "map", "filter", "optMap", "optFlatMap"];

/// Returns all overloads of a function.
pub(crate) fn overloads(name: &str) -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().filter(move |function| function.name == name)
}

/// Reports whether calls of a function are charged for their results.
pub(crate) fn is_charged_for_result(name: &str) -> bool {
    overloads(name).any(|function| matches!(function.implementation, EngineAllocating))
}

/// Returns the internal name of a function that replaces one of the engine.
pub(crate) fn replacement_name(name: &str) -> Option<String> {
    overloads(name).any(|function| matches!(function.implementation, Replacement(_))).then(|| format!("@{name}"))
}
