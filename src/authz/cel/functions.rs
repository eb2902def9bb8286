//! The functions of expressions beyond CEL's standard library, and the environment that holds both.
//!
//! Names that begin with `@` can't be written: the compiler puts them in place of what was (see [`lower`](crate::authz::cel::check)).
//! What could make much out of little pays for it: [`grow`], and a regex from a variable here.

mod allocating;
mod lookup;
mod opaque_types;
mod search;

use std::sync::{Arc, LazyLock};

use crate::authz::cel::engine::common::functions::Function;
use crate::authz::cel::engine::common::types::{
    BYTES_TYPE, CelBool, CelBytes, CelInt, CelList, CelString, DYN_TYPE, INT_TYPE, Kind, LIST_TYPE, MAP_TYPE,
    STRING_TYPE,
};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::authz::cel::engine::{DeclarationError, Env, ExecutionError};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use regex::{Regex, RegexBuilder};

use super::{budget, engine, json};
use opaque_types::{CIDR_TYPE, IP_TYPE, REGEX_TYPE};
pub(crate) use opaque_types::{CidrValue, IpValue, RegexValue, parse_ip};

/// The memory that a compiled regex may take: written in the config, and made from a variable.
const MAX_REGEX_SIZE: usize = 1 << 20;
const MAX_DYNAMIC_REGEX_SIZE: usize = 1 << 16;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| match build_env() {
    Ok(env) => Arc::new(env),
    Err(error) => unreachable!("two functions of this file have one name and one signature: {error}"),
});

/// The one environment of the process.
pub(crate) fn env() -> Arc<Env> {
    Arc::clone(&ENV)
}

fn build_env() -> Result<Env, DeclarationError> {
    // Without the engine's macros: `macros` expands them.
    let mut env = Env::default().with_stdlib();
    env.add_extension(engine::extensions::strings)?;
    env.add_type(REGEX_TYPE.to_owned())?;
    env.add_type(CIDR_TYPE.to_owned())?;
    env.add_type(IP_TYPE.to_owned())?;
    env.add_member_overload("contains", "list_contains", LIST_TYPE, vec![DYN_TYPE], contains)?;
    env.add_member_overload("contains", "map_contains", MAP_TYPE, vec![DYN_TYPE], contains)?;
    env.add_overload("@claim_contains", "claim_contains", vec![DYN_TYPE, DYN_TYPE], claim_contains)?;
    env.add_overload("@member", "member", vec![DYN_TYPE, DYN_TYPE], member)?;
    env.add_overload("@equal", "equal", vec![DYN_TYPE, DYN_TYPE], equal)?;
    env.add_overload("@each", "each", vec![DYN_TYPE, INT_TYPE], allocating::charge_comprehension)?;
    env.add_overload("@matches", "matches_pattern", vec![STRING_TYPE, REGEX_TYPE.to_owned()], matches)?;
    env.add_overload("@matches", "matches_string", vec![STRING_TYPE, STRING_TYPE], matches_dynamic)?;
    for (name, function) in [
        ("@copied", allocating::charge_copy as Function),
        ("@made", allocating::charge_result),
        ("@read", allocating::charge_read),
        ("@shown", allocating::charge_format_args),
    ] {
        env.add_overload(name, name, vec![DYN_TYPE], function)?;
    }
    env.add_overload("@add", "add", vec![DYN_TYPE, DYN_TYPE], allocating::add)?;
    env.add_overload("@replace", "replace", vec![STRING_TYPE, STRING_TYPE, STRING_TYPE], allocating::replace)?;
    env.add_overload(
        "@replace",
        "replace_n",
        vec![STRING_TYPE, STRING_TYPE, STRING_TYPE, INT_TYPE],
        allocating::replace,
    )?;
    env.add_overload("@join", "join", vec![LIST_TYPE], allocating::join)?;
    env.add_overload("@join", "join_with", vec![LIST_TYPE, STRING_TYPE], allocating::join)?;
    for (name, function) in [
        ("@split", allocating::split as Function),
        ("@indexOf", search::index_of),
        ("@lastIndexOf", search::last_index_of),
    ] {
        env.add_overload(name, "all", vec![STRING_TYPE, STRING_TYPE], function)?;
        env.add_overload(name, "some", vec![STRING_TYPE, STRING_TYPE, INT_TYPE], function)?;
    }
    env.add_overload("claim", "claim", vec![DYN_TYPE, LIST_TYPE], lookup::claim)?;
    for (name, function) in
        [("@at", lookup::index as Function), ("@maybe", lookup::optional_index), ("@has", lookup::has)]
    {
        env.add_overload(name, name, vec![DYN_TYPE, DYN_TYPE], function)?;
    }
    env.add_overload("cidr", "cidr", vec![STRING_TYPE], cidr)?;
    env.add_overload("ip", "ip", vec![STRING_TYPE], ip)?;
    env.add_overload("string", "ip_to_string", vec![IP_TYPE.to_owned()], ip_to_string)?;
    env.add_member_overload("containsIP", "cidr_ip", CIDR_TYPE.to_owned(), vec![IP_TYPE.to_owned()], contains_ip)?;
    env.add_member_overload("containsIP", "cidr_string", CIDR_TYPE.to_owned(), vec![STRING_TYPE], contains_ip)?;
    env.add_member_overload("stripPrefix", "strip_prefix", STRING_TYPE, vec![STRING_TYPE], strip_prefix)?;
    env.add_member_overload("stripSuffix", "strip_suffix", STRING_TYPE, vec![STRING_TYPE], strip_suffix)?;
    for (id, argument_type) in [("string", STRING_TYPE), ("bytes", BYTES_TYPE)] {
        env.add_overload("json", id, vec![argument_type.to_owned()], parse_json)?;
        env.add_overload("base64.encode", id, vec![argument_type.to_owned()], base64_encode)?;
        env.add_overload("sha256.encode", id, vec![argument_type], sha256)?;
    }
    env.add_overload("base64.decode", "string", vec![STRING_TYPE], base64_decode)?;
    Ok(env)
}

/// Seconds since the epoch as a CEL timestamp; `None` outside of the years 1 to 9999.
pub(crate) fn timestamp<'b>(seconds: f64) -> Option<CowVal<'b, 'b>> {
    let seconds: CowVal<'b, 'b> = CowVal::owned(CelInt::from(seconds.floor() as i64));
    let args = vec![seconds];
    ENV.find_overload("timestamp", &args)?(args).ok()
}

/// What `string(val)` gives.
pub(crate) fn convert_to_string(val: &dyn Val) -> Option<String> {
    let args = vec![CowVal::Borrowed(val)];
    let text = ENV.find_overload("string", &args)?(args).ok()?;
    Some(text.downcast_ref::<CelString>()?.inner().to_owned())
}

/// Compiles a regex of the config. Unanchored, as CEL's `matches` is.
pub(crate) fn compile_pattern(source: &str) -> Result<RegexValue, String> {
    compile_regex(source, MAX_REGEX_SIZE).map(RegexValue)
}

fn compile_regex(source: &str, size: usize) -> Result<Regex, String> {
    RegexBuilder::new(source).size_limit(size).dfa_size_limit(size).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regex is too big once compiled".to_owned(),
        // The last line says what is wrong; those before it draw the place.
        error => {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    })
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type CelResult<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn bool_value<'b, 'v>(value: bool) -> CelResult<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

fn string_value<'b, 'v>(text: impl Into<String>) -> CelResult<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text.into())))
}

fn function_error<'b, 'v>(function: &str, message: impl ToString) -> CelResult<'b, 'v> {
    Err(ExecutionError::function_error(function, message))
}

/// The argument at `at`. The overload's signature has already promised that it is there.
fn arg<'x, 'b, 'v>(args: &'x [CowVal<'b, 'v>], at: usize) -> Result<&'x (dyn Val + 'v), ExecutionError> {
    args.get(at).map(AsRef::as_ref).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn str_arg<'x>(args: &'x [CowVal<'_, '_>], at: usize) -> Result<&'x str, ExecutionError> {
    arg(args, at)?.downcast_ref::<CelString>().map(CelString::inner).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn bytes_arg<'x>(args: &'x [CowVal<'_, '_>], at: usize) -> Result<&'x [u8], ExecutionError> {
    match arg(args, at)?.downcast_ref::<CelBytes>() {
        Some(bytes) => Ok(bytes.inner()),
        None => str_arg(args, at).map(str::as_bytes),
    }
}

fn is_member(value: &dyn Val, container: &dyn Val) -> Result<bool, ExecutionError> {
    if let Some(list) = container.downcast_ref::<CelList>() {
        budget::charge_scan(list.inner().len())?;
        return json::any_equal(list.inner().iter().map(AsRef::as_ref), value);
    }
    match container.as_container() {
        Some(items) => items.contains(value),
        None => Err(ExecutionError::no_such_overload(
            "@in",
            vec![value.get_type().name().to_owned(), container.get_type().name().to_owned()],
        )),
    }
}

/// `list.contains(x)`, `map.contains(key)`.
fn contains<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(is_member(arg(&args, 1)?, arg(&args, 0)?)?)
}

/// `x in list`, where an element may be a list or a map.
fn member<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(is_member(arg(&args, 0)?, arg(&args, 1)?)?)
}

/// `jwt.….contains(x)` (SPEC §6). On a string it would be a substring test, and `not-admins` an admin.
fn claim_contains<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let claim = arg(&args, 0)?;
    match claim.get_type().kind() {
        Kind::List | Kind::Map => bool_value(is_member(arg(&args, 1)?, claim)?),
        Kind::String => function_error(
            "contains",
            "this claim is a string, where contains() would be a substring test; use ==, startsWith, endsWith or \
             matches, or scopes(jwt) for a space-separated list",
        ),
        _ => Err(ExecutionError::no_such_member_overload(
            "contains",
            vec![claim.get_type().name().to_owned(), arg(&args, 1)?.get_type().name().to_owned()],
        )),
    }
}

fn equal<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    bool_value(json::equal(arg(&args, 0)?, arg(&args, 1)?)?)
}

/// `x.matches('literal')`.
fn matches<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_read(text.len())?;
    match arg(&args, 1)?.downcast_ref::<RegexValue>() {
        Some(RegexValue(regex)) => bool_value(regex.is_match(text)),
        None => Err(ExecutionError::MissingArgumentOrTarget),
    }
}

/// `x.matches(y)`. The regex is compiled each time, so it is kept small and paid for.
fn matches_dynamic<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let (text, source) = (str_arg(&args, 0)?, str_arg(&args, 1)?);
    budget::charge_read(text.len())?;
    budget::charge_steps(100 + source.len())?;
    match compile_regex(source, MAX_DYNAMIC_REGEX_SIZE) {
        Ok(regex) => bool_value(regex.is_match(text)),
        Err(message) => function_error("matches", message),
    }
}

fn cidr<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    match text.parse::<CidrValue>() {
        Ok(cidr) => Ok(CowVal::owned(cidr)),
        Err(message) => function_error("cidr", message),
    }
}

fn ip<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    match parse_ip(str_arg(&args, 0)?) {
        Ok(ip) => Ok(CowVal::owned(ip)),
        Err(message) => function_error("ip", message),
    }
}

fn ip_to_string<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    match arg(&args, 0)?.downcast_ref::<IpValue>() {
        Some(IpValue(ip)) => string_value(ip.to_string()),
        None => Err(ExecutionError::MissingArgumentOrTarget),
    }
}

fn contains_ip<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let Some(cidr) = arg(&args, 0)?.downcast_ref::<CidrValue>() else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    match arg(&args, 1)?.downcast_ref::<IpValue>() {
        Some(IpValue(ip)) => bool_value(cidr.contains(*ip)),
        None => match parse_ip(str_arg(&args, 1)?) {
            Ok(IpValue(ip)) => bool_value(cidr.contains(ip)),
            Err(message) => function_error("containsIP", message),
        },
    }
}

fn strip_prefix<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    string_value(text.strip_prefix(str_arg(&args, 1)?).unwrap_or(text))
}

fn strip_suffix<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    string_value(text.strip_suffix(str_arg(&args, 1)?).unwrap_or(text))
}

fn parse_json<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = bytes_arg(&args, 0)?;
    // A text of two bytes becomes a value of dozens.
    budget::charge_steps(text.len() / 64)?;
    budget::charge_alloc(text.len().saturating_mul(8))?;
    match serde_json::from_slice(text) {
        Ok(value) => Ok(CowVal::Owned(json::from_owned_json(value))),
        // The parser's own message would quote the text.
        Err(error) => {
            function_error("json", format_args!("not JSON at line {}, column {}", error.line(), error.column()))
        }
    }
}

fn base64_encode<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let bytes = bytes_arg(&args, 0)?;
    budget::charge_alloc(bytes.len().saturating_mul(4) / 3)?;
    string_value(STANDARD.encode(bytes))
}

/// With or without padding, as the CEL extension does.
fn base64_decode<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    match STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)) {
        Ok(bytes) => Ok(CowVal::owned(CelBytes::from(bytes))),
        Err(_) => function_error("base64.decode", "not base64"),
    }
}

/// The digest in lower-case hexadecimal.
fn sha256<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let bytes = bytes_arg(&args, 0)?;
    budget::charge_read(bytes.len())?;
    let digest = digest::digest(&digest::SHA256, bytes);
    string_value(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
