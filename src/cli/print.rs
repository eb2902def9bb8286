//! `portcullis config print`: what holds where, and which line of the file says so.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Format, finish, finish_json};
use super::{BAD_CONFIG, ConfigArgs, load, say};
use crate::config::policy::{JwtMode, Policies};
use crate::config::{Bind, Config, Listener, Place, Route};

/// What to do with the config.
#[derive(Debug, Args)]
pub(super) struct ConfigCommandArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show the routes, and the policies with the lines that they come from.
    #[command(
        after_help = "Without --effective, each level shows what is written there; with it, each route shows what \
holds for it: of each kind of policy the most specific one, but the rules of every level.

Examples:
  portcullis config print --effective -f config.yaml
  portcullis config print --effective --route admin -f config.yaml"
    )]
    Print(PrintArgs),
}

#[derive(Debug, Args)]
struct PrintArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What holds for each route, after precedence.
    #[arg(long)]
    effective: bool,
    /// Only the route of this name.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// How the result is written: JSON is `binds` > `listeners` > `routes`, each with `policies` (`kind`, `level`,
    /// `origin`, `detail`).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn main(args: &ConfigCommandArgs) -> ExitCode {
    let ConfigCommand::Print(args) = &args.command;
    // compiled too, so that what is printed is what would run
    let loaded = match load::compiled(&args.config) {
        Ok((loaded, _)) => loaded,
        Err(broken) => return broken.tell(),
    };
    let names = || loaded.config.binds.iter().flat_map(|bind| &bind.listeners).flat_map(|one| &one.routes);
    if let Some(name) = args.route.as_ref().filter(|name| names().all(|route| route.name != **name)) {
        let known: Vec<_> = names().map(|route| route.name.as_str()).collect();
        say(format_args!("error: there is no route `{name}`; there is: {}", known.join(", ")));
        return ExitCode::from(BAD_CONFIG);
    }
    match args.output {
        Format::Text => finish(&text(&loaded.config, args), ExitCode::SUCCESS),
        Format::Json => finish_json(&json(&loaded.config, args), ExitCode::SUCCESS),
    }
}

/// A policy where it holds.
struct Line {
    kind: &'static str,
    level: &'static str,
    origin: String,
    detail: String,
}

/// What is written at one level.
fn written(level: &'static str, policies: &Policies) -> Vec<Line> {
    let line = |kind, place: &Place, detail| Line { kind, level, origin: origin(place), detail };
    let mut lines = Vec::new();
    for (kind, place) in policies.kinds() {
        match (kind, &policies.jwt_auth) {
            ("authorization", _) => {
                for set in &policies.authorization.0 {
                    lines.push(line(kind, &set.place, super::output::counted(set.rules.len(), "rule")));
                }
            }
            ("jwtAuth", Some(jwt)) => {
                let mode = match jwt.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value) {
                    JwtMode::Strict => "strict",
                    JwtMode::Optional => "optional",
                    JwtMode::Permissive => "permissive",
                    JwtMode::Shadow => "shadow",
                };
                let providers: Vec<_> = jwt.providers.iter().map(|provider| provider.name.as_str()).collect();
                lines.push(line(kind, place, format!("{mode}, {}", providers.join(", "))));
            }
            _ => lines.push(line(kind, place, String::new())),
        }
    }
    lines
}

/// What holds for a route: of each kind the most specific level's, but every level's rules.
fn effective(listener: &Listener, route: Option<&Route>) -> Vec<Line> {
    let mut lines = written("gateway", &listener.gateway_policies);
    let narrower = [("listener", Some(&listener.policies)), ("route", route.map(|route| &route.policies))];
    for (level, policies) in narrower {
        let own = policies.map_or_else(Vec::new, |policies| written(level, policies));
        lines.retain(|line| line.kind == "authorization" || own.iter().all(|narrower| narrower.kind != line.kind));
        lines.extend(own);
    }
    lines.sort_by_key(|line| !matches!(line.kind, "jwtAuth" | "authorization"));
    lines
}

fn origin(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

fn address(bind: &Bind) -> String {
    bind.address
        .as_ref()
        .map_or_else(|| format!("[::]:{}", bind.port), |ip| std::net::SocketAddr::new(ip.0, bind.port).to_string())
}

fn takes(route: &Route) -> String {
    let hosts = route.hostnames.iter().map(|host| host.to_string()).collect::<Vec<_>>().join(", ");
    let ways: Vec<String> = route.matches.iter().map(ToString::to_string).collect();
    format!("{hosts}{}{}", if hosts.is_empty() { "" } else { " " }, ways.join(" | "))
}

fn text(config: &Config, args: &PrintArgs) -> String {
    let wanted = |route: &Route| args.route.as_ref().is_none_or(|name| *name == route.name);
    let mut out = String::new();
    for bind in &config.binds {
        for listener in &bind.listeners {
            if args.route.is_some() && !listener.routes.iter().any(wanted) {
                continue;
            }
            let host = listener.hostname.as_ref().map_or_else(|| "any host".to_owned(), |host| host.to_string());
            out += &format!("{} listener {} ({}): {host}\n", address(bind), listener.name, origin(&listener.place));
            if !args.effective {
                lines(&mut out, 2, &written("gateway", &listener.gateway_policies));
                lines(&mut out, 2, &written("listener", &listener.policies));
            }
            for route in listener.routes.iter().filter(|route| wanted(route)) {
                out += &format!("  route {} ({}): {}\n", route.name, origin(&route.place), takes(route));
                let own =
                    if args.effective { effective(listener, Some(route)) } else { written("route", &route.policies) };
                lines(&mut out, 4, &own);
                let hosts: Vec<_> =
                    route.backends.iter().flat_map(|b| b.hosts.iter().map(|host| host.endpoint.to_string())).collect();
                if !hosts.is_empty() {
                    out += &format!("    {:<22} {}\n", "backends", hosts.join(", "));
                }
            }
            if args.effective && args.route.is_none() {
                out += "  no route: 404\n";
                let only = ["jwtAuth", "authorization", "cors"];
                let mut own = effective(listener, None);
                own.retain(|line| only.contains(&line.kind));
                lines(&mut out, 4, &own);
            }
        }
    }
    out
}

fn lines(out: &mut String, indent: usize, lines: &[Line]) {
    for Line { kind, level, origin, detail } in lines {
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        *out += &format!("{:indent$}{kind:<22} {level} ({origin}){detail}\n", "");
    }
}

fn json(config: &Config, args: &PrintArgs) -> Value {
    let shown = |lines: Vec<Line>| -> Vec<Value> {
        lines
            .into_iter()
            .map(|Line { kind, level, origin, detail }| {
                json!({"kind": kind, "level": level, "origin": origin, "detail": detail})
            })
            .collect()
    };
    let wanted = |route: &&Route| args.route.as_ref().is_none_or(|name| *name == route.name);
    let listeners = |bind: &Bind| -> Vec<Value> {
        bind.listeners
            .iter()
            .map(|listener| {
                let routes: Vec<Value> = listener
                    .routes
                    .iter()
                    .filter(wanted)
                    .map(|route| {
                        let own = if args.effective {
                            effective(listener, Some(route))
                        } else {
                            written("route", &route.policies)
                        };
                        json!({
                            "name": route.name,
                            "origin": origin(&route.place),
                            "matches": takes(route),
                            "policies": shown(own),
                        })
                    })
                    .collect();
                let mut own = written("gateway", &listener.gateway_policies);
                own.extend(written("listener", &listener.policies));
                json!({
                    "name": listener.name,
                    "origin": origin(&listener.place),
                    "hostname": listener.hostname.as_ref().map(|host| host.to_string()),
                    "policies": shown(if args.effective { effective(listener, None) } else { own }),
                    "routes": routes,
                })
            })
            .collect()
    };
    let binds: Vec<Value> =
        config.binds.iter().map(|bind| json!({"address": address(bind), "listeners": listeners(bind)})).collect();
    json!({ "binds": binds })
}
