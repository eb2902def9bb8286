//! What could make much out of little: each pays for its result before there is one, or right after where that is at most
//! a few times as large as what was paid for already.

use cel::ExecutionError;
use cel::common::types::{CelBytes, CelDouble, CelInt, CelList, CelString, Kind};
use cel::common::value::{CowVal, Val};
use cel_interpreter as cel;

use super::super::json::{items, size};
use super::{Answer, Args, arg, budget, fail, str_arg, string};

/// The most digits that a number is written with: the largest double's, and as many behind the point as may be asked for.
const DIGITS: usize = 512;

fn first<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    args.into_iter().next().ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// What the engine copies if somebody else holds it, and moves if not; the copy is paid for.
pub(super) fn copied<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    paid_copy(first(args)?)
}

/// The same for a value that is about to be owned.
pub(super) fn paid_copy<'b, 'v>(val: CowVal<'b, 'v>) -> Answer<'b, 'v> {
    if val.is_borrowed() {
        budget::copying(val.as_ref())?;
    }
    Ok(val)
}

/// What the engine has just made, paid for.
pub(super) fn made<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    budget::copying(arg(&args, 0)?)?;
    first(args)
}

/// A text that is gone through, paid for.
pub(super) fn read<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    budget::reading(length(arg(&args, 0)?))?;
    first(args)
}

/// The arguments of `format`, paid for as they will be written out.
pub(super) fn shown<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let list = arg(&args, 0)?;
    budget::making(size(list).saturating_mul(DIGITS))?;
    written_out(list)?;
    first(args)
}

/// What a comprehension runs over, paid for: each element by its copy and the weight of what is done to it.
pub(super) fn each<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let over = arg(&args, 0)?;
    if !matches!(over.get_type().kind(), Kind::List | Kind::Map) {
        return fail("comprehension", format_args!("a {} has no elements to run over", over.get_type().name()));
    }
    let weight = number_arg(&args, 1).and_then(|weight| usize::try_from(weight).ok()).unwrap_or(1);
    budget::steps(1 + size(over).saturating_mul(weight))?;
    budget::copying_elements(over)?;
    first(args)
}

/// `a + b`.
pub(super) fn add<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (a, b) = (arg(&args, 0)?, arg(&args, 1)?);
    let number = |kind| matches!(kind, Kind::Int | Kind::UInt | Kind::Double | Kind::Timestamp | Kind::Duration);
    match (a.get_type().kind(), b.get_type().kind()) {
        (Kind::String, Kind::String) | (Kind::Bytes, Kind::Bytes) => budget::making(length(a) + length(b))?,
        (Kind::List, Kind::List) => {
            budget::glances(size(a) + size(b))?;
            budget::copying_elements(a)?;
            budget::copying_elements(b)?;
        }
        (a, b) if number(a) && number(b) => {}
        // Not left to the engine: its error would hold a copy of both.
        _ => {
            let types = [a, b].map(|val| val.get_type().name().to_owned()).to_vec();
            return Err(ExecutionError::no_such_overload("add", types));
        }
    }
    let adder = a.as_adder().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Ok(CowVal::Owned(adder.add(b)?.into_owned()))
}

pub(super) fn replace<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (text, from, to) = (str_arg(&args, 0)?, str_arg(&args, 1)?, str_arg(&args, 2)?);
    let limit = number_arg(&args, 3).and_then(|limit| usize::try_from(limit).ok());
    budget::reading(text.len())?;
    let times = text.matches(from).count().min(limit.unwrap_or(usize::MAX));
    budget::making(text.len().saturating_add(times.saturating_mul(to.len())))?;
    string(match limit {
        Some(limit) => text.replacen(from, to, limit),
        None => text.replace(from, to),
    })
}

pub(super) fn join<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let separator = if args.len() > 1 { str_arg(&args, 1)? } else { "" };
    let list = arg(&args, 0)?;
    let mut items = items(list)?;
    budget::glances(size(list))?;
    let mut joined = String::new();
    let mut first = true;
    while let Some(item) = items.next() {
        let Some(text) = item.downcast_ref::<CelString>() else {
            return fail("join", format_args!("the list holds a {}, not a string", item.get_type().name()));
        };
        budget::making(separator.len() + text.inner().len())?;
        if !first {
            joined.push_str(separator);
        }
        first = false;
        joined.push_str(text.inner());
    }
    string(joined)
}

/// Into at most `n` parts, the last of which is the rest: none for 0, all for what is negative. An empty separator stands
/// between all characters.
pub(super) fn split<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let (text, separator) = (str_arg(&args, 0)?, str_arg(&args, 1)?);
    let limit = number_arg(&args, 2).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    budget::reading(text.len())?;
    let most = if separator.is_empty() { text.chars().count() } else { text.matches(separator).count() + 1 };
    let parts = most.min(limit);
    budget::glances(parts)?;
    budget::making_list(parts, text.len())?;
    let parts: Vec<&str> = match (limit, separator) {
        (0, _) => Vec::new(),
        (limit, "") => {
            let last = text.char_indices().nth(limit - 1).map_or(text.len(), |(at, _)| at);
            let (singles, rest) = text.split_at(last);
            let ends = singles.char_indices().map(|(at, c)| at..at + c.len_utf8());
            ends.filter_map(|range| singles.get(range)).chain((!rest.is_empty()).then_some(rest)).collect()
        }
        (limit, separator) => text.splitn(limit, separator).collect(),
    };
    let parts = parts.into_iter().map(|part| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>);
    Ok(CowVal::owned(CelList::from(parts.collect::<Vec<_>>())))
}

fn number_arg(args: &[CowVal<'_, '_>], at: usize) -> Option<i64> {
    args.get(at).and_then(|number| number.downcast_ref::<CelInt>()).map(|number| *number.inner())
}

/// The bytes of a text.
fn length(val: &dyn Val) -> usize {
    match val.downcast_ref::<CelString>() {
        Some(text) => text.inner().len(),
        None => val.downcast_ref::<CelBytes>().map_or(0, |bytes| bytes.inner().len()),
    }
}

/// A text may be written in hexadecimal, and a double without an exponent.
fn written_out(val: &dyn Val) -> Result<(), ExecutionError> {
    let digits = val.downcast_ref::<CelDouble>().map_or(0, |_| DIGITS);
    budget::making(length(val).saturating_mul(2).saturating_add(digits))?;
    let Some(iterable) = val.as_iterable() else { return Ok(()) };
    budget::glances(size(val))?;
    let (mut items, values) = (iterable.iter(), val.as_indexer().filter(|_| val.get_type().kind() == Kind::Map));
    while let Some(item) = items.next() {
        written_out(item)?;
        if let Some(values) = values {
            written_out(values.get(item)?.as_ref())?;
        }
    }
    Ok(())
}
