//! Signal handling. As PID 1 a process ignores signals without a handler, so every signal in use has one.

use std::sync::mpsc;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// The request that a signal makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload the config.
    Reload,
    /// SIGTERM or SIGINT: drain and exit. The second one exits at once.
    Shutdown,
}

/// Subscribes to the signals of the process. Subscribe before anything is served, so that no signal is missed.
///
/// # Errors
/// Returns an error when the thread or a signal handler cannot be created.
pub fn subscribe_signals() -> std::io::Result<mpsc::Receiver<Signal>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (sender, signals) = mpsc::channel();
    let mut tasks = Vec::new();
    {
        let _on_runtime = runtime.enter();
        for (kind, meaning) in [
            (SignalKind::terminate(), Signal::Shutdown),
            (SignalKind::interrupt(), Signal::Shutdown),
            (SignalKind::hangup(), Signal::Reload),
        ] {
            let (sender, mut stream) = (sender.clone(), signal(kind)?);
            tasks.push(
                runtime.spawn(async move { while stream.recv().await.is_some() && sender.send(meaning).is_ok() {} }),
            );
        }
    }
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            for task in tasks {
                let _ = task.await;
            }
        });
    })?;
    Ok(signals)
}
