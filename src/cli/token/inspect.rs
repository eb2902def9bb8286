//! `token inspect`.

use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Map, Value, json};

use super::super::load;
use super::super::output::{Format, Paint, finish, finish_json};
use super::super::{BAD_CONFIG, ConfigArgs, FAILED, input};
use super::Done;
use crate::auth::{Identity, JwtAuth};
use crate::request::UnixTime;
use crate::snapshot::Snapshot;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The token, `@file`, or `-` for standard input.
    token: String,
    /// A config whose keys it is verified with.
    #[arg(short, long, value_name = "CONFIG")]
    file: Option<String>,
    /// The moment that counts as now: RFC 3339, seconds since 1970, or an offset.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = input::moment)]
    at: Option<UnixTime>,
    /// Fetch the keys of the config that have a URL, once.
    #[arg(long, requires = "file")]
    online: bool,
    /// How the result is written: JSON is `verified`, `header`, `claims`, `verdicts`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// The members of a JSON object.
type Members = Map<String, Value>;

/// What one policy of the config thinks of the token.
struct Verdict {
    /// Where the policy holds.
    routes: String,
    /// The provider, or the reason code and the detail.
    result: Result<String, (String, String)>,
}

pub(super) fn main(args: &InspectArgs) -> Done {
    let bad = |why| (BAD_CONFIG, why);
    if args.token == "-" && args.file.as_deref() == Some("-") {
        return Err(bad("token and config can't both come from standard input".to_owned()));
    }
    let token = input::token(&args.token).map_err(bad)?;
    let now = args.at.unwrap_or_else(UnixTime::now);
    let (header, claims) = parts(&token).map_err(|why| (FAILED, why))?;
    let verdicts = match &args.file {
        None => None,
        Some(file) => {
            let config = ConfigArgs { file: Some(file.clone()), config: None };
            match load::compiled_online(&config, args.online) {
                Ok((_, snapshot)) => Some(verdicts(&snapshot, &token, now)),
                Err(broken) => return Ok(broken.tell()),
            }
        }
    };
    let verified = verdicts.as_ref().map(|all| all.iter().any(|one| one.result.is_ok()));
    let code = if verified == Some(false) { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
    Ok(match args.output {
        Format::Text => finish(&text(&header, &claims, verdicts.as_deref(), now), code),
        Format::Json => {
            let verdicts: Vec<Value> = verdicts.iter().flatten().map(Verdict::json).collect();
            let all = json!({"verified": verified.unwrap_or(false), "header": header, "claims": claims, "verdicts": verdicts});
            finish_json(&all, code)
        }
    })
}

/// Header and claims as they stand there. Nothing is checked: that is the gateway's business, and it is stricter.
fn parts(token: &str) -> Result<(Members, Members), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let &[header, claims, _] = parts.as_slice() else {
        let why = if parts.len() == 5 {
            "it is encrypted (JWE), and only signed tokens are read here"
        } else {
            "a token has three parts with dots between"
        };
        return Err(format!("not a JWT: {why}, and this has {}", parts.len()));
    };
    let object = |part: &str, name: &str| -> Result<Map<String, Value>, String> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| format!("not a JWT: the {name} is not base64url"))?;
        serde_json::from_slice(&bytes).map_err(|_| format!("not a JWT: the {name} is not a JSON object"))
    };
    Ok((object(header, "header")?, object(claims, "payload")?))
}

/// Every `jwtAuth` of the config with its opinion, each once.
fn verdicts(snapshot: &Snapshot, token: &str, now: UnixTime) -> Vec<Verdict> {
    let mut all: Vec<(Arc<JwtAuth>, Vec<&str>)> = Vec::new();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        let own =
            listener.policies.jwt.as_ref().filter(|_| listener.routes.is_empty()).map(|jwt| (jwt, &listener.name));
        let routes = listener.routes.iter().filter_map(|route| Some((route.policies.jwt.as_ref()?, &route.name)));
        for (jwt, name) in routes.chain(own) {
            match all.iter_mut().find(|(known, _)| Arc::ptr_eq(known, jwt)) {
                Some((_, names)) => names.push(name),
                None => all.push((Arc::clone(jwt), vec![name])),
            }
        }
    }
    all.into_iter()
        .map(|(jwt, names)| {
            let found = jwt.judge_alone(token.as_bytes(), now);
            let result = match (found.identity(), found.failure()) {
                (Identity::Verified(verified), _) => Ok(verified.provider().to_owned()),
                (_, Some(failure)) => Err((failure.reason().to_string(), failure.detail().to_string())),
                (_, None) => Err((String::new(), "the token was not looked at".to_owned())),
            };
            Verdict { routes: names.join(", "), result }
        })
        .collect()
}

impl Verdict {
    fn json(&self) -> Value {
        match &self.result {
            Ok(provider) => json!({"routes": self.routes, "verified": true, "provider": provider}),
            Err((reason, detail)) => {
                json!({"routes": self.routes, "verified": false, "reason": reason, "detail": detail})
            }
        }
    }
}

fn text(
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
    verdicts: Option<&[Verdict]>,
    now: UnixTime,
) -> String {
    let paint = Paint::stdout();
    let mut text = String::new();
    match verdicts {
        None => text.push_str(&format!("{}: nobody checked the signature; -f CONFIG does\n", paint.warn("UNVERIFIED"))),
        Some([]) => text.push_str(&format!("{}: the config has no jwtAuth\n", paint.warn("UNVERIFIED"))),
        Some(all) => {
            for one in all {
                text.push_str(&match &one.result {
                    Ok(provider) => {
                        format!("{} by provider {provider:?} (route {})\n", paint.good("VERIFIED"), one.routes)
                    }
                    Err((reason, detail)) => {
                        format!("{} {reason}: {detail} (route {})\n", paint.bad("REFUSED"), one.routes)
                    }
                });
            }
        }
    }
    text.push_str("header\n");
    rows(&mut text, header, now);
    text.push_str("claims\n");
    rows(&mut text, claims, now);
    text
}

/// A line a member. JSON escapes what a terminal could take for a command.
fn rows(text: &mut String, members: &Map<String, Value>, now: UnixTime) {
    let width = members.keys().map(|name| name.chars().count()).max().unwrap_or(0).min(24);
    for (name, value) in members {
        let date = match name.as_str() {
            "exp" | "nbf" | "iat" | "auth_time" => value.as_f64(),
            _ => None,
        };
        let date = date.and_then(|at| Some(format!("  {}, {}", UnixTime(at).calendar()?, input::distance(at, now))));
        let name = name.escape_debug().to_string();
        let value = value.to_string();
        text.push_str(&format!("  {name:width$}  {}{}\n", printable(&value), date.unwrap_or_default()));
    }
}

/// JSON leaves some control characters above ASCII as they are.
fn printable(json: &str) -> String {
    json.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
