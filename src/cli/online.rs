//! What only the network can tell of a config: whether its backends can be reached, and whether its keys can be
//! fetched. The gateway's own code resolves, connects and fetches; here it is only asked, all at once, and told of.
//!
//! Nothing is sent to a backend but a TLS handshake, and the whole takes a minute at most.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::output::counted;
use super::say;
use crate::auth::jwks::{Answer, FetchError, FetchFault};
use crate::auth::{JwtAuth, KeySource};
use crate::compile::Kept;
use crate::config::policy::{JwtAuth as JwtAuthConfig, Policies as PoliciesConfig};
use crate::config::{Code, Diagnostic, Listener as ListenerConfig, Loaded, Place, Route as RouteConfig};
use crate::snapshot::{Policies, Route, Snapshot};
use crate::upstream::connect::dial;
use crate::upstream::{Address, Endpoint, Error, Protocol};

/// How many are asked at a time.
const AT_A_TIME: usize = 32;
/// What all of it takes at most.
const LONGEST: Duration = Duration::from_secs(60);
/// After this, and from then on now and again, it is said what is still waited for.
const FIRST_NOTE: Duration = Duration::from_secs(1);
const NEXT_NOTE: Duration = Duration::from_secs(5);
/// `Date` counts whole seconds, and the answer takes its time.
const CLOCK_STEP: f64 = 5.0;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Everything that the config names.
    Everything,
    /// Key servers alone.
    Keys,
}

/// What came of one question.
#[derive(Debug)]
pub(super) struct Asked {
    /// What was asked, in a few words.
    target: String,
    /// How long it took.
    took: Duration,
    /// What was found when it went well.
    result: Option<String>,
    /// What is wrong.
    findings: Vec<Diagnostic>,
}

/// One question.
struct Probe {
    target: String,
    place: Place,
    of: Of,
}

enum Of {
    Endpoint(Arc<Endpoint>),
    Keys { source: Arc<KeySource>, provider: String, leeway: f64 },
}

/// Asks everybody, in the foreground. The sources must be those that `snapshot` was made with; they have keys
/// afterwards. What came of it stands in the order of the config.
///
/// # Errors
/// When nothing could be asked at all.
pub(super) fn ask(loaded: &Loaded, snapshot: &Snapshot, kept: &Arc<Kept>, what: What) -> std::io::Result<Vec<Asked>> {
    let probes = probes(loaded, snapshot, what);
    if probes.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(all(probes, kept));
    // a lookup of the system's resolver can't be broken off, only left alone
    runtime.shutdown_background();
    Ok(asked)
}

async fn all(probes: Vec<Probe>, kept: &Arc<Kept>) -> Vec<Asked> {
    let began = Instant::now();
    let until = began + LONGEST;
    let seats = Arc::new(Semaphore::new(AT_A_TIME));
    let mut waiting: Vec<(usize, String)> = probes.iter().map(|probe| probe.target.clone()).enumerate().collect();
    let mut tasks = JoinSet::new();
    for (at, probe) in probes.into_iter().enumerate() {
        let (seats, kept) = (Arc::clone(&seats), Arc::clone(kept));
        tasks.spawn(async move {
            let work = async {
                let _seat = seats.acquire().await;
                let began = Instant::now();
                let found = probe.ask(&kept).await;
                (found, began.elapsed())
            };
            let (found, took) = match tokio::time::timeout_at(until, work).await {
                Ok(found) => found,
                Err(_) => (Err(vec![probe.finding(format!("no answer within {LONGEST:?}"))]), LONGEST),
            };
            let (result, findings) = match found {
                Ok((result, findings)) => (Some(result), findings),
                Err(findings) => (None, findings),
            };
            (at, Asked { target: probe.target, took, result, findings })
        });
    }
    let mut asked = Vec::with_capacity(waiting.len());
    let mut note = began + FIRST_NOTE;
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                None => break,
                Some(Ok((at, one))) => {
                    waiting.retain(|(own, _)| *own != at);
                    asked.push((at, one));
                }
                Some(Err(_)) => {} // a task that panicked has nothing to tell
            },
            () = tokio::time::sleep_until(note) => {
                progress(&waiting, began.elapsed());
                note += NEXT_NOTE;
            }
        }
    }
    asked.sort_by_key(|(at, _)| *at);
    asked.into_iter().map(|(_, one)| one).collect()
}

fn progress(waiting: &[(usize, String)], since: Duration) {
    const SHOWN: usize = 3;
    let names: Vec<&str> = waiting.iter().take(SHOWN).map(|(_, target)| target.as_str()).collect();
    let more = waiting.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    say(format_args!("{:.0}s: waiting for {}{more}", since.as_secs_f64(), names.join(", ")));
}

impl Probe {
    fn finding(&self, message: String) -> Diagnostic {
        let (code, message) = match &self.of {
            Of::Endpoint(_) => (Code::Unreachable, format!("{} can't be reached: {message}", self.target)),
            Of::Keys { provider, .. } => {
                (Code::NoKeys, format!("the keys of the provider `{provider}` can't be fetched: {message}"))
            }
        };
        Diagnostic::error(self.place.clone(), message).code(code)
    }

    /// What was found, and what is still worth a word; or what is wrong.
    async fn ask(&self, kept: &Kept) -> Result<(String, Vec<Diagnostic>), Vec<Diagnostic>> {
        match &self.of {
            Of::Endpoint(endpoint) => match reach(endpoint).await {
                Ok(found) => Ok((found, Vec::new())),
                Err((why, hint)) => {
                    let mut finding = self.finding(why);
                    finding.hint = hint;
                    Err(vec![finding])
                }
            },
            Of::Keys { source, leeway, .. } => match kept.sources().fetch_now(source).await {
                None => Ok(("not fetched".to_owned(), Vec::new())),
                Some(Ok(answer)) => Ok((fetched(&answer), self.clocks(&answer, *leeway))),
                Some(Err(error)) => {
                    let mut finding = self.finding(error.to_string());
                    finding.hint = advice(&error);
                    Err(vec![finding])
                }
            },
        }
    }

    fn clocks(&self, answer: &Answer, leeway: f64) -> Vec<Diagnostic> {
        let most = (leeway / 2.0).max(CLOCK_STEP);
        let Some(ahead) = answer.clock_ahead.filter(|ahead| ahead.abs() > most) else { return Vec::new() };
        let side = if ahead > 0.0 { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of the key server is {:.0}s {side} this machine's, and the leeway is {leeway:.0}s",
            ahead.abs()
        );
        let hint = "keep both clocks by NTP; if this is not the machine that the gateway runs on, ask again there";
        vec![Diagnostic::warning(Code::Clocks, self.place.clone(), message).hint(hint)]
    }
}

fn fetched(answer: &Answer) -> String {
    let clock = answer.clock_ahead.map_or_else(String::new, |ahead| format!(", clocks {:.0}s apart", ahead.abs()));
    format!("{} from {}{clock}", counted(answer.keys, "key"), answer.url)
}

/// Connects as the gateway does, and hangs up.
async fn reach(endpoint: &Endpoint) -> Result<String, (String, Option<String>)> {
    let mut found = Vec::new();
    if let Address::Tcp { host, .. } = &endpoint.address
        && host.parse::<std::net::IpAddr>().is_err()
    {
        let patience = endpoint.connect_timeout;
        match tokio::time::timeout(patience, endpoint.names.of(host)).await {
            Ok(Ok(addresses)) => found.push(match addresses.len() {
                1 => "1 address".to_owned(),
                several => format!("{several} addresses"),
            }),
            Ok(Err(error)) => {
                let hint = "is the name right, and does it exist for the resolver of this machine?".to_owned();
                return Err((format!("its name can't be resolved: {error}"), Some(hint)));
            }
            Err(_) => return Err((format!("its name is not resolved within {patience:?}"), None)),
        }
    }
    match dial(endpoint, endpoint.protocol).await {
        Ok(dialled) => {
            if endpoint.tls.is_some() {
                let http2 = dialled.http2 || endpoint.protocol == Protocol::Http2;
                found.push(if http2 { "TLS, HTTP/2" } else { "TLS" }.to_owned());
            }
            Ok(if found.is_empty() { "reached".to_owned() } else { found.join(", ") })
        }
        Err(error) => {
            let cause = match error {
                Error::Connect(cause) => cause.to_string(),
                Error::ConnectTimeout => format!("no connection within {:?}", endpoint.connect_timeout),
                other => other.to_string(),
            };
            let certificate = endpoint.tls.is_some() && cause.contains("certificate");
            let hint = certificate.then(|| {
                "`backendTLS.root` names the authority of a private certificate, `backendTLS.hostname` the name in it"
                    .to_owned()
            });
            Err((cause, hint))
        }
    }
}

fn advice(error: &FetchError) -> Option<String> {
    Some(
        match &error.fault {
            FetchFault::Connect(why) if why.contains("certificate") => {
                "`jwks.tls.root` names the authority of a private certificate"
            }
            FetchFault::Connect(_) | FetchFault::Timeout(_) => {
                "is the address right, as seen from here? `jwks.connectTo` leads to another one than the URL's"
            }
            FetchFault::Status(400..=499) => "is this the URL of the key set (`jwks_uri`), and may anybody read it?",
            FetchFault::Redirect => "write the URL that it leads to: only redirects within one origin are followed",
            FetchFault::Discovery(_) => "`issuer` is compared exactly; `jwks: {url: …}` does without discovery",
            FetchFault::NotKeys(_) => "is this the URL of the key set (`jwks_uri`)?",
            FetchFault::NoUsableKey(_) => "a key must be for signatures, and of an algorithm in `algorithms`",
            _ => return None,
        }
        .to_owned(),
    )
}

impl Asked {
    /// What is wrong, or worth a word.
    pub(super) fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// Whether it went well.
    pub(super) fn is_good(&self) -> bool {
        self.result.is_some()
    }

    /// What was asked, and in a few words what came of it.
    pub(super) fn text(&self) -> String {
        let took = self.took.as_millis();
        match &self.result {
            Some(result) => format!("{}: {result} ({took} ms)", self.target),
            None => format!("{} ({took} ms)", self.target),
        }
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "target": self.target,
            "ok": self.is_good(),
            "millis": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "found": self.result,
        })
    }
}

/// What there is to ask, each once however often the config names it.
fn probes(loaded: &Loaded, snapshot: &Snapshot, what: What) -> Vec<Probe> {
    let mut search = Search { what, probes: Vec::new(), endpoints: HashSet::new(), sources: Vec::new() };
    for (bind, runs) in loaded.config.binds.iter().zip(&snapshot.binds) {
        for (listener, runs) in bind.listeners.iter().zip(&runs.listeners) {
            search.policies(&levels(listener, None), &runs.policies);
            for (route, runs) in listener.routes.iter().zip(&runs.routes) {
                search.policies(&levels(listener, Some(route)), &runs.policies);
                search.route(route, runs);
            }
        }
    }
    search.probes
}

/// The levels, the most specific first.
fn levels<'c>(listener: &'c ListenerConfig, route: Option<&'c RouteConfig>) -> Vec<&'c PoliciesConfig> {
    route.map(|route| &route.policies).into_iter().chain([&listener.policies, &listener.gateway_policies]).collect()
}

struct Search {
    what: What,
    probes: Vec<Probe>,
    endpoints: HashSet<u64>,
    sources: Vec<Arc<KeySource>>,
}

impl Search {
    fn policies(&mut self, levels: &[&PoliciesConfig], runs: &Policies) {
        let written = levels.iter().find_map(|level| level.jwt_auth.as_ref());
        if let (Some(written), Some(runs)) = (written, &runs.jwt) {
            self.keys(written, runs);
        }
        let written = levels.iter().find_map(|level| level.ext_authz.as_ref());
        let runs = runs.gates.as_ref().and_then(|gates| gates.ext_authz.as_ref());
        if let (Some(written), Some(runs)) = (written, runs) {
            self.endpoint("extAuthz", &runs.endpoint, &written.place);
        }
    }

    fn keys(&mut self, written: &JwtAuthConfig, runs: &JwtAuth) {
        for (written, provider) in written.providers.iter().zip(runs.providers()) {
            let source = provider.keys();
            if source.remote().is_none() || self.sources.iter().any(|known| Arc::ptr_eq(known, source)) {
                continue;
            }
            self.sources.push(Arc::clone(source));
            let (provider, leeway) = (provider.name().escape_debug().to_string(), provider.leeway());
            self.probes.push(Probe {
                target: format!("keys of {provider}"),
                place: written.jwks.place.clone(),
                of: Of::Keys { source: Arc::clone(source), provider, leeway },
            });
        }
    }

    fn route(&mut self, written: &RouteConfig, runs: &Route) {
        // as the choice among backends has them: those without weight get nothing
        let hosts = written.backends.iter().filter(|backend| backend.weight > 0).flat_map(|backend| &backend.hosts);
        for (host, endpoint) in hosts.zip(runs.backends.endpoints()) {
            self.endpoint("backend", endpoint, &host.place);
        }
        let mirrors = written.policies.request_mirror.as_ref();
        for (mirrors, endpoint) in mirrors.into_iter().flat_map(|all| runs.mirrors.iter().map(move |one| (all, one))) {
            self.endpoint("mirror", &endpoint.endpoint, &mirrors.place);
        }
    }

    fn endpoint(&mut self, kind: &str, endpoint: &Arc<Endpoint>, place: &Place) {
        if self.what == What::Everything && self.endpoints.insert(endpoint.key) {
            let (target, place) = (format!("{kind} {}", endpoint.label), place.clone());
            self.probes.push(Probe { target, place, of: Of::Endpoint(Arc::clone(endpoint)) });
        }
    }
}
