//! The budget of an evaluation: limits on its steps and on the bytes that it allocates. Exceeding one of them fails it.
//!
//! The engine has no limits. Whatever iterates over a list, a map or a long string is charged steps first, and whatever
//! copies or builds a value is charged its bytes. The uncharged remainder of a rule is bounded by the length of its source.
//! The engine passes nothing but arguments to functions, so the counters are thread-local: an evaluation never leaves the
//! thread that started it.

use std::cell::Cell;

use super::engine::ExecutionError;
use super::engine::common::types::{CelBytes, CelList, CelMap, CelOptional, CelString};
use super::engine::common::value::Val;
use super::error::EvalError;

/// The limit on the steps of one evaluation. A comprehension is charged at least one step for each element, and an element
/// takes up to half a microsecond, so no rule occupies a worker for more than about 5 ms.
pub(crate) const MAX_STEPS: u32 = 10_000;
/// The limit on the bytes that one evaluation allocates, including those that it frees before it ends.
const MAX_BYTES: usize = 1 << 20;
/// The bytes that a value takes in addition to its text.
const VALUE_OVERHEAD: usize = 32;

thread_local! {
    static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(Some(MAX_STEPS)) };
    static BYTES_LEFT: Cell<Option<usize>> = const { Cell::new(Some(MAX_BYTES)) };
}

/// Starts an evaluation with the full budget.
pub(crate) fn start() {
    STEPS_LEFT.set(Some(MAX_STEPS));
    BYTES_LEFT.set(Some(MAX_BYTES));
}

/// Returns the limit that the evaluation has exceeded, if any.
pub(crate) fn exceeded() -> Option<EvalError> {
    match (STEPS_LEFT.get(), BYTES_LEFT.get()) {
        (None, _) => Some(EvalError::Steps),
        (_, None) => Some(EvalError::Size),
        _ => None,
    }
}

/// Charges `steps`. After the limit is exceeded, every charge fails until the next [`start`], so that an `||` cannot absorb
/// the failure.
pub(crate) fn charge_steps(steps: usize) -> Result<(), ExecutionError> {
    let left = STEPS_LEFT.get().and_then(|left| left.checked_sub(u32::try_from(steps).unwrap_or(u32::MAX)));
    STEPS_LEFT.set(left);
    left.map(|_| ()).ok_or_else(|| ExecutionError::function_error("steps", "the evaluation takes too many steps"))
}

/// Charges for looking at each element, which takes a fraction of the time of running an expression on it.
pub(crate) fn charge_scan(elements: usize) -> Result<(), ExecutionError> {
    charge_steps(1 + elements / 8)
}

/// Charges for reading a text of `length` bytes from start to end.
pub(crate) fn charge_read(length: usize) -> Result<(), ExecutionError> {
    charge_steps(length / 1024)
}

/// Charges for a value of `bytes`. Must be called before the value is built.
pub(crate) fn charge_alloc(bytes: usize) -> Result<(), ExecutionError> {
    let left = BYTES_LEFT.get().and_then(|left| left.checked_sub(bytes.saturating_add(VALUE_OVERHEAD)));
    BYTES_LEFT.set(left);
    left.map(|_| ()).ok_or_else(|| ExecutionError::function_error("size", "the evaluation allocates too much"))
}

/// Charges for a list of `items` values whose texts take `bytes` in total.
pub(crate) fn charge_list(items: usize, bytes: usize) -> Result<(), ExecutionError> {
    charge_alloc(items.saturating_mul(VALUE_OVERHEAD).saturating_add(bytes))
}

/// Charges for a copy of `val`. A copy of a value that belongs to the request or the token copies only a reference.
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

/// Charges for a copy of each element of `val`.
pub(crate) fn charge_element_copies(val: &dyn Val) -> Result<(), ExecutionError> {
    match val.downcast_ref::<CelList>() {
        Some(_) => charge_copy(val),
        None => charge_list(element_count(val), 0),
    }
}

/// Returns the number of elements of a list or a map, and 0 for any other value.
pub(crate) fn element_count(val: &dyn Val) -> usize {
    val.as_sizer().map_or(0, |sizer| usize::try_from(*sizer.size().inner()).unwrap_or(0))
}
