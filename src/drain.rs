//! The end of service: a trigger, and everyone who must finish first.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// Tells everyone to finish, and knows when they have.
#[derive(Debug)]
pub struct Trigger {
    begin: watch::Sender<bool>,
    finished: mpsc::Receiver<()>,
    drain: Drain,
}

/// Held by whatever must finish before the process ends.
#[derive(Debug, Clone)]
pub struct Drain {
    begin: watch::Receiver<bool>,
    _unfinished: mpsc::Sender<()>,
}

/// A trigger that has not been pulled.
pub fn new() -> Trigger {
    let (begin, begun) = watch::channel(false);
    let (unfinished, finished) = mpsc::channel(1);
    Trigger { begin, finished, drain: Drain { begin: begun, _unfinished: unfinished } }
}

impl Trigger {
    /// For someone who must finish.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Tells everyone to finish and waits until they have, or for `timeout`. Whether all finished.
    pub async fn pull(mut self, timeout: Duration) -> bool {
        let _ = self.begin.send(true);
        drop(self.drain);
        tokio::time::timeout(timeout, async { while self.finished.recv().await.is_some() {} }).await.is_ok()
    }
}

impl Drain {
    /// Waits until it is time to finish.
    pub async fn begun(&mut self) {
        // a trigger that is gone means the same as one that was pulled
        let _ = self.begin.wait_for(|begun| *begun).await;
    }

    /// Whether it is time to finish.
    pub fn has_begun(&self) -> bool {
        *self.begin.borrow()
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
        tokio::spawn(async move {
            never.begun().await;
            std::future::pending::<()>().await;
        });
        assert!(!trigger.pull(Duration::from_secs(5)).await);
    }
}
