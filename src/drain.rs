//! The end of service, in two steps: everyone is told to finish, and whoever has not when time is up is cut off.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Finishing,
    Over,
}

/// Tells everyone to finish, and knows when they have.
#[derive(Debug)]
pub struct Trigger {
    phase: watch::Sender<Phase>,
    finished: mpsc::Receiver<()>,
    drain: Drain,
}

/// Held by whatever must finish before the service ends.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
    _unfinished: mpsc::Sender<()>,
}

/// A trigger that has not been pulled.
pub fn new() -> Trigger {
    let (phase, seen) = watch::channel(Phase::Serving);
    let (unfinished, finished) = mpsc::channel(1);
    Trigger { phase, finished, drain: Drain { phase: seen, _unfinished: unfinished } }
}

impl Trigger {
    /// For someone who must finish.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Tells everyone to finish, without waiting.
    pub fn begin(&self) {
        let _ = self.phase.send(Phase::Finishing);
    }

    /// Tells everyone to finish, waits until they have or for `timeout`, and cuts off the rest. Whether all finished.
    pub async fn pull(mut self, timeout: Duration) -> bool {
        self.begin();
        drop(self.drain);
        let all = tokio::time::timeout(timeout, async { while self.finished.recv().await.is_some() {} }).await.is_ok();
        let _ = self.phase.send(Phase::Over);
        all
    }
}

impl Drain {
    /// Waits until it is time to finish.
    pub async fn begun(&mut self) {
        // a trigger that is gone means the same as one that was pulled
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Finishing).await;
    }

    /// Waits until the time to finish is up.
    pub async fn over(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::Over).await;
    }

    /// Whether it is time to finish.
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() >= Phase::Finishing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pulling_waits_for_everyone_but_not_for_ever() {
        let trigger = new();
        let mut quick = trigger.drain();
        tokio::spawn(async move { quick.begun().await });
        assert!(trigger.pull(Duration::from_secs(5)).await);

        let trigger = new();
        let mut never = trigger.drain();
        let cut = tokio::spawn(async move {
            never.begun().await;
            tokio::time::timeout(Duration::from_secs(60), never.over()).await.is_ok()
        });
        let before = tokio::time::Instant::now();
        assert!(!trigger.pull(Duration::from_secs(5)).await);
        assert!(cut.await.unwrap(), "whoever does not finish is cut off");
        assert_eq!(before.elapsed(), Duration::from_secs(5));
    }
}
