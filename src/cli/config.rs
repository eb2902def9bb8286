//! `portcullis config print`: the policies at each level and in effect for each route, with their lines in the file.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Format, print_json, print_result};
use super::{BAD_CONFIG, ConfigArgs, eprint_line, load};
use crate::config::policy::{AUTHORIZATION, JWT_AUTH, JwtAuthConfig, JwtMode, PoliciesConfig};
use crate::config::{BindConfig, Config, Effective, ListenerConfig, PolicyLevel, RouteConfig, SourceSpan};

/// The arguments of `portcullis config`.
#[derive(Debug, Args)]
pub(super) struct ConfigCommandArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show the routes and their policies, with the lines that define them.
    #[command(
        after_help = "Without --effective, shows the policies that each level defines. With it, shows the policies in \
effect for each route: of each kind the most specific one, and the rules of all levels.

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
    /// Show the policies in effect for each route.
    #[arg(long)]
    effective: bool,
    /// Show only the route with this name.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The output format. JSON has `binds` > `listeners` > `routes`, each with `policies` (`kind`, `level`, `origin`,
    /// `detail`).
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

pub(super) fn main(args: &ConfigCommandArgs) -> ExitCode {
    let ConfigCommand::Print(args) = &args.command;
    // compile as well, so that only a valid config is printed
    let loaded = match load::compile_config(&args.config) {
        Ok((loaded, _)) => loaded,
        Err(broken) => return broken.report(),
    };
    let routes = || loaded.config.binds.iter().flat_map(|bind| &bind.listeners).flat_map(|listener| &listener.routes);
    if let Some(name) = args.route.as_ref().filter(|name| routes().all(|route| route.name != **name)) {
        let names: Vec<_> = routes().map(|route| route.name.as_str()).collect();
        eprint_line(format_args!("error: no route `{name}`; the routes are: {}", names.join(", ")));
        return ExitCode::from(BAD_CONFIG);
    }
    match args.output {
        Format::Text => print_result(&render(&loaded.config, args), ExitCode::SUCCESS),
        Format::Json => print_json(&to_json(&loaded.config, args), ExitCode::SUCCESS),
    }
}

/// A policy and the level that defines it.
struct PolicyLine {
    kind: &'static str,
    level: &'static str,
    origin: String,
    detail: String,
}

/// Returns the lines of a set of policies in their order of precedence, broadest level first.
fn policy_lines(effective: &Effective<'_>) -> Vec<PolicyLine> {
    let line = |kind, level: PolicyLevel, span: &SourceSpan, detail| PolicyLine {
        kind,
        level: level.as_str(),
        origin: span.file_line(),
        detail,
    };
    let mut sets = effective.authorization.iter();
    let entries = effective.entries().map(|entry| {
        let detail = match entry.kind {
            JWT_AUTH => effective.jwt_auth.as_ref().map(|chosen| describe_jwt_auth(chosen.policy)),
            AUTHORIZATION => sets.next().map(|(set, _)| crate::cli::output::pluralize(set.rules.len(), "rule")),
            _ => None,
        };
        line(entry.kind, entry.level, entry.span, detail.unwrap_or_default())
    });
    entries.collect()
}

fn describe_jwt_auth(jwt: &JwtAuthConfig) -> String {
    let mode = match jwt.mode.as_ref().map_or(JwtMode::default(), |mode| mode.value) {
        JwtMode::Strict => "strict",
        JwtMode::Optional => "optional",
        JwtMode::Permissive => "permissive",
        JwtMode::Shadow => "shadow",
    };
    let providers: Vec<_> = jwt.providers.iter().map(|provider| provider.name.as_str()).collect();
    format!("{mode}, {}", providers.join(", "))
}

/// Returns the policies that one level configures.
fn level_policies(level: PolicyLevel, policies: &PoliciesConfig) -> Vec<PolicyLine> {
    policy_lines(&Effective::single_level(level, policies))
}

/// Returns the policies in effect for a route, `jwtAuth` and `authorization` first.
fn effective_policies(listener: &ListenerConfig, route: Option<&RouteConfig>) -> Vec<PolicyLine> {
    let mut lines = policy_lines(&Effective::new(listener, route));
    lines.sort_by_key(|line| ![JWT_AUTH, AUTHORIZATION].contains(&line.kind));
    lines
}

fn address(bind: &BindConfig) -> String {
    bind.address
        .as_ref()
        .map_or_else(|| format!("[::]:{}", bind.port), |ip| std::net::SocketAddr::new(ip.0, bind.port).to_string())
}

fn describe_matches(route: &RouteConfig) -> String {
    let hosts = route.hostnames.iter().map(|host| host.to_string()).collect::<Vec<_>>().join(", ");
    let matches: Vec<String> = route.matches.iter().map(ToString::to_string).collect();
    format!("{hosts}{}{}", if hosts.is_empty() { "" } else { " " }, matches.join(" | "))
}

fn render(config: &Config, args: &PrintArgs) -> String {
    let is_requested = |route: &RouteConfig| args.route.as_ref().is_none_or(|name| *name == route.name);
    let mut out = String::new();
    for bind in &config.binds {
        for listener in &bind.listeners {
            if args.route.is_some() && !listener.routes.iter().any(|route| is_requested(route)) {
                continue;
            }
            let host = listener.hostname.as_ref().map_or_else(|| "any host".to_owned(), |host| host.to_string());
            out += &format!("{} listener {} ({}): {host}\n", address(bind), listener.name, listener.span.file_line());
            if !args.effective {
                write_lines(&mut out, 2, &level_policies(PolicyLevel::Gateway, &listener.gateway_policies));
                write_lines(&mut out, 2, &level_policies(PolicyLevel::Listener, &listener.policies));
            }
            for route in listener.routes.iter().filter(|route| is_requested(route)) {
                out += &format!("  route {} ({}): {}\n", route.name, route.span.file_line(), describe_matches(route));
                let policies = if args.effective {
                    effective_policies(listener, Some(route))
                } else {
                    level_policies(PolicyLevel::Route, &route.policies)
                };
                write_lines(&mut out, 4, &policies);
                let hosts: Vec<_> =
                    route.backends.iter().flat_map(|b| b.hosts.iter().map(|host| host.endpoint.to_string())).collect();
                if !hosts.is_empty() {
                    out += &format!("    {:<22} {}\n", "backends", hosts.join(", "));
                }
            }
            if args.effective && args.route.is_none() {
                out += "  no route: 404\n";
                let only = [JWT_AUTH, AUTHORIZATION, "cors"];
                let mut policies = effective_policies(listener, None);
                policies.retain(|line| only.contains(&line.kind));
                write_lines(&mut out, 4, &policies);
            }
        }
    }
    out
}

fn write_lines(out: &mut String, indent: usize, lines: &[PolicyLine]) {
    for PolicyLine { kind, level, origin, detail } in lines {
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        *out += &format!("{:indent$}{kind:<22} {level} ({origin}){detail}\n", "");
    }
}

fn to_json(config: &Config, args: &PrintArgs) -> Value {
    let policies_json = |lines: Vec<PolicyLine>| -> Vec<Value> {
        lines
            .into_iter()
            .map(|PolicyLine { kind, level, origin, detail }| {
                json!({"kind": kind, "level": level, "origin": origin, "detail": detail})
            })
            .collect()
    };
    let is_requested = |route: &&Arc<RouteConfig>| args.route.as_ref().is_none_or(|name| *name == route.name);
    let listeners = |bind: &BindConfig| -> Vec<Value> {
        bind.listeners
            .iter()
            .map(|listener| {
                let routes: Vec<Value> = listener
                    .routes
                    .iter()
                    .filter(is_requested)
                    .map(|route| {
                        let policies = if args.effective {
                            effective_policies(listener, Some(route))
                        } else {
                            level_policies(PolicyLevel::Route, &route.policies)
                        };
                        json!({
                            "name": route.name,
                            "origin": route.span.file_line(),
                            "matches": describe_matches(route),
                            "policies": policies_json(policies),
                        })
                    })
                    .collect();
                let mut policies = level_policies(PolicyLevel::Gateway, &listener.gateway_policies);
                policies.extend(level_policies(PolicyLevel::Listener, &listener.policies));
                json!({
                    "name": listener.name,
                    "origin": listener.span.file_line(),
                    "hostname": listener.hostname.as_ref().map(|host| host.to_string()),
                    "policies": policies_json(if args.effective { effective_policies(listener, None) } else { policies }),
                    "routes": routes,
                })
            })
            .collect()
    };
    let binds: Vec<Value> =
        config.binds.iter().map(|bind| json!({"address": address(bind), "listeners": listeners(bind)})).collect();
    json!({ "binds": binds })
}
