//! The end of service, in two steps: everyone is told to finish, and whoever has not when time is up is cut off.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Aborting,
}

/// Tells everyone to finish, and knows when they have.
#[derive(Debug)]
pub struct DrainTrigger {
    phase: watch::Sender<Phase>,
    finished: mpsc::Receiver<()>,
    watcher: DrainWatcher,
}

/// Held by whatever must finish before the service ends.
#[derive(Debug, Clone)]
pub struct DrainWatcher {
    phase: watch::Receiver<Phase>,
    _in_flight: mpsc::Sender<()>,
}

/// A trigger that has not been pulled.
pub fn new() -> DrainTrigger {
    let (phase, seen) = watch::channel(Phase::Serving);
    let (unfinished, finished) = mpsc::channel(1);
    DrainTrigger { phase, finished, watcher: DrainWatcher { phase: seen, _in_flight: unfinished } }
}

impl DrainTrigger {
    /// For someone who must finish.
    pub fn watcher(&self) -> DrainWatcher {
        self.watcher.clone()
    }

    /// Tells everyone to finish, without waiting.
    pub fn start(&self) {
        let _ = self.phase.send(Phase::Draining);
    }

    /// Tells everyone to finish, waits until they have or for `timeout`, and cuts off the rest. Whether all finished.
    pub async fn drain(mut self, timeout: Duration) -> bool {
        self.start();
        drop(self.watcher);
        let all = tokio::time::timeout(timeout, async { while self.finished.recv().await.is_some() {} }).await.is_ok();
        let _ = self.phase.send(Phase::Aborting);
        all
    }
}

impl DrainWatcher {
    /// Waits until it is time to finish.
    pub async fn wait_for_drain(&mut self) {
        // a trigger that is gone means the same as one that was pulled
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until the time to finish is up.
    pub async fn wait_for_abort(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::Aborting).await;
    }

    /// Whether it is time to finish.
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pulling_waits_for_everyone_but_not_for_ever() {
        let trigger = new();
        let mut quick = trigger.watcher();
        tokio::spawn(async move { quick.wait_for_drain().await });
        assert!(trigger.drain(Duration::from_secs(5)).await);

        let trigger = new();
        let mut never = trigger.watcher();
        let cut = tokio::spawn(async move {
            never.wait_for_drain().await;
            tokio::time::timeout(Duration::from_secs(60), never.wait_for_abort()).await.is_ok()
        });
        let before = tokio::time::Instant::now();
        assert!(!trigger.drain(Duration::from_secs(5)).await);
        assert!(cut.await.unwrap(), "whoever does not finish is cut off");
        assert_eq!(before.elapsed(), Duration::from_secs(5));
    }
}
