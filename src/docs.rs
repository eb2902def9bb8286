//! The documentation pages as rustdoc modules, and the generator of the reference pages.
//!
//! The reference pages are generated from the types and tables that the gateway itself uses. A test generates them
//! again and compares, so that they stay up to date. With `PORTCULLIS_BLESS=1` the test rewrites the files.

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/contributing.md")]
pub mod contributing {}

#[doc = include_str!("docs/changelog.md")]
pub mod changelog {}

#[doc = include_str!("docs/security.md")]
pub mod security {}

#[doc = include_str!("docs/reference/config.md")]
pub mod config {}

#[doc = include_str!("docs/reference/reasons.md")]
pub mod reasons {}

#[doc = include_str!("docs/reference/findings.md")]
pub mod findings {}

#[doc = include_str!("docs/reference/metrics.md")]
pub mod metrics {}

#[doc = include_str!("docs/reference/cel.md")]
pub mod cel {}

#[doc = include_str!("docs/reference/commands.md")]
pub mod commands {}

use std::fmt::Write as _;
use std::sync::Arc;

use crate::authz;
use crate::config::DiagnosticCode;
use crate::config::schema::{SchemaField, SchemaNode, schema};
use crate::reason::Reason;
use crate::telemetry::metrics::{CollectedSeries, Family, Gauge, Labels, Metrics};

/// Returns the file name and the Markdown of every reference page.
pub fn reference_pages() -> [(&'static str, String); 6] {
    [
        ("config.md", config_page()),
        ("reasons.md", reasons_page()),
        ("findings.md", findings_page()),
        ("metrics.md", metrics_page()),
        ("cel.md", cel_page()),
        ("commands.md", commands_page()),
    ]
}

/// The sections of the config page: a title and the path of the described key.
const CONFIG_SECTIONS: [(&str, &str); 38] = [
    ("The file", ""),
    ("`config`", "config"),
    ("`config.logging`", "config.logging"),
    ("`config.limits`", "config.limits"),
    ("`config.tracing`", "config.tracing"),
    ("`binds`", "binds"),
    ("A listener", "binds.listeners"),
    ("`tls` of a listener", "binds.listeners.tls"),
    ("`pathNormalization`", "binds.listeners.pathNormalization"),
    ("A route", "binds.listeners.routes"),
    ("A match of a route", "binds.listeners.routes.matches"),
    ("A backend of a route", "binds.listeners.routes.backends"),
    ("`policies` of a backend", "binds.listeners.routes.backends.policies"),
    ("`gatewayPolicies`, `policies`", "gatewayPolicies"),
    ("`gateways`", "gateways.NAME"),
    ("`backends`", "backends"),
    ("Policies", "binds.listeners.policies"),
    ("`jwtAuth`", "jwtAuth"),
    ("`providers` of `jwtAuth`", "jwtAuth.providers"),
    ("`jwks`", "jwtAuth.jwks"),
    ("`claimsToHeaders`", "jwtAuth.claimsToHeaders"),
    ("`authorization`", "binds.listeners.policies.authorization"),
    ("A rule", "binds.listeners.policies.authorization.rules"),
    ("`cors`", "cors"),
    ("`localRateLimit`", "localRateLimit"),
    ("`timeout`", "timeout"),
    ("`retry`", "retry"),
    ("`transformations`", "transformations.request"),
    ("`urlRewrite`", "urlRewrite"),
    ("`requestRedirect`", "requestRedirect"),
    ("`directResponse`", "directResponse"),
    ("`basicAuth`", "basicAuth"),
    ("`apiKey`", "apiKey"),
    ("`keys` of `apiKey`", "apiKey.keys"),
    ("`extAuthz`", "extAuthz"),
    ("`protocol.grpc` of `extAuthz`", "extAuthz.protocol.grpc"),
    ("`protocol.http` of `extAuthz`", "extAuthz.protocol.http"),
    ("`includeRequestBody` of `extAuthz`", "extAuthz.includeRequestBody"),
];

fn config_page() -> String {
    let schema = schema();
    let mut page =
        String::from("The config file, key by key. `portcullis schema --explain PATH` shows the same for any path.\n");
    for (title, path) in CONFIG_SECTIONS {
        let _ = write!(page, "\n# {title}\n\n");
        // a test fails for a path that the schema does not contain
        let Ok(node) = SchemaNode::root(&schema).find(path) else { continue };
        if !path.is_empty() {
            let _ = write!(page, "{}\n\n", escape_markdown(&node.description()));
        }
        page.push_str("| key | takes | meaning |\n|---|---|---|\n");
        for SchemaField { name, type_names: takes, description, required, .. } in node.fields() {
            let required = if required { " **Required.**" } else { "" };
            let takes = takes.replace(" | ", ", ");
            let _ = writeln!(page, "| `{name}` | {takes} | {}{required} |", escape_markdown(&description));
        }
    }
    page
}

/// Escapes text for a table cell, where Markdown would recognize a column, a tag or a link.
fn escape_markdown(plain: &str) -> String {
    let mut out = String::new();
    for (index, part) in plain.split('`').enumerate() {
        if index > 0 {
            out.push('`');
        }
        let part = part.replace('|', "\\|");
        // code spans stay as they are; links to items of the crate would be broken here
        out.push_str(&if index % 2 == 1 { part } else { part.replace('<', "&lt;").replace("[", "").replace("]", "") });
    }
    out
}

fn reasons_page() -> String {
    let mut page = String::from(
        "The reasons why a request is rejected. The same code appears in the response body (as JSON), in the \
         `WWW-Authenticate` challenge, in the access log and as the metric label `reason`.\n\n| code | status | gRPC | sentence |\n|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let (status, grpc) = (reason.status().as_u16(), reason.grpc_status());
        let _ = writeln!(page, "| `{reason}` | {status} | {grpc} | {} |", reason.sentence());
    }
    page
}

fn findings_page() -> String {
    let mut page = String::from(
        "The findings of `portcullis validate`. An id never changes its meaning.\n\n| id | finding | explanation and remedy |\n\
         |---|---|---|\n",
    );
    for code in DiagnosticCode::ALL {
        let why = code.explanation().replace('\n', " ");
        let _ = writeln!(page, "| `{code}` | {} | {} |", code.title(), escape_markdown(&why));
    }
    page
}

fn metrics_page() -> String {
    let mut page = String::from(
        "The metrics of `GET /metrics`, in the Prometheus text format. No label is taken from a claim or a raw path.\n\n| name | type | meaning |\n|---|---|---|\n",
    );
    let metrics = Arc::new(Metrics::default());
    let shard = metrics.shard();
    for family in Family::ALL {
        shard.increment(metrics.counter(family, &[]));
    }
    let rendered = metrics.render(&CollectedSeries {
        gauges: Gauge::ALL.map(|gauge| (gauge, Labels::default(), 0.0)).to_vec(),
        counters: Vec::new(),
    });
    let mut help = None;
    for line in rendered.lines() {
        let after_prefix = |mark: &str| line.strip_prefix(mark).and_then(|rest| rest.split_once(' '));
        if let Some((name, meaning)) = after_prefix("# HELP ") {
            help = Some((name, meaning));
        } else if let (Some((_, kind)), Some((name, meaning))) = (after_prefix("# TYPE "), help.take()) {
            let _ = writeln!(page, "| `{name}` | {kind} | {meaning} |");
        }
    }
    page
}

fn cel_page() -> String {
    let mut page = String::from(
        "The variables and functions of expressions. Rules can use everything except `response`. The match of a route is \
         evaluated before the token and can use only `request` and `source`. Transformations and log fields can use \
         everything.\n\n\
         # Variables\n\n| name | type | in rules | in matches |\n|---|---|---|---|\n",
    );
    let mark = |yes: bool| if yes { "yes" } else { "" };
    for variable in authz::variables() {
        let (rules, matches) = (mark(variable.in_rules), mark(variable.in_route_matches));
        let _ = writeln!(page, "| `{}` | {} | {rules} | {matches} |", variable.name, variable.ty);
    }
    page.push_str(
        "\n`jwt` contains every claim of the accepted token. Without a token, `jwt == null` is true, `has(jwt.sub)` is false, \
         and `jwt.sub` fails to evaluate. Integers in claims are ints, and uints from 2^63 on. Numbers with a fraction or an \
         exponent, and integers of more than 64 bits, are doubles; keep ids of that size in strings.\n\n\
         # Functions\n\n```text\n",
    );
    for function in authz::functions() {
        let _ = writeln!(page, "{function}");
    }
    page.push_str("```\n");
    page
}

fn commands_page() -> String {
    let mut page = String::from(
        "The command line as `--help` prints it, with the members of each command's JSON. Results go to standard output, \
         notes to standard error. Exit code 0 means success, 1 failure, 2 invalid usage or config.\n",
    );
    for (name, help) in crate::cli::help_pages() {
        let _ = write!(page, "\n# {name}\n\n```text\n{}\n```\n", help.trim_end());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_of_the_config_page_exists_in_the_schema() {
        let schema = schema();
        for (title, path) in CONFIG_SECTIONS {
            if let Err((unknown, _)) = SchemaNode::root(&schema).find(path) {
                panic!("{title}: the schema has no `{unknown}` in `{path}`");
            }
        }
    }

    /// Long lines are wrapped at 100 characters, which would break an example.
    #[test]
    fn help_examples_fit_on_one_line() {
        for (name, help) in crate::cli::help_pages() {
            let examples = help.split_once("Examples:").map_or("", |(_, examples)| examples);
            let broken = examples.lines().find(|line| !line.is_empty() && !line.starts_with("  "));
            assert!(broken.is_none_or(|line| line == "Findings:"), "{name}: {broken:?}\n{help}");
            assert!(
                examples.lines().filter(|line| line.starts_with("  portcullis")).count() > 0 || examples.is_empty()
            );
        }
    }

    #[test]
    fn reference_pages_are_up_to_date() {
        for (name, page) in crate::docs::reference_pages() {
            let path = format!("{}/src/docs/reference/{name}", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("PORTCULLIS_BLESS").is_some() {
                std::fs::write(&path, &page).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap();
            let advice = "run `PORTCULLIS_BLESS=1 cargo test --lib docs::` and review the changes";
            assert!(committed == page, "{path} is out of date: {advice}");
        }
    }
}
