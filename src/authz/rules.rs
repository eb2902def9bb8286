//! Compiled rules and rule sets, and the decision of one set.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cel::error::EvalError;
use super::cel::expression::Expression;
use super::cel::vars::{Activation, Vars};
use crate::config::PolicyLevel;
use crate::request::UnixTime;

/// The effect of a rule that is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Allows the request, unless a deny rule or a require rule rejects it.
    Allow,
    /// Rejects the request. A deny rule that fails to evaluate rejects it too.
    Deny,
    /// Rejects the request unless the rule is true.
    Require,
}

impl RuleAction {
    /// Returns the key of the action in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Require => "require",
        }
    }
}

/// Enforcement of the decision of a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnforcementMode {
    /// Rejects requests that the set does not allow.
    #[default]
    Enforce,
    /// Logs and counts the decision, and rejects nothing.
    Shadow,
}

impl EnforcementMode {
    /// Returns the name of the mode in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// A position in a config file: `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceLocation(pub Arc<str>);

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// The effect of the rule if it is true.
    pub action: RuleAction,
    /// The name of the rule in logs and metrics.
    pub name: Box<str>,
    /// The condition, compiled for [`Scope::Rule`](super::Scope::Rule).
    pub expression: Expression,
    /// The position of the rule in the config.
    pub location: SourceLocation,
    /// The time of the last log line about a failure of the rule, in seconds since the epoch.
    last_failure_log: AtomicU64,
}

impl Rule {
    /// Creates a rule. Without a name, a rule is named after its action and its index in the list: `allow[0]`.
    pub fn new(
        action: RuleAction,
        name: Option<&str>,
        index: usize,
        expression: Expression,
        location: SourceLocation,
    ) -> Self {
        let name = name.map_or_else(|| format!("{}[{index}]", action.as_str()).into(), Into::into);
        Self { action, name, expression, location, last_failure_log: AtomicU64::new(0) }
    }

    /// Reports whether a failure of this rule should be logged now, which is at most once a minute across all threads.
    pub fn should_log_failure(&self, now: UnixTime) -> bool {
        let now = now.0 as u64;
        let last = self.last_failure_log.load(Ordering::Relaxed);
        now >= last.saturating_add(60)
            && self.last_failure_log.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Returns the warning of `validate` about a deny rule that also rejects every request without a claim or header that
    /// the rule reads.
    pub fn unguarded_read_warning(&self) -> Option<String> {
        let path = self.expression.unguarded_reads().first().filter(|_| self.action == RuleAction::Deny)?;
        Some(format!(
            "this deny also rejects every request without `{path}`, since it then fails to evaluate; to reject only those \
             that have it, write: has({path}) && ({})",
            self.expression.source()
        ))
    }
}

/// The rules of one level.
#[derive(Debug)]
pub struct RuleSet {
    /// The enforcement of the decision.
    pub mode: EnforcementMode,
    /// The level at which the set applies.
    pub level: PolicyLevel,
    /// The position of the set in the config.
    pub location: SourceLocation,
    /// The rules, in the order of the config. A set without rules allows every request.
    pub rules: Vec<Rule>,
}

/// The decision of a rule set, with the index of the rule in the set that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// Allowed: the set has no allow rule, and no other rule rejected the request.
    NoObjection,
    /// Allowed by this allow rule.
    Allow(usize),
    /// Rejected by this deny rule, which was true or failed.
    Deny(usize),
    /// Rejected by this require rule, which was false or failed.
    Require(usize),
    /// Rejected: the set has allow rules, and none of them was true.
    NoAllowMatched,
}

impl DecidedBy {
    /// Reports whether the set allows the request.
    pub const fn allows(self) -> bool {
        matches!(self, Self::NoObjection | Self::Allow(_))
    }

    /// Returns the index of the rule that decided, if a single rule did.
    pub const fn rule_index(self) -> Option<usize> {
        match self {
            Self::Allow(rule) | Self::Deny(rule) | Self::Require(rule) => Some(rule),
            Self::NoObjection | Self::NoAllowMatched => None,
        }
    }
}

impl RuleSet {
    /// Evaluates the rules until one decides: deny rules first, then require rules, then allow rules, each in the order of
    /// the config.
    pub(super) fn evaluate(
        &self,
        activation: &Activation<'_>,
        mut on_failure: impl FnMut(usize, EvalError),
    ) -> DecidedBy {
        evaluate_rules(&self.rules, |index, rule| {
            rule.expression.eval_bool_in(activation).map_err(|error| on_failure(index, error)).ok()
        })
    }

    /// Evaluates every rule, including those that the decision does not need.
    pub fn trace(&self, vars: &Vars<'_>) -> RuleSetTrace {
        let activation = Activation::new(vars);
        let results: Vec<Result<bool, EvalError>> =
            self.rules.iter().map(|rule| rule.expression.eval_bool_in(&activation)).collect();
        let decided_by =
            evaluate_rules(&self.rules, |index, _| results.get(index).and_then(|result| result.as_ref().ok().copied()));
        RuleSetTrace { decided_by, results }
    }

    /// Returns the rule that decided, if a single rule did.
    pub fn deciding_rule(&self, decided_by: DecidedBy) -> Option<&Rule> {
        self.rules.get(decided_by.rule_index()?)
    }
}

/// Decides a rule set. `eval` returns the result of a rule, or `None` if the rule fails.
fn evaluate_rules(rules: &[Rule], mut eval: impl FnMut(usize, &Rule) -> Option<bool>) -> DecidedBy {
    let rules_with = |action| rules.iter().enumerate().filter(move |(_, rule)| rule.action == action);
    for (index, rule) in rules_with(RuleAction::Deny) {
        if eval(index, rule) != Some(false) {
            return DecidedBy::Deny(index);
        }
    }
    for (index, rule) in rules_with(RuleAction::Require) {
        if eval(index, rule) != Some(true) {
            return DecidedBy::Require(index);
        }
    }
    let mut undecided = DecidedBy::NoObjection;
    for (index, rule) in rules_with(RuleAction::Allow) {
        if eval(index, rule) == Some(true) {
            return DecidedBy::Allow(index);
        }
        undecided = DecidedBy::NoAllowMatched;
    }
    undecided
}

/// The results of all rules of a set, including those that the decision did not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSetTrace {
    /// The decision of the set.
    pub decided_by: DecidedBy,
    /// The result of each rule, in the order of the config.
    pub results: Vec<Result<bool, EvalError>>,
}
