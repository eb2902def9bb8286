//! Searches in strings, and prefixes and suffixes. `indexOf` and `lastIndexOf` replace those of the engine, whose run time
//! is the product of both lengths.

use super::{Args, CelResult, str_arg, string_value};
use crate::authz::cel::budget;
use crate::authz::cel::engine::ExecutionError;
use crate::authz::cel::engine::common::types::CelInt;
use crate::authz::cel::engine::common::value::CowVal;

/// Implements `text.indexOf(part)` and `text.indexOf(part, from)`. Returns the index in code points, or -1 if there is no
/// match.
pub(crate) fn index_of<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    search(&args, "indexOf", |text, part, from| Some(from + text.get(from..)?.find(part)?))
}

/// Implements `text.lastIndexOf(part)` and `text.lastIndexOf(part, from)`. Returns the last match that starts at `from` or
/// earlier.
pub(crate) fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let from_end = args.len() == 2;
    search(&args, "lastIndexOf", |text, part, from| {
        if from_end {
            return text.rfind(part);
        }
        // A match that starts at `from` ends on a character boundary, and every other match ends earlier.
        let end = from.saturating_add(part.len()).min(text.len());
        let end = (0..=end).rev().find(|end| text.is_char_boundary(*end))?;
        text.get(..end)?.rfind(part)
    })
}

fn search<'b, 'v>(
    args: &Args<'b, 'v>,
    name: &str,
    find: impl FnOnce(&str, &str, usize) -> Option<usize>,
) -> CelResult<'b, 'v> {
    let (text, part) = (str_arg(args, 0)?, str_arg(args, 1)?);
    budget::charge_read(text.len())?;
    let from = args.get(2).and_then(|from| from.downcast_ref::<CelInt>()).map(|from| *from.inner());
    let out_of_range = |from| ExecutionError::function_error(name, format_args!("index out of range: {from}"));
    let position = match from {
        None => find(text, part, 0),
        Some(from) => {
            let char_index = usize::try_from(from).map_err(|_| out_of_range(from))?;
            let start = text.char_indices().nth(char_index).map(|(start, _)| start);
            match (start, part.is_empty()) {
                (start, true) => Some(start.unwrap_or(text.len())),
                (Some(start), false) => find(text, part, start),
                (None, false) => return Err(out_of_range(from)),
            }
        }
    };
    let char_position = position.and_then(|end| text.get(..end)).map_or(-1, |prefix| prefix.chars().count() as i64);
    Ok(CowVal::owned(CelInt::from(char_position)))
}

pub(super) fn strip_prefix<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    string_value(text.strip_prefix(str_arg(&args, 1)?).unwrap_or(text))
}

pub(super) fn strip_suffix<'b, 'v>(args: Args<'b, 'v>) -> CelResult<'b, 'v> {
    let text = str_arg(&args, 0)?;
    budget::charge_alloc(text.len())?;
    string_value(text.strip_suffix(str_arg(&args, 1)?).unwrap_or(text))
}
