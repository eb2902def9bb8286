//! `portcullis token`: keys and tokens for tests and demos, and inspection of tokens.

mod inspect;
mod keygen;
mod mint;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::eprint_line;
use crate::auth::Algorithm;

/// The arguments of `portcullis token`.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create a key: a private JWK that only you can read, and the public key set for the gateway.
    #[command(after_help = "Examples:
  portcullis token keygen                              dev.private.json and dev.jwks.json, ES256
  portcullis token keygen --alg RS256 --bits 4096 --out issuer")]
    Keygen(keygen::KeygenArgs),
    /// Print the public key set of private keys.
    #[command(after_help = "Examples:
  portcullis token jwks dev.private.json > dev.jwks.json
  portcullis token jwks old.pem new.private.json       both, for a rotation")]
    Jwks(keygen::JwksArgs),
    /// Sign a token.
    #[command(after_help = "Examples:
  portcullis token mint --key dev.private.json --iss https://idp.example --aud my-app --sub alice
  portcullis token mint --key dev.private.json --claim 'groups=[\"admins\"]' --claim level=3 --exp 5m
  curl -H \"Authorization: Bearer $(portcullis token mint --key dev.private.json)\" localhost:3000")]
    Mint(mint::MintArgs),
    /// Show the content of a token. It is labeled UNVERIFIED unless a config has the keys to verify it.
    #[command(after_help = "Exit code: 0 decoded (with -f: verified), 1 rejected, 2 invalid usage or config.

Examples:
  portcullis token inspect @token.txt
  pbpaste | portcullis token inspect - -f config.yaml
  portcullis token inspect @token.txt -f config.yaml --online    with remote keys")]
    Inspect(inspect::InspectArgs),
}

pub(super) fn main(args: &TokenArgs) -> ExitCode {
    let result = match &args.command {
        TokenCommand::Keygen(args) => keygen::keygen(args),
        TokenCommand::Jwks(args) => keygen::jwks(args),
        TokenCommand::Mint(args) => mint::main(args),
        TokenCommand::Inspect(args) => inspect::main(args),
    };
    result.unwrap_or_else(|(code, message)| {
        eprint_line(format_args!("error: {message}"));
        ExitCode::from(code)
    })
}

/// The exit code, or an exit code with an error message.
type CommandResult = Result<ExitCode, (u8, String)>;

fn parse_algorithm(name: &str) -> Result<Algorithm, String> {
    Algorithm::parse(name).ok_or_else(|| {
        let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}
