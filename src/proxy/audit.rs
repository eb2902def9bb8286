//! What the record and the metrics keep of a decision. Nothing is decided here, and nothing of a token's bytes is
//! written.

use http::header;

use super::access::{Record, field};
use crate::auth::{Identity, Location};
use crate::authz::{Cause, Expression, Mode, RuleSet};
use crate::decision::{self, Decision, Place};
use crate::request::{Head, UnixTime};
use crate::snapshot::{Policies, Settings};
use crate::telemetry::metrics::{Group, RouteSeries, Shard, escape};

/// Notes who asked, what was wrong with the credentials, and which rule decided.
pub fn decision(
    record: &mut Record,
    metrics: &Shard,
    series: RouteSeries,
    settings: &Settings,
    policies: &Policies,
    decision: &Decision,
) {
    identity(record, metrics, settings, policies, decision);
    let Some(authorization) = &decision.authorization else { return };
    let sets = &policies.rules;
    if let Some((at, cause)) = authorization.deciding(sets) {
        let rule = authorization.rule_name(sets).unwrap_or("none");
        record.line().text(field::RULE, rule);
        if let Some(set) = sets.get(at) {
            record.line().text(field::RULE_ORIGIN, &set.rule(cause).map_or(&set.origin, |rule| &rule.origin).0);
            record.line().text(field::RULE_LEVEL, set.level.as_str());
            count(metrics, series.decisions, at, set, cause, failed(decision, at, cause));
        }
    }
    for failure in authorization.failures() {
        let Some(rule) = sets.get(failure.set).and_then(|set| set.rules.get(failure.rule)) else { continue };
        if rule.tell_failure(UnixTime::now()) {
            tracing::warn!(rule = %rule.name, origin = %rule.origin, why = %failure.error, "a rule failed to evaluate");
        }
    }
    for (at, cause) in authorization.causes() {
        let Some(set) = sets.get(at).filter(|set| set.mode == Mode::Shadow) else { continue };
        count(metrics, series.decisions, at, set, cause, failed(decision, at, cause));
        if !cause.allows() {
            record.line().text(field::SHADOW, "denied");
            record.line().text(field::SHADOW_RULE, set.rule(cause).map_or("none", |rule| &rule.name));
            record.line().text(field::SHADOW_ORIGIN, &set.rule(cause).map_or(&set.origin, |rule| &rule.origin).0);
        }
    }
}

/// The access log's own fields of the config. What could hold a credential is out of their sight: log lines go to places
/// that tokens must not. A field that fails to evaluate is left out.
pub fn fields(
    record: &mut Record,
    fields: &[(String, Expression)],
    policies: &Policies,
    head: &Head<'_>,
    place: Place<'_>,
    now: UnixTime,
    decision: &Decision,
) {
    let mut headers = head.headers.clone();
    let mut query = head.query;
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        headers.remove(name);
    }
    let tokens = policies.jwt.iter().flat_map(|jwt| jwt.locations());
    let others = policies.credentials.iter().flat_map(|credentials| credentials.locations());
    for location in tokens.chain(others) {
        match location {
            Location::Header { name, .. } => drop(headers.remove(name)),
            Location::Query { .. } => query = None,
            Location::Cookie { .. } => {}
        }
    }
    let head = Head { headers: &headers, query, ..*head };
    let vars = decision::vars(policies, &head, place, now, decision);
    for (name, expression) in fields {
        match expression.value(&vars) {
            Ok(value) => record.line().json(name.as_str(), &value),
            Err(error) => tracing::debug!(field = name, %error, "a log field failed to evaluate"),
        }
    }
}

fn identity(record: &mut Record, metrics: &Shard, settings: &Settings, policies: &Policies, decision: &Decision) {
    let authentication = &decision.authentication;
    let failure = authentication.failure();
    if let Identity::Verified(token) = authentication.identity() {
        if let Some(issuer) = token.issuer() {
            record.line().text(field::JWT_ISS, issuer);
        }
        if let Some(subject) = token.subject() {
            record.line().text(field::JWT_SUB, subject);
        }
        if let Some(kid) = token.kid() {
            record.line().text(field::KID, kid);
        }
        // issuer and subject stand there already
        let told = |path: &[String]| matches!(path, [name] if name == "iss" || name == "sub");
        for (name, path) in settings.log_claims.iter().filter(|(_, path)| !told(path)) {
            let mut names = path.iter();
            let first = names.next().and_then(|name| token.claims().get(name));
            if let Some(value) = names.fold(first, |value, name| value?.get(name)) {
                record.line().json(format!("jwt.{name}").as_str(), value);
            }
        }
        if authentication.cached()
            && let Some(counters) = &policies.counters
        {
            metrics.count(counters.cache_hits);
        }
    } else if let Some(failure) = failure {
        // also of what is not refused: permissive and shadow modes are told by this alone
        record.line().text(field::AUTH, failure.reason().as_str());
        record.line().text(field::AUTH_DETAIL, &failure.detail().to_string());
    }
    if authentication.found_credential()
        && let Some(counters) = &policies.counters
    {
        let provider = authentication.provider().unwrap_or("");
        let group = counters.verifications.iter().find(|(name, _)| **name == *provider).map(|(_, group)| *group);
        let code = failure.map_or(255, |failure| failure.reason() as u64);
        metrics.count_in(group.unwrap_or(counters.no_provider), code, || {
            format!("result=\"{}\"", failure.map_or("ok", |failure| failure.reason().as_str()))
        });
    }
}

/// Whether the deciding rule did not say no but failed to say anything.
fn failed(decision: &Decision, set: usize, cause: Cause) -> bool {
    let failures = decision.authorization.as_ref().map_or(&[][..], |authorization| authorization.failures());
    !cause.allows() && failures.iter().any(|f| f.set == set && cause.rule().is_none_or(|rule| f.rule == rule))
}

fn count(metrics: &Shard, group: Group, at: usize, set: &RuleSet, cause: Cause, failed: bool) {
    let rule = cause.rule().map_or(0, |rule| rule as u64 + 1);
    let outcome = if failed { 2 } else { u64::from(cause.allows()) };
    metrics.count_in(group, (at as u64) << 40 | rule << 8 | outcome, || {
        let rule = set.rule(cause).map_or("", |rule| &rule.name);
        let decision = match outcome {
            2 => "error",
            1 => "allow",
            _ => "deny",
        };
        format!("rule=\"{}\",decision=\"{decision}\",mode=\"{}\"", escape(rule), set.mode.as_str())
    });
}
