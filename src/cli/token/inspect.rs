//! `portcullis token inspect`: decodes a token, and verifies it with the keys of a config.

use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::super::load;
use super::super::output::{Format, Style, print_json, print_result};
use super::CommandResult;
use crate::auth::{Identity, JwtAuth};
use crate::cli::{BAD_CONFIG, ConfigArgs, FAILED, args};
use crate::request::UnixTime;
use crate::snapshot::Snapshot;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The token, `@file`, or `-` for standard input.
    token: String,
    /// A config with the keys to verify the token.
    #[arg(short, long, value_name = "CONFIG")]
    file: Option<String>,
    /// The current time for the checks: RFC 3339, seconds since 1970, or an offset from now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = args::parse_time)]
    at: Option<UnixTime>,
    /// Fetch the remote key sets of the config once.
    #[arg(long, requires = "file")]
    online: bool,
    /// The output format. JSON has `verified`, `header`, `claims`, `verdicts`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The members of a JSON object.
type Members = Map<String, Value>;

/// The result of one `jwtAuth` policy for the token.
struct PolicyVerdict {
    /// The routes with this policy.
    routes: String,
    /// The provider, or the reason code and its detail.
    result: Result<String, (String, String)>,
}

pub(super) fn main(args: &InspectArgs) -> CommandResult {
    let bad_input = |why| (BAD_CONFIG, why);
    if args.token == "-" && args.file.as_deref() == Some("-") {
        return Err(bad_input("token and config cannot both be read from standard input".to_owned()));
    }
    let token = args::read_token(&args.token).map_err(bad_input)?;
    let now = args.at.unwrap_or_else(UnixTime::now);
    let (header, claims) = decode_parts(&token).map_err(|message| (FAILED, message))?;
    let verdicts = match &args.file {
        None => None,
        Some(file) => {
            let config = ConfigArgs { file: Some(file.clone()), config: None };
            match load::compile_config_online(&config, args.online) {
                Ok((_, snapshot)) => Some(policy_verdicts(&snapshot, &token, now)),
                Err(broken) => return Ok(broken.report()),
            }
        }
    };
    let verified = verdicts.as_ref().map(|all| all.iter().any(|verdict| verdict.result.is_ok()));
    let code = if verified == Some(false) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
    Ok(match args.output {
        Format::Text => print_result(&render(&header, &claims, verdicts.as_deref(), now), code),
        Format::Json => {
            let verdicts: Vec<Value> = verdicts.iter().flatten().map(PolicyVerdict::to_json).collect();
            let document = json!({"verified": verified.unwrap_or(false), "header": header, "claims": claims, "verdicts": verdicts});
            print_json(&document, code)
        }
    })
}

/// Decodes the header and the claims without any checks. The gateway is stricter.
fn decode_parts(token: &str) -> Result<(Members, Members), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, claims, _] = parts.as_slice() else {
        let problem = if parts.len() == 5 {
            "it is encrypted (JWE), and only signed tokens are supported"
        } else {
            "a token has three parts separated by dots"
        };
        return Err(format!("not a JWT: {problem}; this one has {}", parts.len()));
    };
    let json_object = |part: &str, name: &str| -> Result<Map<String, Value>, String> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| format!("not a JWT: the {name} is not base64url"))?;
        serde_json::from_slice(&bytes).map_err(|_| format!("not a JWT: the {name} is not a JSON object"))
    };
    Ok((json_object(header, "header")?, json_object(claims, "payload")?))
}

/// Evaluates the token with every `jwtAuth` of the config once.
fn policy_verdicts(snapshot: &Snapshot, token: &str, now: UnixTime) -> Vec<PolicyVerdict> {
    let mut policies: Vec<(Arc<JwtAuth>, Vec<&str>)> = Vec::new();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        let listener_policy =
            listener.policies.jwt_auth.as_ref().filter(|_| listener.routes.is_empty()).map(|jwt| (jwt, &listener.name));
        let routes = listener.routes.iter().filter_map(|route| Some((route.policies.jwt_auth.as_ref()?, &route.name)));
        for (jwt, name) in routes.chain(listener_policy) {
            match policies.iter_mut().find(|(existing, _)| Arc::ptr_eq(existing, jwt)) {
                Some((_, names)) => names.push(name),
                None => policies.push((Arc::clone(jwt), vec![name])),
            }
        }
    }
    policies
        .into_iter()
        .map(|(jwt, names)| {
            let authentication = jwt.authenticate_detached(token.as_bytes(), now);
            let result = match (authentication.identity(), authentication.failure()) {
                (Identity::Verified(verified), _) => Ok(verified.provider().to_owned()),
                (_, Some(failure)) => Err((failure.reason().to_string(), failure.detail().to_string())),
                (_, None) => Err((String::new(), "the token was not evaluated".to_owned())),
            };
            PolicyVerdict { routes: names.join(", "), result }
        })
        .collect()
}

impl PolicyVerdict {
    fn to_json(&self) -> Value {
        match &self.result {
            Ok(provider) => json!({"routes": self.routes, "verified": true, "provider": provider}),
            Err((reason, detail)) => {
                json!({"routes": self.routes, "verified": false, "reason": reason, "detail": detail})
            }
        }
    }
}

fn render(
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
    verdicts: Option<&[PolicyVerdict]>,
    now: UnixTime,
) -> String {
    let style = Style::stdout();
    let mut text = String::new();
    match verdicts {
        None => text.push_str(&format!("{}: the signature was not checked; use -f CONFIG\n", style.warn("UNVERIFIED"))),
        Some([]) => text.push_str(&format!("{}: the config has no jwtAuth\n", style.warn("UNVERIFIED"))),
        Some(verdicts) => {
            for verdict in verdicts {
                text.push_str(&match &verdict.result {
                    Ok(provider) => {
                        format!("{} by provider {provider:?} (route {})\n", style.good("VERIFIED"), verdict.routes)
                    }
                    Err((reason, detail)) => {
                        format!("{} {reason}: {detail} (route {})\n", style.bad("REJECTED"), verdict.routes)
                    }
                });
            }
        }
    }
    text.push_str("header\n");
    write_members(&mut text, header, now);
    text.push_str("claims\n");
    write_members(&mut text, claims, now);
    text
}

/// Writes one line per member. JSON escapes the control characters that a terminal would interpret.
fn write_members(text: &mut String, members: &Map<String, Value>, now: UnixTime) {
    let width = members.keys().map(|name| name.chars().count()).max().unwrap_or(0).min(24);
    for (name, value) in members {
        let time = match name.as_str() {
            "exp" | "nbf" | "iat" | "auth_time" => value.as_f64(),
            _ => None,
        };
        let time = time.and_then(|seconds| {
            Some(format!("  {}, {}", UnixTime(seconds).to_rfc3339()?, args::format_offset(seconds, now)))
        });
        let name = name.escape_debug().to_string();
        let value = value.to_string();
        text.push_str(&format!("  {name:width$}  {}{}\n", replace_controls(&value), time.unwrap_or_default()));
    }
}

/// Replaces the control characters above ASCII, which JSON does not escape.
fn replace_controls(json: &str) -> String {
    json.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
