//! `portcullis token mint`: signs a token.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::output::{Format, print_json, print_result};
use super::{CommandResult, parse_algorithm};
use crate::auth::Algorithm;
use crate::cli::signing_key::SigningKey;
use crate::cli::{BAD_CONFIG, FAILED, args};
use crate::request::UnixTime;

#[derive(Debug, Args)]
pub(super) struct MintArgs {
    /// The key: a private JWK, a key set with one private key, or PEM; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    key: String,
    /// The algorithm, if the key allows several.
    #[arg(long, value_parser = parse_algorithm)]
    alg: Option<Algorithm>,
    /// The `kid` in the header, or the key to use from a set. Default: the `kid` of the key, or its thumbprint.
    #[arg(long)]
    kid: Option<String>,
    /// The `typ` in the header.
    #[arg(long, default_value = "JWT")]
    typ: String,
    /// The claim `iss`.
    #[arg(long)]
    iss: Option<String>,
    /// The claim `sub`.
    #[arg(long)]
    sub: Option<String>,
    /// The claim `aud`; repeat it for a list.
    #[arg(long)]
    aud: Vec<String>,
    /// A claim: NAME=VALUE. The value is JSON, or else text. The last one for a name applies.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, Value)>,
    /// The expiry relative to now; negative for the past, `never` to omit the claim.
    #[arg(long, value_name = "DURATION", default_value = "1h", allow_hyphen_values = true, value_parser = parse_lifetime)]
    exp: Lifetime,
    /// The start of validity relative to now.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_lifetime)]
    nbf: Option<Lifetime>,
    /// The current time: RFC 3339, seconds since 1970, or an offset from now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = args::parse_time)]
    at: Option<UnixTime>,
    /// The output format. JSON has `token`, `header`, `claims`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// Seconds from now, or no such claim.
type Lifetime = Never<f64>;

#[derive(Debug, Clone, Copy)]
struct Never<T>(Option<T>);

fn parse_lifetime(text: &str) -> Result<Lifetime, String> {
    match (text, args::parse_signed_duration(text)) {
        ("never", _) => Ok(Never(None)),
        (_, Some(seconds)) => Ok(Never(Some(seconds))),
        _ => Err("a duration has a number and a unit, such as 90s, 5m or 1h30m; or `never`".to_owned()),
    }
}

fn parse_claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

pub(super) fn main(args: &MintArgs) -> CommandResult {
    let text = args::read_text(&args.key).map_err(|message| (BAD_CONFIG, message))?;
    let key = SigningKey::parse(&text, args.alg, args.kid.as_deref())
        .map_err(|message| (BAD_CONFIG, format!("{}: {message}", args.key)))?;
    let claims = build_claims(args, args.at.unwrap_or_else(UnixTime::now));
    let mut header = Map::new();
    header.insert("typ".to_owned(), json!(args.typ));
    if let Some(kid) = &args.kid {
        header.insert("kid".to_owned(), json!(kid));
    }
    let token = key.sign_token(&header, &claims).map_err(|message| (FAILED, message))?;
    Ok(match args.output {
        Format::Text => print_result(&format!("{token}\n"), ExitCode::SUCCESS),
        Format::Json => {
            header.insert("alg".to_owned(), json!(key.algorithm().as_str()));
            header.entry("kid").or_insert_with(|| json!(key.kid()));
            print_json(&json!({"token": token, "header": header, "claims": claims}), ExitCode::SUCCESS)
        }
    })
}

fn build_claims(args: &MintArgs, now: UnixTime) -> Value {
    let mut claims = Map::new();
    let mut set = |name: &str, value: Option<Value>| drop(value.map(|value| claims.insert(name.to_owned(), value)));
    set("iss", args.iss.as_ref().map(|text| json!(text)));
    set("sub", args.sub.as_ref().map(|text| json!(text)));
    set(
        "aud",
        match args.aud.as_slice() {
            [] => None,
            [audience] => Some(json!(audience)),
            audiences => Some(json!(audiences)),
        },
    );
    let timestamp = |offset: f64| json!((now.0 + offset).floor() as i64);
    set("iat", Some(timestamp(0.0)));
    set("exp", args.exp.0.map(timestamp));
    set("nbf", args.nbf.and_then(|nbf| nbf.0).map(timestamp));
    for (name, value) in &args.claims {
        set(name, Some(value.clone()));
    }
    Value::Object(claims)
}
