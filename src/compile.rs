//! Compiles a config into a snapshot. This is the only module that knows both: it loads keys, compiles expressions and
//! the effective policies of every route, and reports all errors of the file together, each at its position.
//!
//! Nothing is bound or fetched here. A config that does not compile has no side effects.

mod backend;
mod carry_over;
mod health_checks;
mod keys;
mod lint;
mod policy;
mod tls;
mod tracing;

pub use carry_over::CarryOver;
pub use lint::warnings;
pub use tracing::collector_url;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::auth::JwtAuth;
use crate::authz::{Expression, RuleSet, Scope, with_deep_stack};
use crate::config::bind::{ErrorStyle, EscapedSlashes, ListenerConfig, PathNormalization};
use crate::config::process::{LogFormat as LogFormatConfig, ProcessConfig, UnderscoreHeaders};
use crate::config::route::{PathMatchConfig, RouteConfig, RouteMatch, ValueMatch};
use crate::config::span::{SourceSpan, Spanned};
use crate::config::value::HostPattern;
use crate::config::{Diagnostic, DiagnosticCode, Effective, LoadedConfig, Source};
use crate::request::HeadLimits;
use crate::request::identity_header_names::IdentityHeaderNames;
use crate::request::path;
use crate::request::path::PathRules;
use crate::router::{Conditions, Hostname, PathMatch, Router};
use crate::snapshot::{
    Bind, ClientLimits, ClientTimeouts, GlobalSettings, Listener, Policies, Route, Snapshot, TokenCounters,
};
use crate::telemetry::access_log::LogFormat;
use crate::telemetry::metrics::{Family, Metrics};
use crate::upstream::balance::LoadBalancer;

/// Compiles a config for commands that check or explain it: keys by URL are never fetched. `generation` numbers the
/// snapshot.
///
/// # Errors
/// All errors beyond syntax and types, in the order of the file.
pub fn compile(
    loaded: &Arc<LoadedConfig>,
    metrics: &Arc<Metrics>,
    generation: u64,
) -> Result<Snapshot, Vec<Diagnostic>> {
    compile_for_serving(loaded, metrics, &CarryOver::new(None), generation)
}

/// Compiles a config for serving: remote keys are fetched, and the state of the previous config is carried over.
///
/// # Errors
/// All errors beyond syntax and types, in the order of the file.
pub fn compile_for_serving(
    loaded: &Arc<LoadedConfig>,
    metrics: &Arc<Metrics>,
    carry_over: &CarryOver,
    generation: u64,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let compiler = Compiler::new(&loaded.source, &loaded.config.process, metrics, carry_over);
    // the expressions' parser needs a deep stack; one thread serves for all of them
    match with_deep_stack(|| compiler.build_snapshot(loaded, generation)) {
        Ok(result) => result,
        Err(message) => Err(vec![Diagnostic::error(loaded.source.span(0, 0, ""), message)]),
    }
}

/// The state of a compilation: the policies compiled so far, and the errors.
struct Compiler<'a> {
    source: &'a Source,
    process: &'a ProcessConfig,
    metrics: &'a Arc<Metrics>,
    carry_over: &'a CarryOver,
    errors: Vec<Diagnostic>,
    /// Policies that apply to several routes are compiled once. The key is their offset in the file.
    jwt_policies: HashMap<usize, Option<Arc<JwtAuth>>>,
    rule_sets: HashMap<Vec<usize>, Arc<[RuleSet]>>,
    /// The names of the gateway, listener and route that are being compiled.
    level_names: LevelNames,
    policy_cache: policy::PolicyCache,
    tls_cache: tls::TlsCache,
}

/// Names of the levels that a policy can stand at: gateway, listener, route. A bind's address is a part of its
/// listeners'.
type LevelNames = [String; 3];

impl<'a> Compiler<'a> {
    fn new(
        source: &'a Source,
        process: &'a ProcessConfig,
        metrics: &'a Arc<Metrics>,
        carry_over: &'a CarryOver,
    ) -> Self {
        let (errors, jwt_policies, rule_sets) = (Vec::new(), HashMap::new(), HashMap::new());
        Self {
            source,
            process,
            metrics,
            carry_over,
            errors,
            jwt_policies,
            rule_sets,
            level_names: LevelNames::default(),
            policy_cache: policy::PolicyCache::default(),
            tls_cache: tls::TlsCache::default(),
        }
    }

    fn build_snapshot(mut self, loaded: &Arc<LoadedConfig>, generation: u64) -> Result<Snapshot, Vec<Diagnostic>> {
        let mut binds = Vec::new();
        for bind in &loaded.config.binds {
            let address = SocketAddr::new(bind.address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |a| a.0), bind.port);
            let listeners = bind.listeners.iter().map(|listener| Arc::new(self.listener(address, listener))).collect();
            let config = Arc::clone(bind);
            binds.push(Arc::new(Bind { config, address, listeners, series: self.metrics.route("", "") }));
        }
        let settings = self.settings();
        if self.errors.is_empty() {
            return Ok(Snapshot { generation, loaded: Arc::clone(loaded), binds, settings });
        }
        self.errors.sort_by_key(|error| error.span.start);
        self.errors.dedup();
        Err(self.errors)
    }

    /// Records an error. The compilation continues, to find the others.
    fn error(&mut self, span: &SourceSpan, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(span.clone(), message));
    }

    fn listener(&mut self, bind: SocketAddr, listener: &Arc<ListenerConfig>) -> Listener {
        self.level_names = [listener.gateway.clone(), format!("{bind} {}", listener.name), String::new()];
        let name: Arc<str> = listener.name.as_str().into();
        let mut router = Router::default();
        let path_rules = path_rules(listener.path_normalization);
        let mut route = |route| self.route(&mut router, listener, &name, &path_rules, route);
        let routes = listener.routes.iter().map(&mut route).collect();
        router.finish();
        Listener {
            config: Arc::clone(listener),
            hostname: listener.hostname.as_ref().map_or(Hostname::Any, |pattern| hostname(pattern)),
            envoy_errors: listener.error_style == ErrorStyle::Envoy,
            tls: listener.tls.as_ref().and_then(|tls| self.server_tls(tls)),
            policies: self.policies(&Effective::new(listener, None), &path_rules),
            path_rules,
            routes,
            router,
            series: self.metrics.route(&name, ""),
            name,
        }
    }

    fn route(
        &mut self,
        router: &mut Router<Route>,
        listener_config: &ListenerConfig,
        listener: &Arc<str>,
        paths: &PathRules,
        route: &Arc<RouteConfig>,
    ) -> Arc<Route> {
        let effective = Effective::new(listener_config, Some(route));
        self.level_names[2].clone_from(&route.name);
        let backends: Vec<_> = route.backends.iter().map(|backend| self.backend(backend)).collect();
        let compiled = Arc::new(Route {
            config: Arc::clone(route),
            name: route.name.as_str().into(),
            listener: Arc::clone(listener),
            policies: self.policies(&effective, paths),
            backends: LoadBalancer::new(backends),
            local_response: self.local_response(&effective, route, paths),
            mirrors: self.mirrors(&effective, listener, &route.name),
            retry: self.retry(&effective, listener, &route.name),
            forwards_credential: self.forwards_credential(&route.backends),
            timeouts: self.timeouts(&effective),
            series: self.metrics.route(listener, &route.name),
        });
        let hosts: Vec<Hostname> = match route.hostnames.as_slice() {
            [] => vec![Hostname::Any],
            patterns => patterns.iter().map(|host| hostname(host)).collect(),
        };
        for entry in &route.matches {
            let (path, conditions) = self.route_match(entry, &route.span, paths);
            for host in &hosts {
                router.add(host, &path, conditions.clone(), Arc::clone(&compiled));
            }
        }
        compiled
    }

    fn route_match(&mut self, entry: &RouteMatch, span: &SourceSpan, paths: &PathRules) -> (PathMatch, Conditions) {
        // requests are matched by their canonical path: a match on another form would silently never apply
        let mut canonical = |path: &str| match paths.canonicalize(path) {
            Ok(path) => path.into_owned(),
            Err(_) => {
                self.error(
                    span,
                    format!("no request matches the path `{path}`, because servers may interpret it differently"),
                );
                path.to_owned()
            }
        };
        let path = match &entry.path {
            PathMatchConfig::Exact(path) => PathMatch::Exact(canonical(path).into()),
            PathMatchConfig::PathPrefix(path) => {
                let path = canonical(path);
                let trimmed = path.trim_end_matches('/');
                PathMatch::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.into())
            }
            PathMatchConfig::Regex(regex) => PathMatch::Regex(regex.clone()),
        };
        let conditions = Conditions {
            method: entry.method.as_ref().map(|method| method.0.clone()),
            headers: entry.headers.iter().map(|h| (h.name.0.clone(), value_match(&h.value))).collect(),
            query: entry.query.iter().map(|q| (q.name.as_str().into(), value_match(&q.value))).collect(),
            cel: entry.cel.as_ref().and_then(|cel| self.expression(cel, Scope::RouteMatch)).map(Arc::new),
        };
        (path, conditions)
    }

    /// Compiles the policies in effect for a route or for requests without one.
    fn policies(&mut self, effective: &Effective<'_>, paths: &PathRules) -> Policies {
        let jwt = effective.jwt_auth.as_ref().and_then(|chosen| self.jwt_auth(chosen.policy));
        let rules = self.rule_sets(&effective.authorization);
        let counters = jwt.as_ref().map(|policy| Arc::new(self.token_counters(policy)));
        let (cors, gates, edits) = (
            effective.cors.as_ref().and_then(|chosen| self.cors(chosen.policy)),
            self.admission_checks(effective),
            self.edits(effective, paths),
        );
        let credentials = self.credentials(effective);
        Policies {
            jwt_auth: jwt,
            rule_sets: rules,
            token_counters: counters,
            cors,
            credentials,
            admission_checks: gates,
            edits,
        }
    }

    fn token_counters(&self, policy: &JwtAuth) -> TokenCounters {
        let group = |provider: &str| self.metrics.counter_vec(Family::Verifications, &[("provider", provider)]);
        TokenCounters {
            cache_hits: self.metrics.counter(Family::CacheHits, &[]),
            verifications: policy.providers().iter().map(|p| (Box::from(&**p.name()), group(p.name()))).collect(),
            unmatched: group(""),
        }
    }

    /// Compiles an expression. Errors are recorded at their position inside the scalar.
    fn expression(&mut self, cel: &Spanned<String>, scope: Scope<'_>) -> Option<Expression> {
        match Expression::compile(cel, scope) {
            Ok(expression) => Some(expression),
            Err(errors) => {
                for error in errors {
                    let mut diagnostic =
                        Diagnostic::error(self.source.span_inside(&cel.span, error.offset), error.message)
                            .with_code(DiagnosticCode::InvalidExpression);
                    diagnostic.hint = error.hint;
                    self.errors.push(diagnostic);
                }
                None
            }
        }
    }

    fn settings(&mut self) -> GlobalSettings {
        let process = self.process;
        self.errors.extend(collector_url(&process.tracing).err());
        let limits = &process.limits;
        let identity = self.jwt_policies.values().flatten().flat_map(|policy| policy.identity_header_names()).cloned();
        let identity: Vec<_> = identity.collect();
        let mut log_fields = Vec::new();
        for (name, cel) in &process.logging.fields.0 {
            if !is_field_name(name) {
                self.error(
                    &cel.span,
                    format!("`{name}` is not a valid log field name; use letters, digits, `_`, `-` and `.`"),
                );
            } else if let Some(expression) = self.expression(cel, Scope::Value { extra: &[] }) {
                log_fields.push((name.clone(), expression));
            }
        }
        GlobalSettings {
            log_format: match process.logging.format {
                LogFormatConfig::Text => LogFormat::Text,
                LogFormatConfig::Json => LogFormat::Json,
            },
            log_claims: process
                .logging
                .claims
                .iter()
                .map(|path| (log_field_name(&path.0.join(".")), path.0.clone()))
                .collect(),
            log_fields,
            trusted_proxies: process.trusted_proxies.clone(),
            identity_headers: Arc::new(IdentityHeaderNames::new(&identity)),
            via: process.via,
            limits: ClientLimits {
                head: HeadLimits {
                    size: limits.head.get(),
                    headers: limits.headers,
                    drop_underscores: limits.underscore_headers == UnderscoreHeaders::Drop,
                },
                body: limits.body.map(|size| size.0),
                connections: limits.connections,
                http2_streams: limits.http2_streams,
                handshake_timeout: limits.handshake_timeout.get(),
                client_timeouts: ClientTimeouts {
                    head: limits.head_timeout.get(),
                    idle: limits.idle_timeout.get(),
                    stall: limits.stall_timeout.get(),
                },
            },
        }
    }
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Returns a claim's name as the name of a log field. Characters that would break the line become underscores.
fn log_field_name(claim: &str) -> String {
    claim.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.:/".contains(c) { c } else { '_' }).collect()
}

fn hostname(pattern: &HostPattern) -> Hostname {
    match pattern {
        HostPattern::Exact(host) => Hostname::Exact(host.as_str().into()),
        HostPattern::Suffix(suffix) => Hostname::Suffix(format!(".{suffix}").into()),
        HostPattern::Any => Hostname::Any,
    }
}

fn path_rules(config: PathNormalization) -> PathRules {
    PathRules {
        escaped_slashes: match config.escaped_slashes {
            EscapedSlashes::Reject => path::EscapedSlashes::Reject,
            EscapedSlashes::Keep => path::EscapedSlashes::Keep,
            EscapedSlashes::Decode => path::EscapedSlashes::Decode,
        },
        merge_slashes: config.merge_slashes,
    }
}

fn value_match(config: &ValueMatch) -> crate::router::ValueMatch {
    match config {
        ValueMatch::Exact(value) => crate::router::ValueMatch::Exact(value.as_str().into()),
        ValueMatch::Regex(regex) => crate::router::ValueMatch::Regex(regex.clone()),
    }
}
