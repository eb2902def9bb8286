//! Signals. As PID 1 a process ignores those that it has no handler for, so each has one.

use std::sync::mpsc;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the config again.
    Reload,
    /// SIGTERM or SIGINT: finish and end; the second time, end at once.
    Shutdown,
}

/// The signals that the process gets from now on. Asked for before anything is served, no signal comes too early.
///
/// # Errors
/// When the system gives no thread or no handler.
pub fn subscribe_signals() -> std::io::Result<mpsc::Receiver<Signal>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (sender, signals) = mpsc::channel();
    let mut listening = Vec::new();
    {
        let _on_runtime = runtime.enter();
        for (kind, meaning) in [
            (SignalKind::terminate(), Signal::Shutdown),
            (SignalKind::interrupt(), Signal::Shutdown),
            (SignalKind::hangup(), Signal::Reload),
        ] {
            let (told, mut stream) = (sender.clone(), signal(kind)?);
            listening.push(
                runtime.spawn(async move { while stream.recv().await.is_some() && told.send(meaning).is_ok() {} }),
            );
        }
    }
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            for one in listening {
                let _ = one.await;
            }
        });
    })?;
    Ok(signals)
}
