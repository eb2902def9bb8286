//! A waker for HTTP/1 connections that are driven by the task of the request.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Wake, Waker};

/// Wakes the task that waits for a connection, but not for what the task itself does to the connection.
///
/// The parts of hyper wake each other. Without the gate, every request would run its task several times for nothing.
#[derive(Debug, Default)]
pub(super) struct WakeGate {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

/// No task waits, and no wake-up came.
const SUSPENDED: u8 = 0;
/// A wake-up came while no task was waiting.
const PENDING: u8 = 1;
/// The task waits.
const ARMED: u8 = 2;

impl WakeGate {
    /// Records that `task` works on the connection.
    pub(super) fn suspend(&self, task: &Waker) {
        self.state.store(SUSPENDED, Ordering::SeqCst);
        let mut registered = self.lock();
        if !registered.as_ref().is_some_and(|known| known.will_wake(task)) {
            *registered = Some(task.clone());
        }
    }

    /// Records that the task waits from now on. A wake-up since [`suspend`](Self::suspend) may have been caused by the
    /// backend, so it wakes the task.
    pub(super) fn arm(&self) {
        if self.state.swap(ARMED, Ordering::SeqCst) == PENDING {
            self.wake_task();
        }
    }

    /// Runs an operation whose wake-ups are not needed, since its caller drives the connection afterwards.
    pub(super) fn ignoring_wakes<T>(&self, operation: impl FnOnce() -> T) -> T {
        let before = self.state.load(Ordering::SeqCst);
        let result = operation();
        if before == SUSPENDED {
            self.state.store(SUSPENDED, Ordering::SeqCst);
        }
        result
    }

    /// Returns whether a wake-up came since the gate was suspended.
    pub(super) fn has_pending_wake(&self) -> bool {
        self.state.load(Ordering::SeqCst) != SUSPENDED
    }

    /// Forgets the task, which would otherwise stay in memory as long as the connection.
    pub(super) fn detach_task(&self) {
        *self.lock() = None;
    }

    fn wake_task(&self) {
        self.state.store(SUSPENDED, Ordering::SeqCst);
        if let Some(task) = self.lock().as_ref() {
            task.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        crate::sync::lock(&self.task)
    }
}

impl Wake for WakeGate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(PENDING, Ordering::SeqCst) == ARMED {
            self.wake_task();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn waiting_task_is_woken_also_for_a_wake_up_missed_before_the_wait() {
        let (gate, wakes) = (Arc::<WakeGate>::default(), Arc::<WakeCount>::default());
        let (waker, task) = (Waker::from(Arc::clone(&gate)), Waker::from(Arc::clone(&wakes)));
        let woken = || wakes.0.load(Ordering::SeqCst);
        waker.wake_by_ref();
        gate.suspend(&task);
        gate.arm();
        assert_eq!(woken(), 0, "a task that starts to work sees earlier events by itself");
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "once per wait");
        gate.suspend(&task);
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "the task is working");
        gate.arm();
        assert_eq!(woken(), 2, "the wake-up during the work was not lost");
        gate.suspend(&task);
        waker.wake_by_ref();
        assert_eq!(woken(), 2, "a task that does not wait is not woken");
    }
}
