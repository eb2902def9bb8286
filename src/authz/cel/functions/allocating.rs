//! Functions that can amplify their input. Each is charged for its result before it builds it, or immediately afterwards if
//! the result is at most a few times as large as what has been charged before.

use super::{Args, CelResult, arg, function_error, str_arg, string_value};
use crate::authz::cel::budget::{self, element_count};
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::types::{CelBytes, CelDouble, CelInt, CelList, CelString, Kind};
use crate::authz::cel::engine::common::value::{CowVal, Val};
use crate::authz::cel::json::items;

/// The limit on the digits of a formatted number: those of the largest double, and those of the highest precision.
const MAX_DIGITS: usize = 512;

fn into_first<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    args.into_iter().next().ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// Charges for a value that the engine copies if it is borrowed, and otherwise moves.
pub(crate) fn charge_copy<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    charge_if_borrowed(into_first(args)?)
}

/// Charges for the copy of a borrowed value that is about to be owned.
pub(crate) fn charge_if_borrowed<'b, 'v>(val: CowVal<'b, 'v>) -> CelResult<'b, 'v> {
    if val.is_borrowed() {
        budget::charge_copy(val.as_ref())?;
    }
    Ok(val)
}

/// Charges for a value that the engine has just built.
pub(crate) fn charge_result<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    budget::charge_copy(arg(&args, 0)?)?;
    into_first(args)
}

/// Charges for reading a text.
pub(crate) fn charge_read<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    budget::charge_read(byte_len(arg(&args, 0)?))?;
    into_first(args)
}

/// Charges for the arguments of `format` by their formatted lengths.
pub(crate) fn charge_format_args<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let list = arg(&args, 0)?;
    budget::charge_alloc(element_count(list).saturating_mul(MAX_DIGITS))?;
    charge_formatted(list)?;
    into_first(args)
}

/// Charges for the range of a comprehension: for each element, its copy and the weight of the body.
pub(crate) fn charge_comprehension<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let range = arg(&args, 0)?;
    if !matches!(range.get_type().kind(), Kind::List | Kind::Map) {
        return function_error("comprehension", format_args!("a {} cannot be iterated over", range.get_type().name()));
    }
    let weight = int_arg(&args, 1).and_then(|weight| usize::try_from(weight).ok()).unwrap_or(1);
    budget::charge_steps(1 + element_count(range).saturating_mul(weight))?;
    budget::charge_element_copies(range)?;
    into_first(args)
}

/// Implements `a + b`.
pub(crate) fn add<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let (a, b) = (arg(&args, 0)?, arg(&args, 1)?);
    let number = |kind| matches!(kind, Kind::Int | Kind::UInt | Kind::Double | Kind::Timestamp | Kind::Duration);
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::String, Kind::String) | (Kind::Bytes, Kind::Bytes) => budget::charge_alloc(byte_len(a) + byte_len(b))?,
        (Kind::List, Kind::List) => {
            budget::charge_scan(element_count(a) + element_count(b))?;
            budget::charge_element_copies(a)?;
            budget::charge_element_copies(b)?;
        }
        (a, b) if number(a) && number(b) => {}
        // The error of the engine would contain a copy of both operands.
        _ => {
            let types = [a, b].map(|val| val.get_type().name().to_owned()).to_vec();
            return Err(ExecutionError::no_such_overload("add", types));
        }
    }
    let adder = a.as_adder().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Ok(CowVal::Owned(adder.add(b)?.into_owned()))
}

pub(crate) fn replace<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let (text, from, to) = (str_arg(&args, 0)?, str_arg(&args, 1)?, str_arg(&args, 2)?);
    let limit = int_arg(&args, 3).and_then(|limit| usize::try_from(limit).ok());
    budget::charge_read(text.len())?;
    let replacements = text.matches(from).count().min(limit.unwrap_or(usize::MAX));
    budget::charge_alloc(text.len().saturating_add(replacements.saturating_mul(to.len())))?;
    string_value(match limit {
        Some(limit) => text.replacen(from, to, limit),
        None => text.replace(from, to),
    })
}

pub(crate) fn join<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let separator = if args.len() > 1 { str_arg(&args, 1)? } else { "" };
    let list = arg(&args, 0)?;
    let mut items = items(list)?;
    budget::charge_scan(element_count(list))?;
    let mut joined = String::new();
    let mut first = true;
    while let Some(item) = items.next() {
        let Some(text) = item.downcast_ref::<CelString>() else {
            return function_error("join", format_args!("the list holds a {}, not a string", item.get_type().name()));
        };
        budget::charge_alloc(separator.len() + text.inner().len())?;
        if !first {
            joined.push_str(separator);
        }
        first = false;
        joined.push_str(text.inner());
    }
    string_value(joined)
}

/// Implements `split`: splits into at most `n` parts, the last of which is the remainder. 0 returns no parts, and a negative
/// limit all parts. An empty separator splits after every character.
pub(crate) fn split<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let (text, separator) = (str_arg(&args, 0)?, str_arg(&args, 1)?);
    let limit = int_arg(&args, 2).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    budget::charge_read(text.len())?;
    let available = if separator.is_empty() { text.chars().count() } else { text.matches(separator).count() + 1 };
    let parts = available.min(limit);
    budget::charge_scan(parts)?;
    budget::charge_list(parts, text.len())?;
    let parts: Vec<&str> = match (limit, separator) {
        (0, _) => Vec::new(),
        (limit, "") => {
            let last = text.char_indices().nth(limit - 1).map_or(text.len(), |(offset, _)| offset);
            let (singles, rest) = text.split_at(last);
            let ends = singles.char_indices().map(|(start, c)| start..start + c.len_utf8());
            ends.filter_map(|range| singles.get(range)).chain((!rest.is_empty()).then_some(rest)).collect()
        }
        (limit, separator) => text.splitn(limit, separator).collect(),
    };
    let parts = parts.into_iter().map(|part| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>);
    Ok(CowVal::owned(CelList::from(parts.collect::<Vec<_>>())))
}

fn int_arg(args: &[CowVal<'_, '_>], index: usize) -> Option<i64> {
    args.get(index).and_then(|number| number.downcast_ref::<CelInt>()).map(|number| *number.inner())
}

/// Returns the length of a string or bytes, and 0 for any other value.
fn byte_len(val: &dyn Val) -> usize {
    match val.downcast_ref::<CelString>() {
        Some(text) => text.inner().len(),
        None => val.downcast_ref::<CelBytes>().map_or(0, |bytes| bytes.inner().len()),
    }
}

/// Charges for a formatted value. A text may be formatted in hexadecimal, and a double without an exponent.
fn charge_formatted(val: &dyn Val) -> Result<(), ExecutionError> {
    let digits = val.downcast_ref::<CelDouble>().map_or(0, |_| MAX_DIGITS);
    budget::charge_alloc(byte_len(val).saturating_mul(2).saturating_add(digits))?;
    let Some(iterable) = val.as_iterable() else { return Ok(()) };
    budget::charge_scan(element_count(val))?;
    let (mut items, values) = (iterable.iter(), val.as_indexer().filter(|_| val.get_type().kind() == Kind::Map));
    while let Some(item) = items.next() {
        charge_formatted(item)?;
        if let Some(values) = values {
            charge_formatted(values.get(item)?.as_ref())?;
        }
    }
    Ok(())
}
