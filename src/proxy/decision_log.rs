//! Writes a decision to the access-log record and the metrics. Nothing is decided here, and no part of a token is
//! written.

use http::header;

use crate::auth::{Identity, Location};
use crate::authz::{DecidedBy, EnforcementMode, Expression, RuleSet};
use crate::decision::{self, Decision, MatchedRoute};
use crate::request::{RequestHead, UnixTime};
use crate::snapshot::{GlobalSettings, Policies};
use crate::telemetry::access_log::{AccessRecord, field};
use crate::telemetry::metrics::{CounterVecId, Labels, RouteSeries, Shard};

/// Records the identity, any authentication failure, and the deciding rule.
pub fn record_decision(
    record: &mut AccessRecord,
    metrics: &Shard,
    series: RouteSeries,
    settings: &GlobalSettings,
    policies: &Policies,
    decision: &Decision,
) {
    record_identity(record, metrics, settings, policies, decision);
    let Some(authorization) = &decision.authorization else { return };
    let sets = &policies.rule_sets;
    if let Some((index, cause)) = authorization.deciding_set(sets) {
        let rule = authorization.deciding_rule_name(sets).unwrap_or("none");
        record.line().text(field::RULE, rule);
        if let Some(set) = sets.get(index) {
            record
                .line()
                .text(field::RULE_ORIGIN, &set.deciding_rule(cause).map_or(&set.location, |rule| &rule.location).0);
            record.line().text(field::RULE_LEVEL, set.level.as_str());
            count_decision(metrics, series.decisions, index, set, cause, is_evaluation_error(decision, index, cause));
        }
    }
    for failure in authorization.failures() {
        let Some(rule) = sets.get(failure.set_index).and_then(|set| set.rules.get(failure.rule_index)) else {
            continue;
        };
        if rule.should_log_failure(UnixTime::now()) {
            tracing::warn!(rule = %rule.name, origin = %rule.location, why = %failure.error, "rule evaluation failed");
        }
    }
    for (index, cause) in authorization.set_decisions() {
        let Some(set) = sets.get(index).filter(|set| set.mode == EnforcementMode::Shadow) else { continue };
        count_decision(metrics, series.decisions, index, set, cause, is_evaluation_error(decision, index, cause));
        if !cause.allows() {
            record.line().text(field::SHADOW, "denied");
            record.line().text(field::SHADOW_RULE, set.deciding_rule(cause).map_or("none", |rule| &rule.name));
            record
                .line()
                .text(field::SHADOW_ORIGIN, &set.deciding_rule(cause).map_or(&set.location, |rule| &rule.location).0);
        }
    }
}

/// Records the custom log fields of the config. Their expressions cannot read anything that may hold a credential, since
/// log lines are stored in places where tokens must not be. A field that fails to evaluate is omitted.
pub fn record_custom_fields(
    record: &mut AccessRecord,
    fields: &[(String, Expression)],
    policies: &Policies,
    head: &RequestHead<'_>,
    place: MatchedRoute<'_>,
    now: UnixTime,
    decision: &Decision,
) {
    let mut headers = head.headers.clone();
    let mut query = head.query;
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        headers.remove(name);
    }
    let jwt_locations = policies.jwt_auth.iter().flat_map(|jwt| jwt.locations());
    let credential_locations = policies.credentials.iter().flat_map(|credentials| credentials.locations());
    for location in jwt_locations.chain(credential_locations) {
        match location {
            Location::Header { name, .. } => drop(headers.remove(name)),
            Location::Query { .. } => query = None,
            Location::Cookie { .. } => {}
        }
    }
    let head = RequestHead { headers: &headers, query, ..*head };
    let vars = decision::cel_vars(policies, &head, place, now, decision);
    for (name, expression) in fields {
        match expression.eval_json(&vars) {
            Ok(value) => record.line().json(name.as_str(), &value),
            Err(error) => tracing::debug!(field = name, %error, "log field evaluation failed"),
        }
    }
}

fn record_identity(
    record: &mut AccessRecord,
    metrics: &Shard,
    settings: &GlobalSettings,
    policies: &Policies,
    decision: &Decision,
) {
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
        // issuer and subject have fields of their own
        let is_logged = |path: &[String]| matches!(path, [name] if name == "iss" || name == "sub");
        for (name, path) in settings.log_claims.iter().filter(|(_, path)| !is_logged(path)) {
            let mut segments = path.iter();
            let first = segments.next().and_then(|name| token.claims().get(name));
            if let Some(value) = segments.fold(first, |value, name| value?.get(name)) {
                record.line().json(format!("jwt.{name}").as_str(), value);
            }
        }
        if authentication.token().cached()
            && let Some(counters) = &policies.token_counters
        {
            metrics.increment(counters.cache_hits);
        }
    } else if let Some(failure) = failure {
        // also recorded if the request is not rejected: it is the only trace of permissive and shadow modes
        record.line().text(field::AUTH, failure.reason().as_str());
        record.line().text(field::AUTH_DETAIL, &failure.detail().to_string());
    }
    if authentication.token().found_credential()
        && let Some(counters) = &policies.token_counters
    {
        let provider = authentication.token().provider().unwrap_or("");
        let group = counters.verifications.iter().find(|(name, _)| **name == *provider).map(|(_, group)| *group);
        let code = failure.map_or(255, |failure| failure.reason() as u64);
        metrics.increment_labeled(group.unwrap_or(counters.unmatched), code, || {
            Labels::new(&[("result", failure.map_or("ok", |failure| failure.reason().as_str()))])
        });
    }
}

/// Returns whether the deciding rule failed to evaluate.
fn is_evaluation_error(decision: &Decision, set: usize, cause: DecidedBy) -> bool {
    let failures = decision.authorization.as_ref().map_or(&[][..], |authorization| authorization.failures());
    !cause.allows()
        && failures.iter().any(|f| f.set_index == set && cause.rule_index().is_none_or(|rule| f.rule_index == rule))
}

fn count_decision(metrics: &Shard, group: CounterVecId, index: usize, set: &RuleSet, cause: DecidedBy, is_error: bool) {
    let rule = cause.rule_index().map_or(0, |rule| rule as u64 + 1);
    let outcome = if is_error { 2 } else { u64::from(cause.allows()) };
    metrics.increment_labeled(group, (index as u64) << 40 | rule << 8 | outcome, || {
        let rule = set.deciding_rule(cause).map_or("", |rule| &rule.name);
        let decision = match outcome {
            2 => "error",
            1 => "allow",
            _ => "deny",
        };
        Labels::new(&[("rule", rule), ("decision", decision), ("mode", set.mode.as_str())])
    });
}
