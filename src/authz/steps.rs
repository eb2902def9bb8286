//! The bound on an evaluation: a number of steps, after which it fails.
//!
//! The CEL engine has none of its own. Whatever runs over a list, a map or a long string pays here first; what a rule
//! can do without paying is bounded by its own length. Functions of the engine get their arguments and nothing else, so
//! the count stands in the thread: an evaluation never leaves the thread it began on.

use std::cell::Cell;

use cel_interpreter::ExecutionError;

/// What one evaluation may spend. A comprehension pays one step an element, and an element costs up to half a
/// microsecond, so no rule holds a worker for more than some 5 ms.
pub(super) const LIMIT: u32 = 10_000;

thread_local! {
    static LEFT: Cell<Option<u32>> = const { Cell::new(Some(LIMIT)) };
}

/// Begins an evaluation.
pub(super) fn start() {
    LEFT.set(Some(LIMIT));
}

/// Pays `steps`. Once they are used up, everything fails until the next [`start`], so that an `||` can't swallow it.
pub(super) fn charge(steps: usize) -> Result<(), ExecutionError> {
    let left = LEFT.get().and_then(|left| left.checked_sub(u32::try_from(steps).unwrap_or(u32::MAX)));
    LEFT.set(left);
    match left {
        Some(_) => Ok(()),
        None => Err(ExecutionError::function_error("steps", "the evaluation takes too many steps")),
    }
}

/// Whether the evaluation has tried to spend more than it had.
pub(super) fn exhausted() -> bool {
    LEFT.get().is_none()
}
