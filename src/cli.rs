//! The command line: the arguments of each command, and the exit codes: 0 for success, 1 for failure, 2 for invalid
//! usage or config.

mod args;
mod config;
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

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

/// The exit code for failures at run time.
const FAILED: u8 = 1;
/// The exit code for invalid arguments or an invalid config, where a restart does not help.
const BAD_CONFIG: u8 = 2;

/// A gateway that forwards a request only if its bearer token is valid and its CEL rules allow it.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  portcullis -f config.yaml                                    serve
  portcullis validate -f config.yaml                           check a config
  portcullis explain -f config.yaml --token @t.jwt GET /admin  why is this request rejected?
  kubectl get cm gw -o jsonpath='{.data.config}' | portcullis validate -f -")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway. This is the default command.
    #[command(
        after_help = "Exit code: 0 stopped by a signal, 1 failed or stopped by a second signal, 2 invalid usage or config.

SIGTERM and SIGINT stop the gateway after the requests in flight. SIGHUP, or a change of the config
file or a file that it refers to, reloads the config. If the new config is invalid, the gateway keeps
the current one. A config from `-c` or `-f -` cannot change; only its referenced files are reloaded.

Examples:
  portcullis run -f config.yaml
  portcullis -c 'binds: [{port: 80, listeners: [{routes: [{backends: [{host: a:8080}]}]}]}]'"
    )]
    Run(RunArgs),
    /// Report everything that is wrong with a config, without binding any address.
    #[command(after_help = validate_help())]
    Validate(validate::ValidateArgs),
    /// Explain what the gateway would do with a request. Sends nothing.
    #[command(
        after_help = "Exit code: 0 forwarded, 3 rejected with 401, 4 rejected with 403, 1 rejected with another status,
2 invalid usage or config.

Examples:
  portcullis explain -f config.yaml GET http://localhost:3000/admin
  portcullis explain -f config.yaml --token @alice.jwt GET /admin
  portcullis explain -f config.yaml --online --token @alice.jwt GET /admin    with remote keys
  portcullis explain -f config.yaml --token - -H 'x-env: prod' --at +1h POST /orders < token"
    )]
    Explain(explain::ExplainArgs),
    /// Test the decisions of a config for requests, with tokens that are signed on the fly.
    #[command(
        after_help = "Exit code: 0 all passed, 1 a test failed or coverage is too low, 2 invalid usage, config or test file.

A test file. Fields that are not given under `expect` are not compared:
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
    /// Create keys and tokens for tests, and inspect tokens.
    Token(token::TokenArgs),
    /// Show a config as the gateway interprets it.
    Config(config::ConfigCommandArgs),
    /// Print the JSON Schema of the config file, or explain a field.
    #[command(after_help = "Examples:
  portcullis schema > portcullis.schema.json    then, as the first line of a config, for editors:
    # yaml-language-server: $schema=portcullis.schema.json
  portcullis schema --explain routes.policies.jwtAuth
  portcullis schema --explain jwtAuth.leeway")]
    Schema(schema::SchemaArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:
  portcullis completion bash > /etc/bash_completion.d/portcullis
  portcullis completion zsh > \"${fpath[1]}/_portcullis\"")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
        /// The output format. JSON has `shell`, `script`.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: output::Format,
    },
    /// Print the version.
    #[command(after_help = "Examples:
  portcullis version
  portcullis version --output json")]
    Version {
        /// The output format. JSON has `name`, `version`, `os`, `arch`.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        output: output::Format,
    },
    /// Convert Kubernetes manifests of another gateway into a config.
    #[command(
        after_help = "The config is printed to standard output, the report with the outcome of each field to standard error.

Exit code: 0 imported, 1 a part cannot be imported (see --allow-partial), 2 invalid usage or manifests.

Examples:
  portcullis import istio mesh.yaml > config.yaml
  kubectl get requestauthentication,authorizationpolicy -A -o yaml | portcullis import istio -
  portcullis import envoy-gateway --map shop/orders=orders.internal:8080 policies.yaml > config.yaml"
    )]
    Import(import::ImportArgs),
    /// Check whether a running gateway is ready, for container health checks.
    #[command(after_help = "Exit code: 0 ready, 1 not ready or no response, 2 invalid usage or no address to check.

Examples:
  portcullis health                                     the default address, http://127.0.0.1:15021
  portcullis health -f /etc/portcullis/config.yaml      the address from the config
  portcullis health --url 'http://10.0.0.7:15021/healthz/ready?verbose'")]
    Health(health::HealthArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Same as the command `validate`.
    #[arg(long)]
    validate_only: bool,
}

/// The source of the config.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The config file; `-` reads standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "config")]
    file: Option<String>,
    /// The config as text.
    #[arg(short, long, value_name = "YAML")]
    config: Option<String>,
}

/// Runs the command line and returns the exit code.
pub fn main() -> ExitCode {
    // one crypto library for all TLS connections; a second call finds it installed
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
        "Exit code: 0 no errors, 1 warnings with --strict or failed checks with --online, 2 errors.

Examples:
  portcullis validate -f config.yaml
  portcullis validate --strict -f staging.yaml production.yaml
  portcullis validate --online -f config.yaml           check backends and keys too
  portcullis validate --output github -f config.yaml    annotations in a pull request

Findings:
{}",
        output::finding_ids()
    )
}

/// Returns the name and the help of every public command, for the reference page.
pub fn help_pages() -> Vec<(String, String)> {
    fn add(command: &clap::Command, name: &str, pages: &mut Vec<(String, String)>) {
        let help = command.clone().term_width(100).render_long_help().to_string();
        pages.push((name.to_owned(), help.lines().map(|line| line.trim_end().to_owned() + "\n").collect()));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            add(sub, &format!("{name} {}", sub.get_name()), pages);
        }
    }
    let mut command = Cli::command();
    command.build(); // sets the full command name in each usage line
    let mut pages = Vec::new();
    add(&command, "portcullis", &mut pages);
    pages
}

/// Prints a line to standard error. Ignores errors, such as a closed stream.
fn eprint_line(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
