//! A thread with a large stack, for work whose recursion depth depends on an expression.

use std::cell::Cell;

/// The parser recurses once for each level, with stack frames of kilobytes.
const DEEP_STACK_SIZE: usize = 64 << 20;

thread_local! {
    static ON_DEEP_STACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread whose stack no expression can overflow. A nested call runs on the same thread.
///
/// # Errors
/// Fails if the thread cannot be started, and if `work` panics.
pub fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, &'static str> {
    if ON_DEEP_STACK.get() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(DEEP_STACK_SIZE);
        let work = || {
            ON_DEEP_STACK.set(true);
            work()
        };
        match thread.spawn_scoped(scope, work) {
            Ok(handle) => handle.join().map_err(|_| "the CEL thread panicked"),
            Err(_) => Err("cannot start a thread"),
        }
    })
}
