//! Discovery of an issuer's key set URL from the issuer's metadata: OpenID Connect Discovery 1.0 §4, then RFC 8414 §3.
//!
//! RFC 8414 inserts the well-known part before the issuer's path. Many providers append it to the path instead, so both
//! URLs are tried. The next document is requested when one does not exist, is not a JSON object or does not name a key
//! set. The search ends when the host is unreachable, when a document belongs to another issuer, and when its URL is
//! rejected: a server with an incorrect document is not asked for another one.

use reqwest::Url;
use serde_json::{Map, Value};

use super::fetch::{Document, FetchError, FetchErrorKind, Fetcher, parse_http_url, redact_url};

/// The error of one metadata document.
struct DiscoveryError {
    error: FetchError,
    /// True if another document may name the key set.
    try_next: bool,
}

impl DiscoveryError {
    /// Combines this error with that of an earlier document. The result is the first error of a document that exists, or
    /// the error that ends the search.
    fn after(self, earlier: FetchError) -> Self {
        let exists = |error: &FetchError| !matches!(error.kind, FetchErrorKind::Status(400..=499));
        if self.try_next && (exists(&earlier) || !exists(&self.error)) {
            return Self { error: earlier, try_next: true };
        }
        self
    }
}

impl Fetcher {
    /// Returns the URL of the issuer's key set.
    pub(super) async fn discover(&self, issuer: &str) -> Result<Url, FetchError> {
        let path = self.base.path().trim_end_matches('/');
        let with_path = |path: String| {
            let mut url = self.base.clone();
            url.set_path(&path);
            url.set_query(None);
            url.set_fragment(None);
            url
        };
        let mut fallbacks = vec![with_path(format!("/.well-known/oauth-authorization-server{path}"))];
        if !path.is_empty() {
            fallbacks.push(with_path(format!("{path}/.well-known/oauth-authorization-server")));
        }
        let first = with_path(format!("{path}/.well-known/openid-configuration"));
        let mut result = self.read_metadata(&first, issuer).await;
        for url in fallbacks {
            match result {
                Err(DiscoveryError { error, try_next: true }) => {
                    result = self.read_metadata(&url, issuer).await.map_err(|next| next.after(error));
                }
                _ => break,
            }
        }
        result.map_err(|failure| failure.error)
    }

    /// Fetches one metadata document and returns its key set URL.
    async fn read_metadata(&self, url: &Url, issuer: &str) -> Result<Url, DiscoveryError> {
        let Document { body, .. } = self.get(url).await.map_err(|error| {
            use FetchErrorKind::{Connect, Reset, Timeout};
            let is_unreachable = matches!(error.kind, Connect(_) | Timeout(_) | Reset(_));
            DiscoveryError { error, try_next: !is_unreachable }
        })?;
        let fail = |try_next, text| {
            let error = FetchError { url: redact_url(url), kind: FetchErrorKind::Discovery(text) };
            DiscoveryError { error, try_next }
        };
        let document: Map<String, Value> =
            serde_json::from_slice(&body).map_err(|error| fail(true, format!("not a JSON object: {error}")))?;
        let jwks_uri = match document.get("jwks_uri") {
            None | Some(Value::Null) => return Err(fail(true, "the document has no `jwks_uri`".to_owned())),
            Some(uri) => uri.as_str().and_then(parse_http_url),
        };
        match document.get("issuer").and_then(Value::as_str) {
            Some(found) if found == issuer => {}
            Some(found) => {
                let found = found.escape_debug().to_string();
                return Err(fail(false, format!("the document's issuer is `{found:.200}`, not `{issuer}`")));
            }
            None => return Err(fail(false, "the document does not name an issuer".to_owned())),
        }
        match jwks_uri {
            None => Err(fail(false, "`jwks_uri` is not an http or https URL".to_owned())),
            Some(uri) if self.base.scheme() == "https" && uri.scheme() != "https" => {
                Err(fail(false, "the issuer uses https, but its `jwks_uri` does not".to_owned()))
            }
            Some(uri) => Ok(uri),
        }
    }
}
