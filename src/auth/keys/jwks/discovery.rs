//! Where an issuer's keys are, out of its own metadata: OpenID Connect Discovery 1.0 §4, then RFC 8414 §3.
//!
//! The well-known part of RFC 8414 stands before the issuer's path; many providers have it behind the path instead, so
//! both are tried. The next document is asked for when one is not there, is no JSON object or names no keys. It is not
//! when the host could not be asked at all, nor when a document is of another issuer or leads to a place that is
//! refused: who serves something wrong is not asked for something better.

use reqwest::Url;
use serde_json::{Map, Value};

use super::fetch::{Document, FetchError, FetchFault, Fetcher, http_url, redact_url};

/// A document that did not tell where the keys are.
struct DiscoveryError {
    error: FetchError,
    /// Another document may.
    try_next: bool,
}

impl DiscoveryError {
    /// This one after another: what is told is the first that was there, or the one that ends the search.
    fn after(self, before: FetchError) -> Self {
        let is_there = |error: &FetchError| !matches!(error.fault, FetchFault::Status(400..=499));
        if self.try_next && (is_there(&before) || !is_there(&self.error)) {
            return Self { error: before, try_next: true };
        }
        self
    }
}

impl Fetcher {
    /// The URL of the keys.
    pub(crate) async fn discover(&self, issuer: &str) -> Result<Url, FetchError> {
        let path = self.base.path().trim_end_matches('/');
        let at = |path: String| {
            let mut url = self.base.clone();
            url.set_path(&path);
            url.set_query(None);
            url.set_fragment(None);
            url
        };
        let mut fallbacks = vec![at(format!("/.well-known/oauth-authorization-server{path}"))];
        if !path.is_empty() {
            fallbacks.push(at(format!("{path}/.well-known/oauth-authorization-server")));
        }
        let mut found = self.read_metadata(&at(format!("{path}/.well-known/openid-configuration")), issuer).await;
        for url in fallbacks {
            match found {
                Err(DiscoveryError { error, try_next: true }) => {
                    found = self.read_metadata(&url, issuer).await.map_err(|miss| miss.after(error));
                }
                _ => break,
            }
        }
        found.map_err(|miss| miss.error)
    }

    async fn read_metadata(&self, url: &Url, issuer: &str) -> Result<Url, DiscoveryError> {
        let Document { body, .. } = self.get(url).await.map_err(|error| {
            let unreachable =
                matches!(error.fault, FetchFault::Connect(_) | FetchFault::Timeout(_) | FetchFault::Reset(_));
            DiscoveryError { error, try_next: !unreachable }
        })?;
        let miss = |elsewhere, text| {
            let error = FetchError { url: redact_url(url), fault: FetchFault::Discovery(text) };
            DiscoveryError { error, try_next: elsewhere }
        };
        let document: Map<String, Value> =
            serde_json::from_slice(&body).map_err(|error| miss(true, format!("not a JSON object: {error}")))?;
        let keys = match document.get("jwks_uri") {
            None | Some(Value::Null) => return Err(miss(true, "the document has no `jwks_uri`".to_owned())),
            Some(keys) => keys.as_str().and_then(http_url),
        };
        match document.get("issuer").and_then(Value::as_str) {
            Some(found) if found == issuer => {}
            Some(found) => {
                let found = found.escape_debug().to_string();
                return Err(miss(false, format!("the document's issuer is `{found:.200}`, not `{issuer}`")));
            }
            None => return Err(miss(false, "the document names no issuer".to_owned())),
        }
        match keys {
            None => Err(miss(false, "its `jwks_uri` is no http or https URL".to_owned())),
            Some(keys) if self.base.scheme() == "https" && keys.scheme() != "https" => {
                Err(miss(false, "the issuer is https, its `jwks_uri` is not".to_owned()))
            }
            Some(keys) => Ok(keys),
        }
    }
}
