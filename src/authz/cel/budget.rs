//! The bounds on an evaluation: so many steps and so many bytes made, after which it fails.
//!
//! The CEL engine has none of its own. Whatever runs over a list, a map or a long string pays steps first, and whatever
//! copies or makes a value pays its bytes; what a rule can do without paying is bounded by its own length. Functions of
//! the engine get their arguments and nothing else, so the counts stand in the thread: an evaluation never leaves the
//! thread it began on.

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::types::{CelBytes, CelList, CelMap, CelOptional, CelString};
use cel::common::value::Val;
use cel_interpreter as cel;

use super::json;
use crate::authz::EvalError;

/// What one evaluation may spend. A comprehension pays one step an element, and an element costs up to half a
/// microsecond, so no rule holds a worker for more than some 5 ms.
pub(crate) const MAX_STEPS: u32 = 10_000;
/// What one evaluation may make, all told: also what it drops again on the way.
const MAX_BYTES: usize = 1 << 20;
/// What a value takes beside its text.
const VALUE_OVERHEAD: usize = 32;

thread_local! {
    static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(Some(MAX_STEPS)) };
    static BYTES_LEFT: Cell<Option<usize>> = const { Cell::new(Some(MAX_BYTES)) };
}

/// Begins an evaluation.
pub(crate) fn start() {
    STEPS_LEFT.set(Some(MAX_STEPS));
    BYTES_LEFT.set(Some(MAX_BYTES));
}

/// Why the evaluation is over, if it has tried to spend more than it had.
pub(crate) fn exceeded() -> Option<EvalError> {
    match (STEPS_LEFT.get(), BYTES_LEFT.get()) {
        (None, _) => Some(EvalError::Steps),
        (_, None) => Some(EvalError::Size),
        _ => None,
    }
}

/// Pays `steps`. Once they are used up, everything fails until the next [`start`], so that an `||` can't swallow it.
pub(crate) fn charge_steps(steps: usize) -> Result<(), ExecutionError> {
    let left = STEPS_LEFT.get().and_then(|left| left.checked_sub(u32::try_from(steps).unwrap_or(u32::MAX)));
    STEPS_LEFT.set(left);
    left.map(|_| ()).ok_or_else(|| ExecutionError::function_error("steps", "the evaluation takes too many steps"))
}

/// Looking at an element costs a fraction of what running an expression over it does.
pub(crate) fn charge_scan(elements: usize) -> Result<(), ExecutionError> {
    charge_steps(1 + elements / 8)
}

/// Pays for going through a text.
pub(crate) fn charge_read(length: usize) -> Result<(), ExecutionError> {
    charge_steps(length / 1024)
}

/// Pays for a value of so many bytes, before it is made.
pub(crate) fn charge_alloc(bytes: usize) -> Result<(), ExecutionError> {
    let left = BYTES_LEFT.get().and_then(|left| left.checked_sub(bytes.saturating_add(VALUE_OVERHEAD)));
    BYTES_LEFT.set(left);
    left.map(|_| ()).ok_or_else(|| ExecutionError::function_error("size", "the evaluation makes too much"))
}

/// Pays for a list of so many values whose texts take so many bytes together.
pub(crate) fn charge_list(items: usize, bytes: usize) -> Result<(), ExecutionError> {
    charge_alloc(items.saturating_mul(VALUE_OVERHEAD).saturating_add(bytes))
}

/// Pays for a copy of `val`. Of what the request or the token holds, a copy is a handle.
pub(crate) fn charge_copy(val: &dyn Val) -> Result<(), ExecutionError> {
    if let Some(text) = val.downcast_ref::<CelString>() {
        return charge_alloc(text.as_borrowed().map_or(text.inner().len(), |_| 0));
    }
    if let Some(bytes) = val.downcast_ref::<CelBytes>() {
        return charge_alloc(bytes.as_borrowed().map_or(bytes.inner().len(), |_| 0));
    }
    charge_alloc(0)?;
    if let Some(list) = val.downcast_ref::<CelList>() {
        return list.inner().iter().try_for_each(|item| charge_copy(item.as_ref()));
    }
    if let Some(map) = val.downcast_ref::<CelMap>() {
        return map
            .inner()
            .iter()
            .try_for_each(|(key, value)| charge_copy(key.inner()).and_then(|()| charge_copy(value.as_ref())));
    }
    match val.downcast_ref::<CelOptional>().and_then(CelOptional::option) {
        Some(inner) => charge_copy(inner),
        None => Ok(()),
    }
}

/// Pays for a copy of each element of `val`.
pub(crate) fn charge_element_copies(val: &dyn Val) -> Result<(), ExecutionError> {
    match val.downcast_ref::<CelList>() {
        Some(_) => charge_copy(val),
        None => charge_list(json::size(val), 0),
    }
}
