//! `portcullis health`: checks whether a running gateway is ready, for container health checks.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Format, print_json, print_result};
use super::{BAD_CONFIG, ConfigArgs, FAILED, eprint_line, load};
use crate::config::process::ProcessConfig;

/// The timeout for each step: connect, write and read.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The limit on the response in bytes.
const MAX_RESPONSE: u64 = 16 << 10;

/// The gateway to check.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The URL to check. Default: the readiness address of the config, or http://127.0.0.1:15021.
    #[arg(long, conflicts_with_all = ["file", "config"])]
    url: Option<String>,
    /// The output format. JSON has `healthy`, `address`, `status`, `body`, `error`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The response of an address.
struct HealthResponse {
    address: SocketAddr,
    response: std::io::Result<(u16, String)>,
}

/// Runs the check. The exit code is 0 if the gateway is ready, 1 if it is not, and 2 if there is no address to check.
pub(super) fn main(args: &HealthArgs) -> ExitCode {
    let target = match (&args.url, args.config.file.is_some() || args.config.config.is_some()) {
        (Some(url), _) => url_addresses(url),
        (None, true) => load::load_config(&args.config)
            .map_err(|broken| broken.render())
            .and_then(|loaded| config_addresses(&loaded.config.process)),
        (None, false) => config_addresses(&ProcessConfig::default()),
    };
    let (addresses, path) = match target {
        Ok(target) => target,
        Err(text) => {
            eprint_line(text.trim_end());
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let mut last_response = None;
    for address in addresses {
        let response = HealthResponse { address, response: request(address, &path) };
        if response.is_healthy() {
            return response.print_result(args.output);
        }
        last_response = Some(response);
    }
    match last_response {
        Some(response) => response.print_result(args.output),
        None => {
            eprint_line("error: the host name has no address");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

impl HealthResponse {
    fn is_healthy(&self) -> bool {
        matches!(self.response, Ok((200, _)))
    }

    fn print_result(&self, format: Format) -> ExitCode {
        let code = if self.is_healthy() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        let address = self.address;
        match (format, &self.response) {
            (Format::Json, response) => {
                let (success, error) = (response.as_ref().ok(), response.as_ref().err().map(ToString::to_string));
                let document = json!({
                    "healthy": self.is_healthy(),
                    "address": address.to_string(),
                    "status": success.map(|(status, _)| status),
                    "body": success.map(|(_, body)| body.trim_end()),
                    "error": error,
                });
                return print_json(&document, code);
            }
            (Format::Text, Ok((200, body))) => return print_result(&format!("{}\n", body.trim_end()), code),
            (Format::Text, Ok((status, body))) => {
                eprint_line(format_args!("unhealthy: {address} responded {status}: {}", body.trim_end()));
            }
            (Format::Text, Err(error)) => eprint_line(format_args!("unhealthy: {address} did not respond: {error}")),
        }
        code
    }
}

/// Returns the readiness addresses of a config, as reachable from the same host.
fn config_addresses(process: &ProcessConfig) -> Result<(Vec<SocketAddr>, String), String> {
    let to_loopback = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let addresses: Vec<_> = process.readiness_addr.sockets().into_iter().map(to_loopback).collect();
    match addresses.is_empty() {
        true => Err("error: `config.readinessAddr` is off, so there is no address to check".to_owned()),
        false => Ok((addresses, "/healthz/ready".to_owned())),
    }
}

fn url_addresses(url: &str) -> Result<(Vec<SocketAddr>, String), String> {
    use std::net::ToSocketAddrs;
    let invalid_url =
        || format!("error: invalid URL: {url}; expected for example http://127.0.0.1:15021/healthz/ready");
    let uri: http::Uri = url.parse().map_err(|_| invalid_url())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(invalid_url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses =
        (host, uri.port_u16().unwrap_or(80)).to_socket_addrs().map_err(|error| format!("error: {error}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((addresses.collect(), if path == "/" { "/healthz/ready" } else { path }.to_owned()))
}

/// Sends a plain HTTP request and returns the status and the body.
fn request(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the response is not HTTP"))?;
    let shown: String = body.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    Ok((status, shown))
}
