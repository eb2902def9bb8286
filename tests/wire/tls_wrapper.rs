//! TLS around plain sockets, for raw clients and scripted backends.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use portcullis::upstream::tls::AcceptAnyCertificate;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::RawClient;

/// A certificate authority for one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM form.
#[derive(Clone)]
pub struct CertAndKey {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a server.
    pub fn server(&self, name: &str) -> CertAndKey {
        self.issue(CertificateParams::new(vec![name.to_owned()]).unwrap(), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues a certificate for a client, with a subject and a SPIFFE id.
    pub fn client(&self, name: &str) -> CertAndKey {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://test/{name}").try_into().unwrap())];
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> CertAndKey {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        CertAndKey { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl CertAndKey {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Returns the config of a client that trusts any server, with an optional client certificate.
pub fn client_config(identity: Option<&CertAndKey>, alpn: &[&str]) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate::new(&provider)));
    let mut config = match identity {
        Some(own) => builder.with_client_auth_cert(vec![own.der()], own.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Returns the config of a server with this certificate, which requests client certificates if `clients` is set.
pub fn server_config(identity: &CertAndKey, clients: Option<&Authority>, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![identity.der()], identity.key()).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// The parameters of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeInfo {
    /// The certificate of the other side.
    pub peer: Option<Vec<u8>>,
    /// The protocol that ALPN selected.
    pub alpn: Option<String>,
    /// The name in SNI, on the server's side.
    pub sni: Option<String>,
}

type HandshakeLog = Arc<Mutex<Vec<Result<HandshakeInfo, String>>>>;

/// Connects a raw client to `address` over TLS, and records the handshake. To the client, a rejected handshake looks like
/// a closed connection.
pub fn connect_tls(address: SocketAddr, name: &str, config: ClientConfig) -> (RawClient, HandshakeLog) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let log = HandshakeLog::default();
    let connector = TlsConnector::from(Arc::new(config));
    let recorded = Arc::clone(&log);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap();
    serve_connections(listener, true, move |near| {
        let (connector, name, log) = (connector.clone(), name.clone(), Arc::clone(&recorded));
        async move {
            let far = tokio::net::TcpStream::connect(address).await.unwrap();
            match connector.connect(name, far).await {
                Ok(mut far) => {
                    let session = &far.get_ref().1;
                    let alpn = session.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
                    let peer = session.peer_certificates().map(|chain| chain[0].to_vec());
                    log.lock().unwrap().push(Ok(HandshakeInfo { peer, alpn, sni: None }));
                    relay(near, &mut far).await;
                }
                Err(error) => log.lock().unwrap().push(Err(error.to_string())),
            }
        }
    });
    (RawClient::connect(near), log)
}

/// Starts a TLS server that relays to `backend`. Returns its address and a record of each handshake.
pub fn tls_frontend(backend: SocketAddr, config: ServerConfig) -> (SocketAddr, HandshakeLog) {
    let log = HandshakeLog::default();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let recorded = Arc::clone(&log);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    serve_connections(listener, false, move |near| {
        let (acceptor, log) = (acceptor.clone(), Arc::clone(&recorded));
        async move {
            match acceptor.accept(near).await {
                Ok(near) => {
                    let session = &near.get_ref().1;
                    let alpn = session.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
                    let peer = session.peer_certificates().map(|chain| chain[0].to_vec());
                    let sni = session.server_name().map(str::to_owned);
                    log.lock().unwrap().push(Ok(HandshakeInfo { peer, alpn, sni }));
                    let mut far = tokio::net::TcpStream::connect(backend).await.unwrap();
                    relay(near, &mut far).await;
                }
                Err(error) => log.lock().unwrap().push(Err(error.to_string())),
            }
        }
    });
    (address, log)
}

async fn relay(mut near: impl AsyncRead + AsyncWrite + Unpin, far: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let _ = copy_bidirectional(&mut near, far).await;
    let _ = tokio::join!(near.shutdown(), far.shutdown());
}

/// Serves each connection, or only the first if `once` is set.
fn serve_connections<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    once: bool,
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) {
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                if once {
                    return serve(stream).await;
                }
                tokio::task::spawn_local(serve(stream));
            }
        });
    });
}
