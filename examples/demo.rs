//! A backend, and the gateway of `quickstart.yaml` in front of it, in one command.
//!
//! `cargo run --example demo` serves on port 3000. `cargo run --example demo -- PORT` serves on another port (0 for a free
//! one) without the admin, metrics and readiness addresses, so that it does not conflict with a running gateway.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

#[allow(dead_code, reason = "its `main` is not used here")]
mod echo;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use portcullis::config;
use portcullis::gateway::{Gateway, GatewayOptions};

const QUICKSTART: &str = include_str!("quickstart.yaml");

fn main() -> ExitCode {
    match run(std::env::args().nth(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: Option<String>) -> Result<(), String> {
    // The config refers to the keys relative to the root of the repository.
    std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")).map_err(|error| error.to_string())?;

    let backend = backend().map_err(|error| format!("cannot start the backend: {error}"))?;
    let mut yaml = QUICKSTART.replace("localhost:8080", &backend.to_string());
    if let Some(port) = port {
        yaml = yaml.replace("port: 3000", &format!("port: {port}"));
        yaml.push_str("config: {adminAddr: off, statsAddr: off, readinessAddr: off}\n");
    }

    let source = config::Source::new("examples/quickstart.yaml", yaml);
    let gateway = config::load(source.clone(), &|name| std::env::var(name).ok())
        .and_then(|loaded| Gateway::start(loaded, GatewayOptions::default()))
        .map_err(|errors| errors.iter().map(|error| error.render(Some(&source))).collect::<String>())?;

    println!("backend on http://{backend}");
    for address in gateway.addresses() {
        println!("gateway on http://localhost:{}, stop it with Ctrl-C", address.port());
    }
    gateway.wait_for_shutdown();
    gateway.shutdown();
    Ok(())
}

/// Starts the backend on a dedicated thread, on port 8080 or, if that is taken, on a free port.
fn backend() -> std::io::Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        let result = runtime.block_on(async { echo::serve(tokio::net::TcpListener::from_std(listener)?).await });
        if let Err(error) = result {
            eprintln!("the backend stopped: {error}");
        }
    });
    Ok(address)
}
