//! A future that is polled only after its own waker fired.
//!
//! The task of a connection runs for every request. Polling a timer and the drain signal each time costs more than some
//! stages of a request, so they are polled only when they have woken the task themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled once, and then only after it has woken its task.
#[derive(Debug)]
pub(super) struct PollOnWake<F> {
    future: F,
    wake_flag: Option<Arc<WakeFlag>>,
}

/// A waker that records that it fired and wakes the task.
#[derive(Debug)]
struct WakeFlag {
    woken: AtomicBool,
    task: Waker,
}

impl<F> PollOnWake<F> {
    /// Wraps `future`, which must wake the waker that it was last polled with, as every future should.
    pub(super) fn new(future: F) -> Self {
        Self { future, wake_flag: None }
    }
}

impl<F: Future + Unpin> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, wake_flag } = self.get_mut();
        let wake_flag = match wake_flag {
            Some(wake_flag) if wake_flag.task.will_wake(cx.waker()) => wake_flag,
            // the first poll, or the first one in another task
            _ => wake_flag.insert(Arc::new(WakeFlag { woken: AtomicBool::new(true), task: cx.waker().clone() })),
        };
        if !wake_flag.woken.load(Ordering::Relaxed) || !wake_flag.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(wake_flag))))
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn future_is_polled_only_after_it_has_woken_the_task() {
        let polls = Arc::new(AtomicU32::new(0));
        let (mut sleep, count) = (Box::pin(tokio::time::sleep(Duration::from_secs(1))), Arc::clone(&polls));
        let mut poll_on_wake = PollOnWake::new(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::Relaxed);
            sleep.as_mut().poll(cx)
        }));
        // in a task, like every connection: outside of tasks, each poll has a waker that looks different
        let task = tokio::spawn(async move {
            for _ in 0..10 {
                assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut poll_on_wake).poll(cx))).await.is_pending());
            }
            poll_on_wake.await;
        });
        task.await.unwrap();
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn future_wakes_the_task_that_polls_it_last() {
        let mut poll_on_wake = PollOnWake::new(Box::pin(tokio::time::sleep(Duration::from_secs(1))));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut poll_on_wake).poll(cx))).await.is_pending());
        let other = tokio::spawn(poll_on_wake);
        assert!(tokio::time::timeout(Duration::from_secs(2), other).await.is_ok());
    }
}
