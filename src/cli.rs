//! The command line: what each command does with its arguments, and the exit codes of the contract: 0 good, 1 failed,
//! 2 bad usage or config.

pub mod echo;
mod health;
mod import;
mod load;
mod run;
mod validate;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What the process leaves with when something went wrong while it ran.
const FAILED: u8 = 1;
/// What it leaves with when its arguments or its config are wrong: a restart does not help.
const BAD_CONFIG: u8 = 2;

/// A gateway that lets a request through only when its bearer token is good and its CEL rules agree.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  portcullis -f config.yaml             serve
  portcullis validate -f config.yaml    say everything that is wrong with a config
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
    Run(RunArgs),
    /// Say everything that is wrong with a config, and bind nothing.
    Validate(ConfigArgs),
    /// Turn Kubernetes manifests of another gateway into a config.
    Import(import::ImportArgs),
    /// Ask a running gateway whether it is ready; for the health checks of containers.
    Health {
        #[command(flatten)]
        config: ConfigArgs,
        /// What to ask instead of the readiness address of the config or the default, http://127.0.0.1:15021.
        #[arg(long, conflicts_with_all = ["file", "config"])]
        url: Option<String>,
    },
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
        Command::Run(RunArgs { config, validate_only: true }) | Command::Validate(config) => validate::main(&config),
        Command::Run(RunArgs { config, .. }) => run::main(&config),
        Command::Import(args) => import::main(&args),
        Command::Health { config, url } => health::main(&config, url.as_deref()),
        Command::Echo { listen } => echo::main(listen),
    }
}

/// One line on standard error. A closed stream is nobody's error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
