//! TLS to backends. The client configurations, one per set of ALPN protocols, are built when the config is compiled.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamProtocol;

/// The TLS settings of one endpoint.
#[derive(Clone)]
pub struct ClientTls {
    server_name: ServerName<'static>,
    auto: TlsConnector,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.server_name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Creates the settings from `config` without ALPN and the name that the certificate of the backend must have.
    pub fn new(config: &ClientConfig, server_name: ServerName<'static>) -> Self {
        let connector_for = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Self {
            server_name,
            auto: connector_for(&[b"h2", b"http/1.1"]),
            http1: connector_for(&[b"http/1.1"]),
            http2: connector_for(&[b"h2"]),
        }
    }

    /// Performs the handshake on `tcp`. ALPN offers only what `protocol` allows.
    ///
    /// # Errors
    /// If the certificate is not trusted or the handshake fails.
    pub async fn handshake(&self, tcp: TcpStream, protocol: UpstreamProtocol) -> io::Result<TlsStream<TcpStream>> {
        let connector = match protocol {
            UpstreamProtocol::Auto => &self.auto,
            UpstreamProtocol::Http1 => &self.http1,
            UpstreamProtocol::Http2 => &self.http2,
        };
        connector.connect(self.server_name.clone(), tcp).await
    }
}

/// Accepts any certificate, but only from a peer that has its key. Used for `insecure: true`.
#[derive(Debug)]
pub struct AcceptAnyCertificate(WebPkiSupportedAlgorithms);

impl AcceptAnyCertificate {
    /// Creates a verifier with the signature algorithms of the provider.
    pub fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
