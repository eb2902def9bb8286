//! Signals. As PID 1 a process ignores those that it has no handler for, so each has one.

use std::sync::mpsc;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the config again.
    Reload,
    /// SIGTERM or SIGINT: finish and end; the second time, end at once.
    End,
}

/// The signals from now on.
pub(super) fn listen(control: &Handle) -> mpsc::Receiver<Signal> {
    let (told, signals) = mpsc::channel();
    let _on_runtime = control.enter();
    for (kind, meaning) in [
        (SignalKind::terminate(), Signal::End),
        (SignalKind::interrupt(), Signal::End),
        (SignalKind::hangup(), Signal::Reload),
    ] {
        let told = told.clone();
        match signal(kind) {
            Ok(mut stream) => {
                drop(control.spawn(async move { while stream.recv().await.is_some() && told.send(meaning).is_ok() {} }))
            }
            Err(error) => tracing::error!(%error, ?kind, "a signal can't be listened for"),
        }
    }
    signals
}
