//! Network checks of `validate --online`: connects to backends and fetches key sets.
//!
//! The checks use the gateway's own code to resolve, connect and fetch, and run concurrently. Only a TLS handshake is
//! sent to a backend. All checks together take one minute at most.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::eprint_line;
use super::output::pluralize;
use crate::auth::keys::jwks::{FetchError, FetchErrorKind, FetchReport};
use crate::auth::{JwtAuth, KeySource};
use crate::compile::CarryOver;
use crate::config::policy::JwtAuthConfig;
use crate::config::{Diagnostic, DiagnosticCode, Effective, RouteConfig, SourceSpan};
use crate::snapshot::{Policies, Route, Snapshot};
use crate::upstream::connect::dial;
use crate::upstream::{Endpoint, EndpointAddress, UpstreamError, UpstreamProtocol};

/// The limit on concurrent probes.
const MAX_CONCURRENT: usize = 32;
/// The timeout for all probes together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
/// The time until the first progress message, and between the following ones.
const FIRST_PROGRESS: Duration = Duration::from_secs(1);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The tolerance for clock differences in seconds. `Date` has a resolution of one second, and a response takes time.
const MIN_CLOCK_SKEW: f64 = 5.0;

/// The scope of the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeScope {
    /// All backends and key servers of the config.
    Everything,
    /// Only key servers.
    Keys,
}

/// The result of a probe.
#[derive(Debug)]
pub(super) struct ProbeResult {
    /// The probed target, for messages.
    target: String,
    /// The duration of the probe.
    elapsed: Duration,
    /// The details of a successful probe.
    result: Option<String>,
    /// The errors and warnings.
    findings: Vec<Diagnostic>,
}

/// A check of one target.
struct Probe {
    target: String,
    place: SourceSpan,
    kind: ProbeKind,
}

enum ProbeKind {
    Endpoint(Arc<Endpoint>),
    Keys { source: KeySource, provider: String, leeway: f64 },
}

/// Runs all probes and waits for the results, which are in the order of the config. `kept` must be the state that
/// `snapshot` was compiled with: its remote key sets have keys afterwards.
///
/// # Errors
/// Returns an error if no probe could run.
pub(super) fn run_probes(
    snapshot: &Snapshot,
    kept: &Arc<CarryOver>,
    scope: ProbeScope,
) -> std::io::Result<Vec<ProbeResult>> {
    let probes = collect_probes(snapshot, scope);
    if probes.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(run_concurrently(probes, kept));
    // a lookup in the system resolver cannot be cancelled, only left behind
    runtime.shutdown_background();
    Ok(results)
}

async fn run_concurrently(probes: Vec<Probe>, kept: &Arc<CarryOver>) -> Vec<ProbeResult> {
    let started = Instant::now();
    let deadline = started + TOTAL_TIMEOUT;
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut waiting: Vec<(usize, String)> = probes.iter().map(|probe| probe.target.clone()).enumerate().collect();
    let mut tasks = JoinSet::new();
    for (index, probe) in probes.into_iter().enumerate() {
        let (seats, kept) = (Arc::clone(&permits), Arc::clone(kept));
        tasks.spawn(async move {
            let probing = async {
                let _permit = seats.acquire().await;
                let started = Instant::now();
                let outcome = probe.run(&kept).await;
                (outcome, started.elapsed())
            };
            let (outcome, elapsed) = match tokio::time::timeout_at(deadline, probing).await {
                Ok(outcome) => outcome,
                Err(_) => (Err(vec![probe.error(format!("no response within {TOTAL_TIMEOUT:?}"))]), TOTAL_TIMEOUT),
            };
            let (result, findings) = match outcome {
                Ok((result, findings)) => (Some(result), findings),
                Err(findings) => (None, findings),
            };
            (index, ProbeResult { target: probe.target, elapsed, result, findings })
        });
    }
    let mut results = Vec::with_capacity(waiting.len());
    let mut next_progress = started + FIRST_PROGRESS;
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                None => break,
                Some(Ok((index, result))) => {
                    waiting.retain(|(pending, _)| *pending != index);
                    results.push((index, result));
                }
                Some(Err(_)) => {} // a panicked task has no result
            },
            () = tokio::time::sleep_until(next_progress) => {
                print_progress(&waiting, started.elapsed());
                next_progress += PROGRESS_INTERVAL;
            }
        }
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn print_progress(waiting: &[(usize, String)], elapsed: Duration) {
    const MAX_NAMES: usize = 3;
    let names: Vec<&str> = waiting.iter().take(MAX_NAMES).map(|(_, target)| target.as_str()).collect();
    let hidden = waiting.len().saturating_sub(MAX_NAMES);
    let more = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
    eprint_line(format_args!("{:.0}s: waiting for {}{more}", elapsed.as_secs_f64(), names.join(", ")));
}

impl Probe {
    fn error(&self, message: String) -> Diagnostic {
        let (code, message) = match &self.kind {
            ProbeKind::Endpoint(_) => {
                (DiagnosticCode::UnreachableBackend, format!("cannot reach {}: {message}", self.target))
            }
            ProbeKind::Keys { provider, .. } => (
                DiagnosticCode::KeyFetchFailed,
                format!("cannot fetch the keys of the provider `{provider}`: {message}"),
            ),
        };
        Diagnostic::error(self.place.clone(), message).with_code(code)
    }

    /// Returns the details and warnings of a successful probe, or its errors.
    async fn run(&self, kept: &CarryOver) -> Result<(String, Vec<Diagnostic>), Vec<Diagnostic>> {
        match &self.kind {
            ProbeKind::Endpoint(endpoint) => match probe_endpoint(endpoint).await {
                Ok(description) => Ok((description, Vec::new())),
                Err((message, hint)) => {
                    let mut finding = self.error(message);
                    finding.hint = hint;
                    Err(vec![finding])
                }
            },
            ProbeKind::Keys { source, leeway, .. } => match kept.sources().fetch_now(source).await {
                None => Ok(("not fetched".to_owned(), Vec::new())),
                Some(Ok(key_set)) => Ok((describe_key_set(&key_set), self.clock_findings(&key_set, *leeway))),
                Some(Err(error)) => {
                    let mut finding = self.error(error.to_string());
                    finding.hint = fetch_hint(&error);
                    Err(vec![finding])
                }
            },
        }
    }

    fn clock_findings(&self, key_set: &FetchReport, leeway: f64) -> Vec<Diagnostic> {
        let max_skew = (leeway / 2.0).max(MIN_CLOCK_SKEW);
        let Some(ahead) = key_set.clock_ahead.filter(|ahead| ahead.abs() > max_skew) else { return Vec::new() };
        let side = if ahead > 0.0 { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of the key server is {:.0}s {side} this machine's, and the leeway is {leeway:.0}s",
            ahead.abs()
        );
        let hint = "synchronize both clocks with NTP; if the gateway runs on another host, repeat the check there";
        vec![Diagnostic::warning(DiagnosticCode::ClockSkew, self.place.clone(), message).with_hint(hint)]
    }
}

fn describe_key_set(key_set: &FetchReport) -> String {
    let clock = key_set.clock_ahead.map_or_else(String::new, |ahead| format!(", clocks {:.0}s apart", ahead.abs()));
    format!("{} from {}{clock}", pluralize(key_set.keys, "key"), key_set.url)
}

/// Connects to an endpoint in the same way as the gateway, and closes the connection.
async fn probe_endpoint(endpoint: &Endpoint) -> Result<String, (String, Option<String>)> {
    let mut details = Vec::new();
    if let EndpointAddress::Tcp { host, .. } = &endpoint.address
        && host.parse::<std::net::IpAddr>().is_err()
    {
        let timeout = endpoint.connect_timeout;
        match tokio::time::timeout(timeout, endpoint.dns.resolve(host)).await {
            Ok(Ok(addresses)) => details.push(match addresses.len() {
                1 => "1 address".to_owned(),
                several => format!("{several} addresses"),
            }),
            Ok(Err(error)) => {
                let hint = "check the name, and whether the resolver of this host knows it".to_owned();
                return Err((format!("cannot resolve the name: {error}"), Some(hint)));
            }
            Err(_) => return Err((format!("the name was not resolved within {timeout:?}"), None)),
        }
    }
    match dial(endpoint, endpoint.protocol).await {
        Ok(connection) => {
            if endpoint.tls.is_some() {
                let http2 = connection.http2 || endpoint.protocol == UpstreamProtocol::Http2;
                details.push(if http2 { "TLS, HTTP/2" } else { "TLS" }.to_owned());
            }
            Ok(if details.is_empty() { "reached".to_owned() } else { details.join(", ") })
        }
        Err(error) => {
            let cause = match error {
                UpstreamError::Connect(cause) => cause.to_string(),
                UpstreamError::ConnectTimeout => format!("no connection within {:?}", endpoint.connect_timeout),
                other => other.to_string(),
            };
            let certificate = endpoint.tls.is_some() && cause.contains("certificate");
            let hint = certificate.then(|| {
                "set `backendTLS.root` to the CA of a private certificate, and `backendTLS.hostname` to the name in it"
                    .to_owned()
            });
            Err((cause, hint))
        }
    }
}

fn fetch_hint(error: &FetchError) -> Option<String> {
    Some(
        match &error.kind {
            FetchErrorKind::Connect(why) if why.contains("certificate") => {
                "set `jwks.tls.root` to the CA of a private certificate"
            }
            FetchErrorKind::Connect(_) | FetchErrorKind::Timeout(_) => {
                "check the address as seen from this host; `jwks.connectTo` overrides the address of the URL"
            }
            FetchErrorKind::Status(400..=499) => {
                "check that this is the URL of the key set (`jwks_uri`) and that it needs no credentials"
            }
            FetchErrorKind::Redirect => {
                "use the target URL of the redirect: only redirects within one origin are followed"
            }
            FetchErrorKind::Discovery(_) => "`issuer` is compared exactly; `jwks: {url: …}` avoids discovery",
            FetchErrorKind::InvalidKeySet(_) => "check that this is the URL of the key set (`jwks_uri`)",
            FetchErrorKind::NoUsableKey(_) => "a key must be a signing key for an algorithm in `algorithms`",
            _ => return None,
        }
        .to_owned(),
    )
}

impl ProbeResult {
    /// Returns the errors and warnings.
    pub(super) fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// Reports whether the probe was successful.
    pub(super) fn is_ok(&self) -> bool {
        self.result.is_some()
    }

    /// Formats the target, the details and the duration.
    pub(super) fn describe(&self) -> String {
        let took = self.elapsed.as_millis();
        match &self.result {
            Some(result) => format!("{}: {result} ({took} ms)", self.target),
            None => format!("{} ({took} ms)", self.target),
        }
    }

    /// Formats the result as JSON.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "target": self.target,
            "ok": self.is_ok(),
            "millis": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            "found": self.result,
        })
    }
}

/// Collects all targets without duplicates.
fn collect_probes(snapshot: &Snapshot, scope: ProbeScope) -> Vec<Probe> {
    let mut collector = ProbeCollector { scope, probes: Vec::new(), endpoints: HashSet::new(), sources: Vec::new() };
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        collector.add_policies(&Effective::new(&listener.config, None), &listener.policies);
        for route in &listener.routes {
            collector.add_policies(&Effective::new(&listener.config, Some(&route.config)), &route.policies);
            collector.add_route(&route.config, route);
        }
    }
    collector.probes
}

struct ProbeCollector {
    scope: ProbeScope,
    probes: Vec<Probe>,
    endpoints: HashSet<u64>,
    sources: Vec<KeySource>,
}

impl ProbeCollector {
    fn add_policies(&mut self, effective: &Effective<'_>, compiled: &Policies) {
        if let (Some(configured), Some(compiled)) = (&effective.jwt_auth, &compiled.jwt_auth) {
            self.add_key_sources(configured.policy, compiled);
        }
        let compiled = compiled.admission_checks.as_ref().and_then(|gates| gates.ext_authz.as_ref());
        if let (Some(configured), Some(compiled)) = (&effective.ext_authz, compiled) {
            self.add_endpoint("extAuthz", &compiled.endpoint, &configured.policy.span);
        }
    }

    fn add_key_sources(&mut self, configured: &JwtAuthConfig, compiled: &JwtAuth) {
        for (configured, provider) in configured.providers.iter().zip(compiled.providers()) {
            let source = provider.keys();
            if source.remote().is_none() || self.sources.iter().any(|existing| existing.is_same(source)) {
                continue;
            }
            self.sources.push(source.clone());
            let (provider, leeway) = (provider.name().escape_debug().to_string(), provider.leeway());
            self.probes.push(Probe {
                target: format!("keys of {provider}"),
                place: configured.jwks.span.clone(),
                kind: ProbeKind::Keys { source: source.clone(), provider, leeway },
            });
        }
    }

    fn add_route(&mut self, configured: &RouteConfig, compiled: &Route) {
        // backends with weight 0 receive no requests and are not compiled
        let hosts = configured.backends.iter().filter(|backend| backend.weight > 0).flat_map(|backend| &backend.hosts);
        for (host, endpoint) in hosts.zip(compiled.backends.endpoints()) {
            self.add_endpoint("backend", endpoint, &host.span);
        }
        let mirrors = configured.policies.request_mirror.as_ref();
        for (mirrors, endpoint) in
            mirrors.into_iter().flat_map(|config| compiled.mirrors.iter().map(move |mirror| (config, mirror)))
        {
            self.add_endpoint("mirror", &endpoint.endpoint, &mirrors.span);
        }
    }

    fn add_endpoint(&mut self, kind: &str, endpoint: &Arc<Endpoint>, place: &SourceSpan) {
        if self.scope == ProbeScope::Everything && self.endpoints.insert(endpoint.key) {
            let (target, place) = (format!("{kind} {}", endpoint.label), place.clone());
            self.probes.push(Probe { target, place, kind: ProbeKind::Endpoint(Arc::clone(endpoint)) });
        }
    }
}
