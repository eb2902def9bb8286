//! Lookups of fields and elements that distinguish absence from failure.
//!
//! The optional lookups of the engine, and its lookups in the content of an optional, treat every failure as absence. A deny
//! rule with `default()` would then miss a header that is not UTF-8, or a field of a string. Here a value is absent only if
//! the key does not exist.

use super::{Args, CelResult, allocating, arg, bool_value, function_error};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::types::{CelOptional, Kind};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::authz::cel::{budget, json};

/// The container of a lookup.
enum Operand<'b, 'v> {
    /// A value that is not an optional.
    Plain(CowVal<'b, 'v>),
    /// The content of an optional.
    Unwrapped(CowVal<'b, 'v>),
    /// An empty optional.
    Empty,
}

fn unwrap_optional<'b, 'v>(val: CowVal<'b, 'v>) -> Result<Operand<'b, 'v>, ExecutionError> {
    Ok(match val {
        CowVal::Borrowed(val) => match val.downcast_ref::<CelOptional>() {
            None => Operand::Plain(CowVal::Borrowed(val)),
            Some(optional) => optional.option().map_or(Operand::Empty, |val| Operand::Unwrapped(CowVal::Borrowed(val))),
        },
        CowVal::Owned(val) => match val.downcast_ref::<CelOptional>().map(|optional| optional.option()) {
            None => Operand::Plain(CowVal::Owned(val)),
            Some(None) => Operand::Empty,
            Some(Some(inner)) => {
                budget::charge_copy(inner)?;
                Operand::Unwrapped(CowVal::Owned(inner.clone_as_boxed()))
            }
        },
    })
}

/// Returns the field or element, or `None` if it is absent.
fn find<'b, 'v>(container: CowVal<'b, 'v>, key: &dyn Val) -> Result<Option<CowVal<'b, 'v>>, ExecutionError> {
    match get(container, key) {
        Ok(element) => Ok(Some(element)),
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn get<'b, 'v>(container: CowVal<'b, 'v>, key: &dyn Val) -> CelResult<'b, 'v> {
    let not_indexable = |val: &dyn Val| ExecutionError::UnexpectedType {
        got: val.get_type().name().to_owned(),
        want: "map or list".to_owned(),
    };
    match container {
        CowVal::Borrowed(val) => val.as_indexer().ok_or_else(|| not_indexable(val))?.get(key),
        CowVal::Owned(val) => {
            let element = val.as_indexer().ok_or_else(|| not_indexable(val.as_ref()))?.get(key)?;
            Ok(CowVal::Owned(allocating::charge_if_borrowed(element)?.into_owned()))
        }
    }
}

fn into_optional<'b, 'v>(element: Option<CowVal<'b, 'v>>) -> CelResult<'b, 'v> {
    Ok(CowVal::owned(match element {
        Some(element) => CelOptional::of(allocating::charge_if_borrowed(element)?.into_owned()),
        None => CelOptional::none(),
    }))
}

fn operand_and_key<'b, 'v>(args: Args<'b, 'v>) -> Result<[CowVal<'b, 'v>; 2], ExecutionError> {
    <[CowVal<'b, 'v>; 2]>::try_from(args).map_err(|_| ExecutionError::MissingArgumentOrTarget)
}

/// Implements `a.b` and `a[b]`, where `a` may be an optional. The result is then an optional too.
pub(crate) fn index<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let [container, key] = operand_and_key(args)?;
    match unwrap_optional(container)? {
        Operand::Plain(container) => get(container, key.as_ref()),
        Operand::Unwrapped(container) => into_optional(find(container, key.as_ref())?),
        Operand::Empty => into_optional(None),
    }
}

/// Implements `a.?b` and `a[?b]`.
pub(crate) fn optional_index<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let [container, key] = operand_and_key(args)?;
    match unwrap_optional(container)? {
        Operand::Plain(container) | Operand::Unwrapped(container) => into_optional(find(container, key.as_ref())?),
        Operand::Empty => into_optional(None),
    }
}

/// Implements `has(a.b)`, where `a` may be an optional.
pub(crate) fn has<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let [container, key] = operand_and_key(args)?;
    match unwrap_optional(container)? {
        Operand::Plain(container) | Operand::Unwrapped(container) => {
            bool_value(find(container, key.as_ref())?.is_some())
        }
        Operand::Empty => bool_value(false),
    }
}

/// Implements `claim(jwt, ["a", "b"])`. Returns null if a step is absent, and without a token. A path leads through objects
/// only, so a step into any other value is absent.
pub(crate) fn claim<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let mut current = CowVal::Owned(arg(&args, 0)?.clone_as_boxed());
    let mut path = arg(&args, 1)?.as_iterable().ok_or(ExecutionError::MissingArgumentOrTarget)?.iter();
    while let Some(step) = path.next() {
        if step.get_type().kind() != Kind::String {
            return function_error(
                "claim",
                format_args!("a step of the path is a {}, not a string", step.get_type().name()),
            );
        }
        let child = match current.get_type().kind() {
            Kind::Map => find(current, step)?,
            _ => None,
        };
        match child {
            Some(child) => current = child,
            None => return Ok(CowVal::Borrowed(&json::NULL)),
        }
    }
    Ok(current)
}
