//! Targets that act as a client: a request head for the normalization, and raw bytes for a whole gateway with a recording
//! backend.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Request as Message, Version};
use portcullis::config::{self, Source as Text};
use portcullis::gateway::{Gateway, GatewayOptions};
use portcullis::request::identity_header_names::IdentityHeaderNames;
use portcullis::request::known_headers::KnownHeaders;
use portcullis::request::normalize::NormalizedRequest;
use portcullis::request::path::PathRules;
use portcullis::request::{ClientInfo, HeadLimits, Scheme};
use portcullis::request::{forwarded, hop_by_hop};
use serde_json::Value;

const FOLDED: [&str; 2] = ["x-user", "x-roles"];

/// Normalizes a request head. The first line is a method, a target and a version, the others are headers. Normalizing the
/// result again does not change it, and it contains no header that only the gateway may set.
pub fn head(data: &[u8]) {
    let Some(parts) = parts(data) else { return };
    let identity = IdentityHeaderNames::new(&FOLDED.map(HeaderName::from_static));
    let mut stripped = parts.clone();
    identity.strip(&mut stripped.headers);
    assert_eq!(identity.strip(&mut stripped.headers), 0, "stripping again finds nothing");
    for name in stripped.headers.keys() {
        let folded = name.as_str().replace(['_', '.'], "-");
        assert!(!FOLDED.contains(&folded.as_str()), "{name} is an identity header in another spelling");
    }
    let Ok(mut request) = read(stripped) else { return };
    if request.normalize_path(&PathRules::default()).is_err() {
        return;
    }
    let meaning = |request: &NormalizedRequest| {
        let head = request.head();
        (head.host.to_owned(), head.port, head.path.to_owned(), head.query.map(str::to_owned))
    };
    let first = meaning(&request);
    assert!(first.0.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{first:?}");
    let kept = |headers: &HeaderMap, name: &str| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
    let before = ["host", "authorization", "cookie", "content-length"].map(|name| kept(request.headers_mut(), name));
    let names = request.known_headers();
    hop_by_hop::strip_request(request.headers_mut(), names, |name| identity.contains(name));
    let after = ["host", "authorization", "cookie", "content-length"].map(|name| kept(request.headers_mut(), name));
    assert_eq!(before, after, "`Connection` must not remove these");
    let authority = request.authority().clone();
    let peer = HeaderValue::from_static("192.0.2.1");
    let address = ([192, 0, 2, 1].into(), &peer);
    forwarded::write_headers(request.headers_mut(), names, address, |_| false, Scheme::Http, authority);
    let headers = request.head().headers.clone();
    assert_eq!(kept(&headers, "host").len(), 1);
    assert_eq!(kept(&headers, "x-forwarded-for"), [peer]);
    for name in ["connection", "upgrade", "transfer-encoding", "keep-alive", "proxy-connection", "expect", "forwarded"]
    {
        assert!(!headers.contains_key(name), "{name} must not be forwarded");
    }
    assert!(!headers.keys().any(|name| name.as_str().contains('_')));
    // the backend reads the forwarded request as the one that was authorized
    let mut forwarded = *request.into_parts();
    forwarded.version = Version::HTTP_11;
    let mut reparsed = read(forwarded).expect("the result can be normalized");
    reparsed.normalize_path(&PathRules::default()).expect("the path can be normalized");
    assert_eq!(meaning(&reparsed), first, "the backend reads what was authorized");
}

fn parts(data: &[u8]) -> Option<http::request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next());
    let version = if version == Some(b"2") { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut message = Message::builder().method(method).uri(target).version(version).body(()).ok()?;
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        message.headers_mut().append(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    Some(message.into_parts().0)
}

fn read(parts: http::request::Parts) -> Result<NormalizedRequest, ()> {
    let limits = HeadLimits { size: 64 << 10, headers: 100, drop_underscores: true };
    let source = ClientInfo { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1, tls: None };
    let names = KnownHeaders::from_headers(&parts.headers);
    NormalizedRequest::from_parts(Box::new(parts), names, Scheme::Http, source, HeaderValue::from_static("1"), &limits)
        .map_err(|_| ())
}

/// Sends raw bytes on a connection. Each request that the backend sees is in the access log with the same method and path,
/// and has unambiguous framing.
pub fn http1(data: &[u8]) {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let stage = STAGE.get_or_init(Stage::start);
    stage.play(data);
    let end = Instant::now() + Duration::from_secs(20);
    // a line is written when the request is complete; requests of concurrent inputs are awaited too
    while let Some(missing) = stage.unaccounted() {
        assert!(Instant::now() < end, "not in the access log: {missing:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A gateway and its backend, shared by all inputs.
struct Stage {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    log: Log,
    lines: Mutex<HashMap<String, Value>>,
    _gateway: Gateway,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A request as seen by the backend.
#[derive(Debug, Clone)]
struct Seen {
    id: String,
    method: String,
    path: String,
}

impl Stage {
    fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let backend = backend(Arc::clone(&seen));
        let limits = "headTimeout: 40ms, idleTimeout: 40ms, stallTimeout: 40ms";
        let off = "adminAddr: off, statsAddr: off, readinessAddr: off, workerThreads: 2, logging: {format: json}";
        let denied = "matches: [{path: {pathPrefix: /denied}}], policies: {authorization: {rules: [{deny: 'true'}]}}";
        let backends = format!("backends: [{{host: '{backend}'}}]");
        let yaml = format!(
            "config: {{{off}, limits: {{{limits}}}}}\nbinds: [{{port: 0, address: 127.0.0.1, listeners: [{{routes: [{{{denied}, {backends}}}, {{{backends}}}]}}]}}]"
        );
        let loaded = config::load(Text::new("fuzz.yaml", yaml), &|_| None).expect("a config");
        let log = Log::default();
        let gateway = Gateway::start(loaded, GatewayOptions { access_log: Box::new(log.clone()) }).expect("a gateway");
        let address = gateway.addresses()[0];
        Self { address, seen, log, lines: Mutex::default(), _gateway: gateway }
    }

    /// Sends the bytes and reads until the gateway closes.
    fn play(&self, data: &[u8]) {
        let mut stream = TcpStream::connect(self.address).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let _ = stream.write_all(data); // the gateway may close halfway
        let mut response = Vec::new();
        match stream.read_to_end(&mut response) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
    }

    /// Returns a request that the backend saw and that is not in the access log yet.
    fn unaccounted(&self) -> Option<Seen> {
        let new = std::mem::take(&mut *self.log.0.lock().expect("the log"));
        let mut lines = self.lines.lock().expect("the lines");
        for line in new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).expect("a line of JSON");
            if let Some(id) = line["request.id"].as_str().filter(|_| line.get("backend").is_some()) {
                assert!(lines.insert(id.to_owned(), line.clone()).is_none(), "one id for two requests");
            }
        }
        let mut seen = self.seen.lock().expect("the requests");
        seen.retain(|seen| match lines.remove(&seen.id) {
            Some(line) => {
                assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some(&*seen.method), Some(&*seen.path)));
                assert!(!seen.path.starts_with("/denied"), "{seen:?}");
                false
            }
            None => true,
        });
        seen.first().cloned()
    }
}

/// Starts a backend that parses strictly and responds with 200.
fn backend(seen: Arc<Mutex<Vec<Seen>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || while serve(&mut BufReader::new(&stream), &seen).is_some() {});
        }
    });
    address
}

/// Serves one request. Returns `None` at the end of the connection.
fn serve(reader: &mut BufReader<&TcpStream>, seen: &Mutex<Vec<Seen>>) -> Option<()> {
    let line = |reader: &mut BufReader<&TcpStream>| {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        text.strip_suffix("\r\n").map(str::to_owned)
    };
    let first = line(reader)?;
    let mut fields: HashMap<String, Vec<String>> = HashMap::new();
    loop {
        let text = line(reader)?;
        let Some((name, value)) = text.split_once(": ") else {
            assert!(text.is_empty(), "a header line: {text:?}");
            break;
        };
        assert!(!value.contains(['\r', '\0']) && !name.contains([' ', '\t', '_']), "{text:?}");
        fields.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
    }
    let all = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let parts: Vec<&str> = first.split(' ').collect();
    assert!(parts.len() == 3 && parts[2] == "HTTP/1.1" && parts[1].starts_with('/'), "{first:?}");
    assert!(first.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{first:?}");
    assert_eq!(all("host").len(), 1, "{first:?}");
    let framings = [all("content-length"), all("transfer-encoding")].concat();
    assert!(framings.len() < 2, "{first:?}: {framings:?}");
    let path = parts[1].split('?').next().unwrap_or_default().to_owned();
    let id = all("x-request-id").first().cloned().unwrap_or_default();
    seen.lock().expect("the requests").push(Seen { id, method: parts[0].to_owned(), path });
    match framings.first().map(String::as_str) {
        None => {}
        Some("chunked") => loop {
            let size = usize::from_str_radix(&line(reader)?, 16).expect("the size of a chunk");
            if size == 0 {
                while !line(reader)?.is_empty() {}
                break;
            }
            reader.read_exact(&mut vec![0; size]).ok()?;
            assert_eq!(line(reader)?, "", "the end of a chunk");
        },
        Some(length) => {
            let length: u64 = length.parse().expect("a length");
            (std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()? == length).then_some(())?;
        }
    }
    let body = if parts[0] == "HEAD" { "" } else { "ok" };
    let mut stream: &TcpStream = reader.get_ref();
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").as_bytes()).ok()
}
