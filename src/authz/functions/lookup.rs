//! Fields and elements, where the engine would take any failure for absence.
//!
//! Its optional lookups, and its lookups in what an optional holds, answer a header that is not UTF-8 or a field of a
//! string as if nothing were there, and a deny with `default()` would not see it. Here only what is not there is absent.

use cel::ExecutionError;
use cel::common::types::{CelOptional, Kind};
use cel::common::value::{CowVal, Val};
use cel_interpreter as cel;

use super::{Answer, Args, arg, bool, budget, fail, grow, json};

/// What is looked into.
enum Operand<'b, 'v> {
    /// A value that is no optional.
    Plain(CowVal<'b, 'v>),
    /// What an optional holds.
    Held(CowVal<'b, 'v>),
    /// An optional that holds nothing.
    Empty,
}

fn open<'b, 'v>(of: CowVal<'b, 'v>) -> Result<Operand<'b, 'v>, ExecutionError> {
    Ok(match of {
        CowVal::Borrowed(val) => match val.downcast_ref::<CelOptional>() {
            None => Operand::Plain(CowVal::Borrowed(val)),
            Some(optional) => optional.option().map_or(Operand::Empty, |val| Operand::Held(CowVal::Borrowed(val))),
        },
        CowVal::Owned(val) => match val.downcast_ref::<CelOptional>().map(|optional| optional.option()) {
            None => Operand::Plain(CowVal::Owned(val)),
            Some(None) => Operand::Empty,
            Some(Some(held)) => {
                budget::copying(held)?;
                Operand::Held(CowVal::Owned(held.clone_as_boxed()))
            }
        },
    })
}

/// The field or element, or `None` where there is none.
fn find<'b, 'v>(of: CowVal<'b, 'v>, key: &dyn Val) -> Result<Option<CowVal<'b, 'v>>, ExecutionError> {
    match element(of, key) {
        Ok(found) => Ok(Some(found)),
        Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn element<'b, 'v>(of: CowVal<'b, 'v>, key: &dyn Val) -> Answer<'b, 'v> {
    let no_container = |val: &dyn Val| ExecutionError::UnexpectedType {
        got: val.get_type().name().to_owned(),
        want: "map or list".to_owned(),
    };
    match of {
        CowVal::Borrowed(val) => val.as_indexer().ok_or_else(|| no_container(val))?.get(key),
        CowVal::Owned(val) => {
            let found = val.as_indexer().ok_or_else(|| no_container(val.as_ref()))?.get(key)?;
            Ok(CowVal::Owned(grow::paid_copy(found)?.into_owned()))
        }
    }
}

fn optional<'b, 'v>(found: Option<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(match found {
        Some(found) => CelOptional::of(grow::paid_copy(found)?.into_owned()),
        None => CelOptional::none(),
    }))
}

fn operand_and_key<'b, 'v>(args: Args<'b, 'v>) -> Result<[CowVal<'b, 'v>; 2], ExecutionError> {
    <[CowVal<'b, 'v>; 2]>::try_from(args).map_err(|_| ExecutionError::MissingArgumentOrTarget)
}

/// `a.b` and `a[b]`, where `a` may be an optional; then the result is one as well.
pub(super) fn at<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [of, key] = operand_and_key(args)?;
    match open(of)? {
        Operand::Plain(of) => element(of, key.as_ref()),
        Operand::Held(of) => optional(find(of, key.as_ref())?),
        Operand::Empty => optional(None),
    }
}

/// `a.?b` and `a[?b]`.
pub(super) fn maybe<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [of, key] = operand_and_key(args)?;
    match open(of)? {
        Operand::Plain(of) | Operand::Held(of) => optional(find(of, key.as_ref())?),
        Operand::Empty => optional(None),
    }
}

/// `has(a.b)`, where `a` may be an optional.
pub(super) fn has<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [of, key] = operand_and_key(args)?;
    match open(of)? {
        Operand::Plain(of) | Operand::Held(of) => bool(find(of, key.as_ref())?.is_some()),
        Operand::Empty => bool(false),
    }
}

/// `claim(jwt, ["a", "b"])`: null where a step is absent, also without a token. A path leads through objects alone, so the
/// token has no claim behind anything else.
pub(super) fn claim<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let mut at = CowVal::Owned(arg(&args, 0)?.clone_as_boxed());
    let mut path = arg(&args, 1)?.as_iterable().ok_or(ExecutionError::MissingArgumentOrTarget)?.iter();
    while let Some(step) = path.next() {
        if step.get_type().kind() != Kind::String {
            return fail("claim", format_args!("a step of the path is a {}, not a string", step.get_type().name()));
        }
        let found = match at.get_type().kind() {
            Kind::Map => find(at, step)?,
            _ => None,
        };
        match found {
            Some(found) => at = found,
            None => return Ok(CowVal::Borrowed(&json::NULL)),
        }
    }
    Ok(at)
}
