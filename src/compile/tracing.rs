//! Checks `config.tracing`. Rejects collector URLs that spans cannot be sent to.

use reqwest::Url;

use crate::config::Diagnostic;
use crate::config::process::TracingConfig;

/// The path of OTLP over HTTP for a URL without a path.
const DEFAULT_PATH: &str = "/v1/traces";

/// Returns the URL of the collector, if one is configured.
///
/// # Errors
/// Spans cannot be sent to the URL, or the binary was built without span export.
pub fn collector_url(tracing: &TracingConfig) -> Result<Option<Url>, Diagnostic> {
    let Some(endpoint) = &tracing.endpoint else { return Ok(None) };
    let error =
        |message: String, hint: &str| Diagnostic::error(endpoint.span.clone(), message).with_hint(hint.to_owned());
    if !cfg!(feature = "otlp") {
        return Err(error(
            "this binary was built without span export".to_owned(),
            "use the release image, build with `--features otlp`, or leave `config.tracing.endpoint` out",
        ));
    }
    let hint = "write `http://collector:4318`, or `https://…` with a path if it is another than `/v1/traces`";
    let url = Url::parse(&endpoint.value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(mut url) = url.filter(Url::has_host) else {
        return Err(error("not an http or https URL".to_owned(), hint));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(error("a URL cannot contain a user and password".to_owned(), "use `tracing.headers`"));
    }
    if url.port() == Some(4317) {
        // OTLP over gRPC does not respond to HTTP requests
        return Err(error("port 4317 is for OTLP over gRPC, but spans are sent over HTTP".to_owned(), hint));
    }
    if url.path() == "/" {
        url.set_path(DEFAULT_PATH);
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::span::{SourceSpan, Spanned};

    fn parse(endpoint: &str) -> Result<String, String> {
        let endpoint = Spanned { value: endpoint.to_owned(), span: SourceSpan::file_start(&"x".into()) };
        match collector_url(&TracingConfig { endpoint: Some(endpoint), ..TracingConfig::default() }) {
            Ok(url) => Ok(url.map(String::from).unwrap_or_default()),
            Err(error) => Err(error.message),
        }
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn collector_url_gets_a_default_path() {
        for (text, url) in [
            ("http://collector:4318", Ok("http://collector:4318/v1/traces")),
            ("http://collector:4318/", Ok("http://collector:4318/v1/traces")),
            ("https://otel.example/own?key=1", Ok("https://otel.example/own?key=1")),
            ("collector:4318", Err("not an http or https URL")),
            ("ftp://collector", Err("not an http or https URL")),
            ("http://me:secret@collector", Err("a URL cannot contain a user and password")),
            ("http://collector:4317", Err("port 4317 is for OTLP over gRPC")),
        ] {
            match (parse(text), url) {
                (Ok(found), Ok(url)) => assert_eq!(found, url),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected) && !error.contains("secret"), "{error}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn binary_without_span_export_reports_it() {
        assert!(parse("http://collector:4318").unwrap_err().contains("without span export"));
    }

    #[test]
    fn no_endpoint_disables_export() {
        assert!(collector_url(&TracingConfig::default()).unwrap().is_none());
    }
}
