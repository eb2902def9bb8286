//! Compiles `jwks`: reads and checks local keys, and registers remote keys. A remote key source is shared by all providers
//! with the same settings, also across reloads.

use std::path::PathBuf;

use super::Compiler;
use crate::auth::keys::jwks::{FetchRetry, FetchSettings, FetchTls, KeyLocation};
use crate::auth::{Algorithms, KeyOrigin, KeySet, KeySource};
use crate::config::policy::{JwksRetryOn, JwksSource, JwksTls, ProviderConfig, RemoteJwks};
use crate::config::route::CredentialFile;
use crate::config::serde_shapes::StringOr;
use crate::config::span::{SourceSpan, Spanned};
use crate::config::{Diagnostic, DiagnosticCode, unreadable_file};

impl Compiler<'_> {
    /// Compiles a provider's keys. `None` after an error.
    pub(super) fn keys(&mut self, provider: &ProviderConfig, algorithms: Option<Algorithms>) -> Option<KeySource> {
        let span = &provider.jwks.span;
        match &provider.jwks.value {
            JwksSource::File(path) => {
                let text = self.read_file(path)?;
                self.local_keys(span, &text, algorithms)
            }
            JwksSource::Inline(text) => self.local_keys(span, text.as_bytes(), algorithms),
            JwksSource::Discover => {
                let issuer = provider.issuers.as_ref().and_then(|issuers| issuers.first().cloned()).unwrap_or_default();
                let max_size = self.process.limits.jwks_size.get();
                let settings = FetchSettings::new(KeyLocation::Discover { issuer });
                let settings = FetchSettings { algorithms, max_size, ..settings };
                self.fetched_keys(span, settings)
            }
            JwksSource::Url(remote) => {
                let settings = self.fetch_settings(remote, algorithms)?;
                self.fetched_keys(&remote.url.span, settings)
            }
        }
    }

    fn local_keys(&mut self, span: &SourceSpan, text: &[u8], algorithms: Option<Algorithms>) -> Option<KeySource> {
        match KeySet::parse_with_limit(text, KeyOrigin::Local, algorithms, self.process.limits.jwks_keys) {
            Ok(keys) if keys.is_empty() => {
                let mut error = Diagnostic::error(span.clone(), "the key set contains no usable key")
                    .with_code(DiagnosticCode::NoUsableKeys);
                if !keys.skipped().is_empty() {
                    let skipped: Vec<String> = keys.skipped().iter().map(ToString::to_string).collect();
                    error.hint = Some(skipped.join("; "));
                }
                self.errors.push(error);
                None
            }
            Ok(keys) => Some(KeySource::local(keys)),
            Err(error) => {
                self.errors
                    .push(Diagnostic::error(span.clone(), error.to_string()).with_code(DiagnosticCode::NoUsableKeys));
                None
            }
        }
    }

    fn fetched_keys(&mut self, span: &SourceSpan, mut settings: FetchSettings) -> Option<KeySource> {
        settings.max_keys = self.process.limits.jwks_keys;
        match self.carry_over.sources.get(settings) {
            Ok(source) => Some(source),
            Err(error) => {
                self.error(span, error.to_string());
                None
            }
        }
    }

    fn fetch_settings(&mut self, remote: &RemoteJwks, algorithms: Option<Algorithms>) -> Option<FetchSettings> {
        let retries_on = |condition: JwksRetryOn| remote.retry.on.contains(&condition);
        Some(FetchSettings {
            location: KeyLocation::Url(remote.url.value.clone()),
            algorithms,
            cache_duration: remote.cache_duration.map(|duration| duration.get()),
            timeout: remote.timeout.get(),
            max_size: remote.max_size.unwrap_or(self.process.limits.jwks_size).get(),
            max_keys: KeySet::MAX_KEYS,
            retry: FetchRetry {
                attempts: remote.retry.attempts,
                base_interval: remote.retry.backoff.base_interval.get(),
                max_interval: remote.retry.backoff.max_interval.get(),
                on_5xx: retries_on(JwksRetryOn::ServerError),
                on_reset: retries_on(JwksRetryOn::Reset),
                on_connect_failure: retries_on(JwksRetryOn::ConnectFailure),
            },
            stale_for: remote.stale_for.get(),
            tls: self.fetch_tls(&remote.tls)?,
            headers: remote.headers.iter().map(|(name, value)| (name.0.clone(), value.0.clone())).collect(),
            connect_to: remote.connect_to.as_ref().map(|host| host.endpoint.to_string()),
            proxy_from_environment: remote.proxy_from_environment,
        })
    }

    fn fetch_tls(&mut self, tls: &JwksTls) -> Option<FetchTls> {
        let root = match &tls.root {
            Some(path) => Some(self.read_file(path)?),
            None => None,
        };
        let identity = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => {
                let (cert, key) = (self.read_file(cert), self.read_file(key));
                let mut identity = cert?;
                identity.push(b'\n');
                identity.extend(key?);
                Some(identity)
            }
            (None, None) => None,
            (Some(file), None) | (None, Some(file)) => {
                self.error(&file.span, "`cert` and `key` must be set together");
                return None;
            }
        };
        let hostname = tls.hostname.as_ref().map(|name| name.value.clone());
        Some(FetchTls { root, hostname, identity, insecure: tls.insecure })
    }

    /// Reads a file that the config refers to. `None` after an error.
    pub(super) fn read_file(&mut self, path: &Spanned<PathBuf>) -> Option<Vec<u8>> {
        match std::fs::read(&path.value) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.errors.push(unreadable_file(path, &error));
                None
            }
        }
    }

    pub(super) fn text_or_file(&mut self, source: &Spanned<StringOr<CredentialFile>>) -> Option<String> {
        match &source.value {
            StringOr::Text(text) => Some(text.clone()),
            StringOr::Other(CredentialFile { file }) => match String::from_utf8(self.read_file(file)?) {
                Ok(text) => Some(text),
                Err(_) => {
                    self.error(&file.span, "the file is not valid UTF-8");
                    None
                }
            },
        }
    }
}
