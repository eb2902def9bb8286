//! `portcullis health`: asks a running gateway whether it is ready; for the health checks of containers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Format, finish, finish_json};
use super::{BAD_CONFIG, ConfigArgs, FAILED, load, say};
use crate::config::process::Process;

/// For each step of asking.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer that are looked at.
const LARGEST: u64 = 16 << 10;

/// Whom to ask.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What to ask instead of the readiness address of the config or the default, http://127.0.0.1:15021.
    #[arg(long, conflicts_with_all = ["file", "config"])]
    url: Option<String>,
    /// How the result is written: JSON is `healthy`, `address`, `status`, `body`, `error`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What an address answered.
struct Asked {
    address: SocketAddr,
    answer: std::io::Result<(u16, String)>,
}

/// Exit code 0: ready. 1: not, or nobody answers. 2: there is no address to ask.
pub(super) fn main(args: &HealthArgs) -> ExitCode {
    let asked = match (&args.url, args.config.file.is_some() || args.config.config.is_some()) {
        (Some(url), _) => of_url(url),
        (None, true) => load::config(&args.config)
            .map_err(|broken| broken.text())
            .and_then(|loaded| of_config(&loaded.config.process)),
        (None, false) => of_config(&Process::default()),
    };
    let (addresses, path) = match asked {
        Ok(asked) => asked,
        Err(text) => {
            say(text.trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let mut last = None;
    for address in addresses {
        let asked = Asked { address, answer: ask(address, &path) };
        if asked.is_healthy() {
            return asked.told(args.output);
        }
        last = Some(asked);
    }
    match last {
        Some(asked) => asked.told(args.output),
        None => {
            say("error: the name has no address");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

impl Asked {
    fn is_healthy(&self) -> bool {
        matches!(self.answer, Ok((200, _)))
    }

    fn told(&self, format: Format) -> ExitCode {
        let code = if self.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        let address = self.address;
        match (format, &self.answer) {
            (Format::Json, answer) => {
                let (good, error) = (answer.as_ref().ok(), answer.as_ref().err().map(ToString::to_string));
                let all = json!({
                    "healthy": self.is_healthy(),
                    "address": address.to_string(),
                    "status": good.map(|(status, _)| status),
                    "body": good.map(|(_, body)| body.trim_end()),
                    "error": error,
                });
                return finish_json(&all, code);
            }
            (Format::Text, Ok((200, body))) => return finish(&format!("{}\n", body.trim_end()), code),
            (Format::Text, Ok((status, body))) => {
                say(format_args!("unhealthy: {address} answers {status}: {}", body.trim_end()));
            }
            (Format::Text, Err(error)) => say(format_args!("unhealthy: {address} does not answer: {error}")),
        }
        code
    }
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
