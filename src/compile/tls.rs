//! Compiles TLS settings for listeners and backends: reads certificates, keys and authorities, and checks them against each
//! other, so that no handshake fails because of an invalid config.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::Compiler;
use crate::config::bind::{ListenerTls, TlsVersion};
use crate::config::route::BackendTls;
use crate::config::span::{SourceSpan, Spanned};
use crate::config::unreadable_file;
use crate::snapshot::ServerTls;
use crate::upstream::tls::AcceptAnyCertificate;

/// The TLS configs compiled so far, shared by equal settings.
#[derive(Default)]
pub(super) struct TlsCache {
    servers: HashMap<u64, Option<ServerTls>>,
    clients: HashMap<u64, Option<ClientTlsSettings>>,
    system_verifier: Option<Option<Arc<dyn ServerCertVerifier>>>,
}

/// TLS settings for backends.
#[derive(Clone)]
pub(super) struct ClientTlsSettings {
    /// The TLS config, without ALPN.
    pub(super) config: Arc<ClientConfig>,
    /// Identifies the settings, including the contents of the files: a connection with other settings must not be reused.
    pub(super) fingerprint: u64,
}

impl Compiler<'_> {
    /// Compiles the TLS settings of a listener. `None` after an error.
    pub(super) fn server_tls(&mut self, settings: &Spanned<ListenerTls>) -> Option<ServerTls> {
        let fingerprint = hash_str(&format!("{:?}", settings.value));
        if let Some(cached) = self.tls_cache.servers.get(&fingerprint) {
            return cached.clone();
        }
        let compiled =
            self.build_server_tls(settings).map(|config| ServerTls { fingerprint, config: Arc::new(config) });
        self.tls_cache.servers.insert(fingerprint, compiled.clone());
        compiled
    }

    fn build_server_tls(&mut self, settings: &Spanned<ListenerTls>) -> Option<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = self.certified_key(&settings.cert, &settings.key, &provider);
        let roots = match &settings.root {
            Some(root) => Some(self.authorities(root)?.0),
            None => None,
        };
        let versions = versions(settings.min_tls_version, settings.max_tls_version);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions);
        let builder = self.tls_result(&settings.span, builder)?;
        let builder = match roots {
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(self.tls_result(&settings.span, verifier)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key?.0)));
        config.alpn_protocols = [&b"h2"[..], b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).to_vec();
        Some(config)
    }

    /// Compiles the TLS settings for a backend; the default are the system's certificate authorities. `None` after an error.
    pub(super) fn client_tls(
        &mut self,
        settings: Option<&Spanned<BackendTls>>,
        span: &SourceSpan,
    ) -> Option<ClientTlsSettings> {
        let key = hash_str(&format!("{:?}", settings.map(|tls| (&tls.root, &tls.cert, &tls.key, tls.insecure))));
        if let Some(cached) = self.tls_cache.clients.get(&key) {
            return cached.clone();
        }
        let compiled = self.build_client_tls(settings.map(|tls| &tls.value), span);
        self.tls_cache.clients.insert(key, compiled.clone());
        compiled
    }

    fn build_client_tls(&mut self, settings: Option<&BackendTls>, span: &SourceSpan) -> Option<ClientTlsSettings> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut fingerprint = DefaultHasher::new();
        let verifier: Arc<dyn ServerCertVerifier> = match settings {
            Some(tls) if tls.insecure => {
                "insecure".hash(&mut fingerprint);
                Arc::new(AcceptAnyCertificate::new(&provider))
            }
            Some(BackendTls { root: Some(root), .. }) => {
                let (roots, text) = self.authorities(root)?;
                text.hash(&mut fingerprint);
                let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
                self.tls_result(&root.span, built)?
            }
            _ => self.system_verifier(span, &provider)?,
        };
        let client_cert = match settings.map(|tls| (&tls.cert, &tls.key)) {
            Some((Some(cert), Some(key))) => {
                let (client_cert, text) = self.certified_key(cert, key, &provider)?;
                text.hash(&mut fingerprint);
                Some(client_cert)
            }
            _ => None,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = self.tls_result(span, builder)?.dangerous().with_custom_certificate_verifier(verifier);
        let config = match client_cert {
            Some(client_cert) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(client_cert))),
            None => builder.with_no_client_auth(),
        };
        Some(ClientTlsSettings { config: Arc::new(config), fingerprint: fingerprint.finish() })
    }

    /// Returns a verifier for the certificate authorities of the operating system, loaded once.
    fn system_verifier(
        &mut self,
        span: &SourceSpan,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Arc<dyn ServerCertVerifier>> {
        if let Some(cached) = &self.tls_cache.system_verifier {
            return cached.clone();
        }
        let verifier = match rustls_platform_verifier::Verifier::new(Arc::clone(provider)) {
            Ok(verifier) => Some(Arc::new(verifier) as Arc<dyn ServerCertVerifier>),
            Err(error) => {
                let message = format!("no system certificate authorities to verify the backend with: {error}");
                self.error(span, message);
                self.add_hint("set `backendTLS.root` to a file with certificate authorities");
                None
            }
        };
        self.tls_cache.system_verifier = Some(verifier.clone());
        verifier
    }

    /// Reads a certificate chain and its private key. Also returns the contents of both files.
    fn certified_key(
        &mut self,
        cert: &Spanned<PathBuf>,
        key: &Spanned<PathBuf>,
        provider: &CryptoProvider,
    ) -> Option<(CertifiedKey, Vec<u8>)> {
        let (chain, key_pem) = (self.certificates(cert), self.pem_file(key));
        let ((chain, mut text), private) = (chain?, key_pem?);
        let der = match PrivateKeyDer::from_pem_slice(&private) {
            Ok(der) => der,
            Err(_) => {
                self.error(&key.span, "the file contains no private key in PEM format");
                return None;
            }
        };
        text.extend_from_slice(&private);
        let signer = provider.key_provider.load_private_key(der);
        let pair = CertifiedKey::new(chain, self.tls_result(&key.span, signer)?);
        match pair.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Some((pair, text)),
            Err(Error::InconsistentKeys(_)) => {
                self.error(&key.span, "the private key does not belong to the certificate in `cert`");
                None
            }
            Err(error) => {
                self.error(&cert.span, format!("the certificate cannot be used: {error}"));
                None
            }
        }
    }

    /// Reads the certificate authorities in a file. Also returns its contents.
    fn authorities(&mut self, file: &Spanned<PathBuf>) -> Option<(RootCertStore, Vec<u8>)> {
        let (certificates, text) = self.certificates(file)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            let added = roots.add(certificate);
            self.tls_result(&file.span, added)?;
        }
        Some((roots, text))
    }

    fn certificates(&mut self, file: &Spanned<PathBuf>) -> Option<(Vec<CertificateDer<'static>>, Vec<u8>)> {
        let text = self.pem_file(file)?;
        match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => {
                self.error(&file.span, "the file contains no certificate in PEM format");
                None
            }
            Ok(certificates) => Some((certificates, text)),
            Err(error) => {
                self.error(&file.span, format!("the file is not PEM: {error}"));
                None
            }
        }
    }

    fn pem_file(&mut self, file: &Spanned<PathBuf>) -> Option<Vec<u8>> {
        std::fs::read(&file.value).map_err(|error| self.errors.push(unreadable_file(file, &error))).ok()
    }

    /// Records an error of the TLS library.
    fn tls_result<T, E: std::fmt::Display>(&mut self, span: &SourceSpan, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(span, format!("cannot set up TLS: {error}"))).ok()
    }

    fn add_hint(&mut self, text: &str) {
        if let Some(last) = self.errors.last_mut() {
            last.hint = Some(text.to_owned());
        }
    }
}

fn versions(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Vec<&'static SupportedProtocolVersion> {
    let (min, max) = (min.unwrap_or(TlsVersion::V1_2), max.unwrap_or(TlsVersion::V1_3));
    [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)]
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, supported)| supported)
        .collect()
}

fn hash_str(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
