//! `portcullis token keygen` and `portcullis token jwks`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{CommandResult, parse_algorithm};
use crate::auth::Algorithm;
use crate::cli::output::{Format, print_json, print_result};
use crate::cli::signing_key::SigningKey;
use crate::cli::{BAD_CONFIG, FAILED, args, eprint_line};

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// The signing algorithm of the key.
    #[arg(long, value_name = "ALG", default_value = "ES256", value_parser = parse_algorithm)]
    alg: Algorithm,
    /// The key id. Default: the thumbprint of the key (RFC 7638).
    #[arg(long)]
    kid: Option<String>,
    /// The size of an RSA key in bits.
    #[arg(long, default_value_t = 2048)]
    bits: u16,
    /// The base name of the files: NAME.private.json and NAME.jwks.json.
    #[arg(long, value_name = "NAME", default_value = "dev")]
    out: PathBuf,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    /// The output format. JSON has `kid`, `alg`, `private`, `jwks`.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn keygen(args: &KeygenArgs) -> CommandResult {
    let key =
        SigningKey::generate(args.alg, args.bits, args.kid.as_deref()).map_err(|message| (BAD_CONFIG, message))?;
    let internal_error = |message| (FAILED, message);
    let private = key.private_jwk().map_err(internal_error)?;
    let public = json!({ "keys": [key.public_jwk().map_err(internal_error)?] });
    let file_name = |ending: &str| {
        let mut name = args.out.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let (private_file, public_file) = (file_name(".private.json"), file_name(".jwks.json"));
    write_new_file(&private_file, &private, 0o600, args.force)?;
    // the public half of a shared secret is the secret itself
    write_new_file(&public_file, &public, if key.is_shared() { 0o600 } else { 0o644 }, args.force)?;
    if key.is_shared() {
        eprint_line(format_args!(
            "note: {} contains the secret itself; every process that can read it can sign tokens",
            public_file.display()
        ));
    }
    Ok(match args.output {
        Format::Text => print_result(
            &format!(
                "{} key {}\n  {}  private: signs tokens, keep it secret\n  {}  for the gateway: `jwks: {{file: {}}}`\n",
                key.algorithm(),
                key.kid(),
                private_file.display(),
                public_file.display(),
                public_file.display(),
            ),
            ExitCode::SUCCESS,
        ),
        Format::Json => print_json(
            &json!({
                "kid": key.kid(),
                "alg": key.algorithm().as_str(),
                "private": private_file.display().to_string(),
                "jwks": public_file.display().to_string(),
            }),
            ExitCode::SUCCESS,
        ),
    })
}

/// Writes a new file. With `force`, removes the old one first, so that its owner and mode are not kept.
fn write_new_file(path: &Path, content: &Value, mode: u32, force: bool) -> Result<(), (u8, String)> {
    let write_error = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => (FAILED, format!("{} already exists; --force replaces it", path.display())),
        _ => (FAILED, format!("cannot write {}: {error}", path.display())),
    };
    if force
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(write_error(error));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(write_error)?;
    file.write_all(format!("{content:#}\n").as_bytes()).map_err(write_error)
}

#[derive(Debug, Args)]
pub(super) struct JwksArgs {
    /// Keys: JWKs, key sets with one private key, or PEM; `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    keys: Vec<String>,
    /// The output format. A key set is always JSON.
    #[arg(long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    _output: Format,
}

pub(super) fn jwks(args: &JwksArgs) -> CommandResult {
    let mut keys = Vec::with_capacity(args.keys.len());
    for path in &args.keys {
        let text = args::read_text(path).map_err(|message| (BAD_CONFIG, message))?;
        let key = SigningKey::parse(&text, None, None).map_err(|message| (BAD_CONFIG, format!("{path}: {message}")))?;
        if key.is_shared() {
            let message = format!("{path}: a shared secret has no public half; use the file itself in the gateway");
            return Err((BAD_CONFIG, message));
        }
        keys.push(key.public_jwk().map_err(|message| (FAILED, format!("{path}: {message}")))?);
    }
    Ok(print_json(&json!({ "keys": keys }), ExitCode::SUCCESS))
}
