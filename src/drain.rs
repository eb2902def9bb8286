//! Draining in two steps: signal shutdown and wait for in-flight work, then abort what remains.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// The progress of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Aborting,
}

/// Starts a drain, and waits until all watchers are dropped.
#[derive(Debug)]
pub struct DrainTrigger {
    phase: watch::Sender<Phase>,
    all_dropped: mpsc::Receiver<()>,
    watcher: DrainWatcher,
}

/// A handle of in-flight work. A drain waits until all of them are dropped.
#[derive(Debug, Clone)]
pub struct DrainWatcher {
    phase: watch::Receiver<Phase>,
    _in_flight: mpsc::Sender<()>,
}

/// Creates a trigger that has not started a drain.
pub fn new() -> DrainTrigger {
    let (phase, phase_receiver) = watch::channel(Phase::Serving);
    let (in_flight, all_dropped) = mpsc::channel(1);
    DrainTrigger { phase, all_dropped, watcher: DrainWatcher { phase: phase_receiver, _in_flight: in_flight } }
}

impl DrainTrigger {
    /// Returns a watcher for work that must finish before the drain completes.
    pub fn watcher(&self) -> DrainWatcher {
        self.watcher.clone()
    }

    /// Signals all watchers to finish, without waiting.
    pub fn start(&self) {
        let _ = self.phase.send(Phase::Draining);
    }

    /// Signals all watchers to finish, waits for them up to `timeout`, and aborts the rest. Returns whether all finished
    /// in time.
    pub async fn drain(mut self, timeout: Duration) -> bool {
        self.start();
        drop(self.watcher);
        let all_dropped = async { while self.all_dropped.recv().await.is_some() {} };
        let finished = tokio::time::timeout(timeout, all_dropped).await.is_ok();
        let _ = self.phase.send(Phase::Aborting);
        finished
    }
}

impl DrainWatcher {
    /// Waits until a drain starts.
    pub async fn wait_for_drain(&mut self) {
        // a dropped trigger means the same as a started drain
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }

    /// Waits until the drain timeout has elapsed.
    pub async fn wait_for_abort(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase == Phase::Aborting).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_all_watchers_up_to_the_timeout() {
        let trigger = new();
        let mut quick = trigger.watcher();
        tokio::spawn(async move { quick.wait_for_drain().await });
        assert!(trigger.drain(Duration::from_secs(5)).await);

        let trigger = new();
        let mut endless = trigger.watcher();
        let aborted = tokio::spawn(async move {
            endless.wait_for_drain().await;
            tokio::time::timeout(Duration::from_secs(60), endless.wait_for_abort()).await.is_ok()
        });
        let start = tokio::time::Instant::now();
        assert!(!trigger.drain(Duration::from_secs(5)).await);
        assert!(aborted.await.unwrap(), "work that does not finish is aborted");
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
