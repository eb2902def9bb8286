//! Starts the export of spans, when the config names a collector and this build can export.

use crate::compile::collector_url;
use crate::config::Diagnostic;
use crate::config::process::ProcessConfig;
#[cfg(feature = "otlp")]
pub(crate) use crate::telemetry::otlp::TraceExport;

/// A running span export. A build without the `otlp` feature never has one.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub(crate) enum TraceExport {}

#[cfg(not(feature = "otlp"))]
impl TraceExport {
    pub(crate) fn spans(&self) -> &crate::telemetry::spans::SpanSender {
        match *self {}
    }

    pub(crate) fn close(self) {
        match self {}
    }
}

/// Starts the export if the config names a collector.
///
/// # Errors
/// Returns a diagnostic when the collector is invalid or the exporter cannot start.
#[cfg(feature = "otlp")]
pub(crate) fn start(process: &ProcessConfig) -> Result<Option<TraceExport>, Vec<Diagnostic>> {
    let tracing = &process.tracing;
    let Some((endpoint, written)) = collector_url(tracing).map_err(|fault| vec![fault])?.zip(tracing.endpoint.as_ref())
    else {
        return Ok(None);
    };
    let settings = crate::telemetry::otlp::ExporterSettings {
        endpoint,
        headers: tracing.headers.0.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect(),
        timeout: tracing.timeout.get(),
        sampling_ratio: tracing.sampling_ratio.0,
        service_name: tracing.service_name.clone(),
    };
    let failed = |reason| vec![Diagnostic::error(written.span.clone(), format!("cannot export spans: {reason}"))];
    TraceExport::start(settings).map(Some).map_err(failed)
}

/// Rejects a config that names a collector: this build cannot export spans.
#[cfg(not(feature = "otlp"))]
pub(crate) fn start(process: &ProcessConfig) -> Result<Option<TraceExport>, Vec<Diagnostic>> {
    collector_url(&process.tracing).map(|_| None).map_err(|fault| vec![fault])
}
