//! `portcullis explain`: explains what the gateway would do with a request, without sending it.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use http::Method;
use http::header::{HeaderName, HeaderValue};

use super::output::{Format, Style, print_json, print_result};
use super::{BAD_CONFIG, ConfigArgs, FAILED, args, eprint_line, load};
use crate::explain::{ExplainRequest, Explanation, explain};
use crate::reason::Reason;
use crate::request::UnixTime;

/// The exit code for a 401 response.
const UNAUTHENTICATED: u8 = 3;
/// The exit code for a 403 response.
const DENIED: u8 = 4;

/// The request to explain, and the config.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A bearer token, `@file`, or `-` for standard input. It is never printed.
    #[arg(short, long)]
    token: Option<String>,
    /// A header; can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The time of the request: RFC 3339, seconds since 1970, or an offset from now such as +1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = args::parse_time)]
    at: Option<UnixTime>,
    /// The address of the client.
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Fetch remote key sets once before the request is evaluated.
    #[arg(long)]
    online: bool,
    /// The output format. JSON has `status`, `reason`, `sentence`, `method`, `host`, `path`, `bind`, `note`;
    /// `listener`, `route` (`name`, `origin`), `matched`, `nearMisses` (`route`, `why`); `authentication` (`origin`,
    /// `mode`, `result`, `reason`, `detail`, `keysError`, `provider`, `kid`, `algorithm`, `claims`, `replaces`,
    /// `credential`, `checks` with `name`, `result`, `expected`, `found`); `authorization`, a list of sets (`level`,
    /// `origin`, `mode`, `allows`, `because`, `rules` with `name`, `kind`, `origin`, `expression`, `result`, `why`,
    /// `decides`, `reads`), `decidingRule`; `further`, `notJudged`, `credentials`; `answer`, `backends`,
    /// `upstreamHeaders`; `responseHeaders`, `responseBody`; `hint`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    /// The method.
    method: Method,
    /// A URL or a path. The port of a URL selects the bind.
    url: String,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| format!("invalid header name: `{name}`"))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| format!("invalid value for the header `{name}`"))?;
    Ok((name, value))
}

pub(super) fn main(args: &ExplainArgs) -> ExitCode {
    match run(args) {
        Ok(explanation) => {
            let code = ExitCode::from(exit_code(&explanation));
            match args.output {
                Format::Text => print_result(&colorize(&explanation.to_string()), code),
                Format::Json => match serde_json::to_value(&explanation) {
                    Ok(value) => print_json(&value, code),
                    Err(error) => {
                        eprint_line(format_args!("error: {error}"));
                        ExitCode::from(FAILED)
                    }
                },
            }
        }
        Err(code) => code,
    }
}

fn run(args: &ExplainArgs) -> Result<Explanation, ExitCode> {
    let bad_input = |why: String| {
        eprint_line(format_args!("error: {why}"));
        ExitCode::from(BAD_CONFIG)
    };
    if args.token.as_deref() == Some("-") && args.config.file.as_deref() == Some("-") {
        return Err(bad_input("token and config cannot both be read from standard input".to_owned()));
    }
    let (_, snapshot) = load::compile_config_online(&args.config, args.online).map_err(|broken| broken.report())?;
    let token = args.token.as_deref().map(args::read_token).transpose().map_err(bad_input)?;
    let question = ExplainRequest {
        method: args.method.clone(),
        url: args.url.clone(),
        headers: args.headers.clone(),
        token,
        client: args.client,
        now: args.at.unwrap_or_else(UnixTime::now),
    };
    explain(&snapshot, &question).map_err(|why| bad_input(why.to_string()))
}

/// Returns the exit code; 0 if the request would be forwarded.
fn exit_code(explanation: &Explanation) -> u8 {
    let Some(code) = explanation.reason else { return 0 };
    // a gRPC response has status 200 in any case, so the reason code decides
    let status_of_reason =
        || Reason::ALL.into_iter().find(|reason| reason.as_str() == code).map(|reason| reason.status().as_u16());
    match explanation.status.filter(|status| *status != 200).or_else(status_of_reason) {
        Some(401) => UNAUTHENTICATED,
        Some(403) => DENIED,
        _ => FAILED,
    }
}

/// Colors the lines with results and hints.
fn colorize(text: &str) -> String {
    let style = Style::stdout();
    let line = |line: &str| match line.trim_start() {
        trimmed if trimmed.starts_with("FAIL") || trimmed.starts_with("=> 4") || trimmed.starts_with("=> 5") => {
            style.bad(line)
        }
        start if start.starts_with("=>") => style.good(line),
        start if start.starts_with("hint:") || start.starts_with("UNVERIFIED") => style.warn(line),
        _ => line.to_owned(),
    };
    text.lines().map(|text_line| line(text_line) + "\n").collect()
}
