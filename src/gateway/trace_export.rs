//! The export of spans, where this binary has it and the config asks for it.

use crate::compile::collector_url;
use crate::config::Diagnostic;
use crate::config::process::ProcessConfig;
#[cfg(feature = "otlp")]
pub(crate) use crate::telemetry::otlp::Export;

/// What a binary without the feature never has.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub(crate) enum Export {}

#[cfg(not(feature = "otlp"))]
impl Export {
    pub(crate) fn spans(&self) -> &crate::telemetry::spans::Spans {
        match *self {}
    }

    pub(crate) fn close(self) {
        match self {}
    }
}

/// Starts it, if there is a collector.
///
/// # Errors
/// There can't be one, or the system gives no thread.
#[cfg(feature = "otlp")]
pub(crate) fn start(process: &ProcessConfig) -> Result<Option<Export>, Vec<Diagnostic>> {
    let tracing = &process.tracing;
    let Some((endpoint, written)) = collector_url(tracing).map_err(|fault| vec![fault])?.zip(tracing.endpoint.as_ref())
    else {
        return Ok(None);
    };
    let settings = crate::telemetry::otlp::Settings {
        endpoint,
        headers: tracing.headers.0.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect(),
        timeout: tracing.timeout.get(),
        share: tracing.sampling_ratio.0,
        service: tracing.service_name.clone(),
    };
    let failed = |why| vec![Diagnostic::error(written.span.clone(), format!("spans can't be exported: {why}"))];
    Export::start(settings).map(Some).map_err(failed)
}

/// The same without the feature: the config may not ask for it.
#[cfg(not(feature = "otlp"))]
pub(crate) fn start(process: &ProcessConfig) -> Result<Option<Export>, Vec<Diagnostic>> {
    collector_url(&process.tracing).map(|_| None).map_err(|fault| vec![fault])
}
