//! The command line: what each command does with its arguments, and the exit codes of the contract: 0 good, 1 failed,
//! 2 bad usage or config.

mod args;
mod config;
pub mod echo;
mod explain;
mod health;
mod import;
mod load;
mod output;
mod probe;
mod run;
mod schema;
mod signing_key;
mod summary;
mod test;
mod token;
mod validate;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

/// What the process leaves with when something went wrong while it ran.
const FAILED: u8 = 1;
/// What it leaves with when its arguments or its config are wrong: a restart does not help.
const BAD_CONFIG: u8 = 2;

/// A gateway that lets a request through only when its bearer token is good and its CEL rules agree.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  portcullis -f config.yaml                                    serve
  portcullis validate -f config.yaml                           what is wrong with a config?
  portcullis explain -f config.yaml --token @t.jwt GET /admin  why does this request get a 401?
  kubectl get cm gw -o jsonpath='{.data.config}' | portcullis validate -f -")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; what happens without a command.
    #[command(after_help = "Exit code: 0 it was told to end, 1 it failed or was told twice, 2 bad usage or config.

SIGTERM and SIGINT let what is in flight finish. SIGHUP, or a change of the config or of a file that
it names, loads it anew; a config that does not load is refused, and the old one serves on. A config
that came by `-c` or `-f -` stays what it is, and the files that it names are read anew.

Examples:
  portcullis run -f config.yaml
  portcullis -c 'binds: [{port: 80, listeners: [{routes: [{backends: [{host: a:8080}]}]}]}]'")]
    Run(RunArgs),
    /// Say everything that is wrong with a config, and bind nothing.
    #[command(after_help = validate_help())]
    Validate(validate::ValidateArgs),
    /// Say what would become of a request, and why. Nothing is sent.
    #[command(
        after_help = "Exit code: 0 it would go on, 3 it would be answered 401, 4 it would be answered 403, 1 it would be
refused with another status, 2 bad usage or config.

Examples:
  portcullis explain -f config.yaml GET http://localhost:3000/admin
  portcullis explain -f config.yaml --token @alice.jwt GET /admin
  portcullis explain -f config.yaml --online --token @alice.jwt GET /admin    with keys by URL
  portcullis explain -f config.yaml --token - -H 'x-env: prod' --at +1h POST /orders < token"
    )]
    Explain(explain::ExplainArgs),
    /// Test what a config does with requests, with tokens made on the fly.
    #[command(
        after_help = "Exit code: 0 all passed, 1 one failed or too little is covered, 2 bad usage, config or test file.

A test file; whatever is not written under `expect` is not looked at:
  config: ../config.yaml
  tests:
  - name: only admins reach /admin
    request: {method: GET, url: http://localhost:3000/admin, headers: {x-env: prod}}
    token: {provider: idp, claims: {groups: [users]}, expiresIn: 5m}   # or forged: true, or raw: TEXT
    at: 2030-01-31T12:00:00Z
    expect: {status: 403, reason: denied, route: admin, rule: none, upstreamHeaders: {x-user: absent}}

Examples:
  portcullis test -f config.yaml tests.yaml
  portcullis test --fail-under 100 --output junit tests/*.yaml > results.xml"
    )]
    Test(test::TestArgs),
    /// Make keys and tokens for tests, and look into tokens.
    Token(token::TokenArgs),
    /// Show what the config amounts to.
    Config(config::ConfigCommandArgs),
    /// Print the JSON Schema of the config file, or say what a field means.
    #[command(after_help = "Examples:
  portcullis schema > portcullis.schema.json    then, as the first line of a config, for editors:
    # yaml-language-server: $schema=portcullis.schema.json
  portcullis schema --explain routes.policies.jwtAuth
  portcullis schema --explain jwtAuth.leeway")]
    Schema(schema::SchemaArgs),
    /// Print a script that completes commands and options.
    #[command(after_help = "Examples:
  portcullis completion bash > /etc/bash_completion.d/portcullis
  portcullis completion zsh > \"${fpath[1]}/_portcullis\"")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
        /// How the result is written: JSON is `shell`, `script`.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: output::Format,
    },
    /// Print the version.
    #[command(after_help = "Examples:
  portcullis version
  portcullis version --output json")]
    Version {
        /// How the result is written: JSON is `name`, `version`, `os`, `arch`.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: output::Format,
    },
    /// Turn Kubernetes manifests of another gateway into a config.
    #[command(
        after_help = "The config goes to standard output, the report of what became of each part to standard error.

Exit code: 0 imported, 1 a part can't be (see --allow-partial), 2 bad usage or manifests.

Examples:
  portcullis import istio mesh.yaml > config.yaml
  kubectl get requestauthentication,authorizationpolicy -A -o yaml | portcullis import istio -
  portcullis import envoy-gateway --map shop/orders=orders.internal:8080 policies.yaml > config.yaml"
    )]
    Import(import::ImportArgs),
    /// Ask a running gateway whether it is ready; for the health checks of containers.
    #[command(
        after_help = "Exit code: 0 it is ready, 1 it is not, or nobody answers, 2 bad usage, or there is nothing to ask.

Examples:
  portcullis health                                     the default address, http://127.0.0.1:15021
  portcullis health -f /etc/portcullis/config.yaml      the address that the config names
  portcullis health --url 'http://10.0.0.7:15021/healthz/ready?verbose'"
    )]
    Health(health::HealthArgs),
    /// A backend that answers with what it received; for demos and tests.
    #[command(hide = true)]
    Echo {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The same as the command `validate`.
    #[arg(long)]
    validate_only: bool,
}

/// Where the config is.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The config file; `-` is standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "config")]
    file: Option<String>,
    /// The config itself.
    #[arg(short, long, value_name = "YAML")]
    config: Option<String>,
}

/// Runs the command line and gives the exit code.
pub fn main() -> ExitCode {
    // one crypto library for all of TLS, chosen once; a second call finds it there already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(RunArgs { config, validate_only: true }) => {
            validate::main(&validate::ValidateArgs::without_options(&config))
        }
        Command::Validate(args) => validate::main(&args),
        Command::Run(RunArgs { config, .. }) => run::main(&config),
        Command::Explain(args) => explain::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Token(args) => token::main(&args),
        Command::Config(args) => config::main(&args),
        Command::Schema(args) => schema::main(&args),
        Command::Completion { shell, output } => print_completion(shell, output),
        Command::Version { output } => print_version(output),
        Command::Import(args) => import::main(&args),
        Command::Health(args) => health::main(&args),
        Command::Echo { listen } => echo::main(listen),
    }
}

fn print_completion(shell: clap_complete::Shell, format: output::Format) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portcullis", &mut script);
    let script = String::from_utf8_lossy(&script);
    match format {
        output::Format::Text => output::print_result(&script, ExitCode::SUCCESS),
        output::Format::Json => {
            let document = serde_json::json!({ "shell": shell.to_string(), "script": script });
            output::print_json(&document, ExitCode::SUCCESS)
        }
    }
}

fn print_version(format: output::Format) -> ExitCode {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    match format {
        output::Format::Text => output::print_result(&format!("portcullis {VERSION}\n"), ExitCode::SUCCESS),
        output::Format::Json => output::print_json(
            &serde_json::json!({
                "name": "portcullis",
                "version": VERSION,
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
            }),
            ExitCode::SUCCESS,
        ),
    }
}

fn validate_help() -> String {
    format!(
        "Exit code: 0 no errors, 1 warnings with --strict, or what --online does not find, 2 errors.

Examples:
  portcullis validate -f config.yaml
  portcullis validate --strict -f staging.yaml production.yaml
  portcullis validate --online -f config.yaml           are the backends and the keys there?
  portcullis validate --output github -f config.yaml    annotations in a pull request

Findings:
{}",
        output::finding_ids()
    )
}

/// Every command that users see, and its help: for the reference.
pub fn help_pages() -> Vec<(String, String)> {
    fn add(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) {
        let help = command.clone().term_width(100).render_long_help().to_string();
        pages.push((name.to_owned(), help.lines().map(|line| line.trim_end().to_owned() + "\n").collect()));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            add(sub, &format!("{name} {}", sub.get_name()), pages);
        }
    }
    let mut command = Cli::command();
    command.build(); // names the parts of each usage line
    let mut pages = Vec::new();
    add(&command, "portcullis", &mut pages);
    pages
}

/// One line on standard error. A closed stream is nobody's error.
fn eprint_line(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
