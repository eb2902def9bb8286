//! The functions of expressions, and the environment of the engine that contains them.
//!
//! The [`table`] lists all functions. The other modules implement those that the engine lacks, and those that replace the
//! engine's. Functions that can amplify their input are charged for their output.

mod allocating;
mod encoding;
mod lookup;
mod matching;
mod membership;
mod net;
mod opaque_types;
mod strings;
pub(crate) mod table;

use std::sync::{Arc, LazyLock};

pub(crate) use self::matching::compile_pattern;
use self::opaque_types::{CIDR_TYPE, IP_TYPE, REGEX_TYPE};
pub(crate) use self::opaque_types::{CidrValue, IpValue, RegexValue, parse_ip};
use self::table::{FUNCTIONS, INTERNAL, Implementation};
use super::engine::common::types::{
    BYTES_TYPE, CelBool, CelBytes, CelInt, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, MAP_TYPE, STRING_TYPE, Type,
};
use super::engine::common::value::{CowVal, Val};
use super::engine::{DeclarationError, Env, ExecutionError, extensions};
use super::types::CelType;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| match build_env() {
    Ok(env) => Arc::new(env),
    Err(error) => unreachable!("two rows of the table have the same name and parameters: {error}"),
});

/// Returns the environment that all expressions share.
pub(crate) fn env() -> Arc<Env> {
    Arc::clone(&ENV)
}

fn build_env() -> Result<Env, DeclarationError> {
    // Without the macros of the engine: `macros` expands them.
    let mut env = Env::default().with_stdlib();
    env.add_extension(extensions::strings)?;
    env.add_type(REGEX_TYPE.to_owned())?;
    env.add_type(CIDR_TYPE.to_owned())?;
    env.add_type(IP_TYPE.to_owned())?;
    for (index, row) in FUNCTIONS.iter().enumerate() {
        let id = format!("{}_{index}", row.name);
        let mut params: Vec<Type> = row.params.iter().copied().map(engine_type).collect();
        match row.implementation {
            Implementation::Native(function) if row.method && !params.is_empty() => {
                let receiver = params.remove(0);
                env.add_member_overload(row.name, &id, receiver, params, function)?;
            }
            Implementation::Native(function) => env.add_overload(row.name, &id, params, function)?,
            Implementation::Replacement(function) => {
                env.add_overload(&format!("@{}", row.name), &id, params, function)?;
            }
            Implementation::Engine | Implementation::EngineAllocating | Implementation::Rewritten => {}
        }
    }
    for (index, (name, params, function)) in INTERNAL.iter().enumerate() {
        let params = params.iter().copied().map(engine_type).collect();
        env.add_overload(name, &format!("{name}_{index}"), params, *function)?;
    }
    Ok(env)
}

/// Returns the type by which the engine selects an overload. A type that exists only in the checker accepts any value.
fn engine_type(ty: CelType) -> Type {
    match ty {
        CelType::String => STRING_TYPE,
        CelType::Bytes => BYTES_TYPE,
        CelType::Int => INT_TYPE,
        CelType::List => LIST_TYPE,
        CelType::Map => MAP_TYPE,
        CelType::Cidr => CIDR_TYPE.to_owned(),
        CelType::Ip => IP_TYPE.to_owned(),
        CelType::Regex => REGEX_TYPE.to_owned(),
        _ => DYN_TYPE,
    }
}

/// Converts seconds since the epoch to a CEL timestamp. Returns `None` outside of the years 1 to 9999.
pub(crate) fn timestamp<'b>(seconds: f64) -> Option<CowVal<'b, 'b>> {
    let seconds: CowVal<'b, 'b> = CowVal::owned(CelInt::from(seconds.floor() as i64));
    let args = vec![seconds];
    ENV.find_overload("timestamp", &args)?(args).ok()
}

/// Returns the result of `string(val)`.
pub(crate) fn convert_to_string(val: &dyn Val) -> Option<String> {
    let args = vec![CowVal::Borrowed(val)];
    let text = ENV.find_overload("string", &args)?(args).ok()?;
    Some(text.downcast_ref::<CelString>()?.inner().to_owned())
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

/// Returns the argument at `index`. The signature of the overload guarantees that it exists.
fn arg<'x, 'b, 'v>(args: &'x [CowVal<'b, 'v>], index: usize) -> Result<&'x (dyn Val + 'v), ExecutionError> {
    args.get(index).map(AsRef::as_ref).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn str_arg<'x>(args: &'x [CowVal<'_, '_>], index: usize) -> Result<&'x str, ExecutionError> {
    arg(args, index)?.downcast_ref::<CelString>().map(CelString::inner).ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn bytes_arg<'x>(args: &'x [CowVal<'_, '_>], index: usize) -> Result<&'x [u8], ExecutionError> {
    match arg(args, index)?.downcast_ref::<CelBytes>() {
        Some(bytes) => Ok(bytes.inner()),
        None => str_arg(args, index).map(str::as_bytes),
    }
}
