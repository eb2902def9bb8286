//! `portcullis health`: asks a running gateway whether it is ready; for the health checks of containers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::{BAD_CONFIG, ConfigArgs, FAILED, load, say};
use crate::config::process::Process;

/// For each step of asking.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer that are looked at.
const LARGEST: u64 = 16 << 10;

/// Exit code 0: ready. 1: not, or nobody answers. 2: there is no address to ask.
pub(super) fn main(args: &ConfigArgs, url: Option<&str>) -> ExitCode {
    let asked = match (url, args.file.is_some() || args.config.is_some()) {
        (Some(url), _) => of_url(url),
        (None, true) => {
            load::config(args).map_err(|broken| broken.text()).and_then(|loaded| of_config(&loaded.config.process))
        }
        (None, false) => of_config(&Process::default()),
    };
    let (addresses, path) = match asked {
        Ok(asked) => asked,
        Err(text) => {
            say(text.trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let mut last = String::new();
    for address in addresses {
        match ask(address, &path) {
            Ok((200, body)) => {
                let _ = writeln!(std::io::stdout(), "{}", body.trim_end());
                return ExitCode::SUCCESS;
            }
            Ok((status, body)) => last = format!("{address} answers {status}: {}", body.trim_end()),
            Err(error) => last = format!("{address} does not answer: {error}"),
        }
    }
    say(format_args!("unhealthy: {last}"));
    ExitCode::from(FAILED)
}

/// The readiness address of a config, as it can be reached from the same machine.
fn of_config(process: &Process) -> Result<(Vec<SocketAddr>, String), String> {
    let here = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let addresses: Vec<_> = process.readiness_addr.sockets().into_iter().map(here).collect();
    match addresses.is_empty() {
        true => Err("error: `config.readinessAddr` is off, so there is nothing to ask".to_owned()),
        false => Ok((addresses, "/healthz/ready".to_owned())),
    }
}

fn of_url(url: &str) -> Result<(Vec<SocketAddr>, String), String> {
    use std::net::ToSocketAddrs;
    let bad = || format!("error: not a URL: {url}; write for example http://127.0.0.1:15021/healthz/ready");
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses =
        (host, uri.port_u16().unwrap_or(80)).to_socket_addrs().map_err(|error| format!("error: {error}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((addresses.collect(), if path == "/" { "/healthz/ready" } else { path }.to_owned()))
}

/// The status and body of a plain request.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    let shown: String = body.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    Ok((status, shown))
}
