//! The results of the rules, one by one.

use std::collections::BTreeMap;

use serde_json::Value;

use super::report::{RuleSetStep, RuleStep};
use crate::authz::{DecidedBy, EnforcementMode, Rule, RuleSet, Vars, claim_path_text};

/// Returns the step of one rule set: its recorded decision, and the result of every rule, even if it was not needed. A set
/// that was not evaluated, because another one had denied the request, is reported as it would have decided.
pub(super) fn step(set: &RuleSet, vars: &Vars<'_>, recorded: Option<DecidedBy>) -> RuleSetStep {
    let trace = set.trace(vars);
    let cause = recorded.unwrap_or(trace.decided_by);
    let because = match (cause, set.deciding_rule(cause)) {
        (DecidedBy::NoObjection, _) => "no rule objects".to_owned(),
        (DecidedBy::NoAllowMatched, _) => "there are allow rules, but none is true".to_owned(),
        (DecidedBy::Allow(_), rule) => format!("{} allows", rule.map_or("a rule", |rule| &rule.name)),
        (DecidedBy::Deny(_), rule) => format!("{} denies", rule.map_or("a rule", |rule| &rule.name)),
        (DecidedBy::Require(_), rule) => {
            format!("{} is required and not true", rule.map_or("a rule", |rule| &rule.name))
        }
    };
    let steps = set.rules.iter().zip(&trace.results).enumerate().map(|(index, (rule, result))| RuleStep {
        name: rule.name.to_string(),
        kind: rule.action.as_str(),
        origin: rule.location.to_string(),
        expression: rule.expression.source().to_owned(),
        result: match result {
            Ok(true) => "true",
            Ok(false) => "false",
            Err(_) => "failed",
        },
        why: result.as_ref().err().map(ToString::to_string),
        decides: cause.rule_index() == Some(index),
        reads: claims_read(rule, vars),
    });
    RuleSetStep {
        level: set.level.as_str(),
        origin: set.location.to_string(),
        mode: if set.mode == EnforcementMode::Shadow { "shadow" } else { "enforce" },
        allows: cause.allows(),
        because,
        rules: steps.collect(),
    }
}

/// Returns the claims of a verified token that a rule reads, by path; null for absent claims.
fn claims_read(rule: &Rule, vars: &Vars<'_>) -> BTreeMap<String, Value> {
    let Some(subject) = &vars.token else { return BTreeMap::new() };
    let mut paths = rule.expression.claims_read();
    if rule.expression.reads_scopes() {
        paths.extend(subject.split_claims.iter().map(|name| vec![name.as_str()]));
    }
    let value = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(subject.claims.get(*first)?, |value, name| value.get(*name)).cloned()
    };
    paths.iter().map(|path| (claim_path_text(path), value(path).unwrap_or(Value::Null))).collect()
}
