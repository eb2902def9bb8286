//! Rules and sets of rules: what was compiled, and how one set decides (SPEC §6).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cel::expression::{EvalError, Expression};
use super::cel::vars::{Activation, Vars};
use crate::config::PolicyLevel;
use crate::request::UnixTime;

/// What a rule does when it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Lets the request through, unless a deny or a require objects.
    Allow,
    /// Refuses the request; also when it fails to evaluate.
    Deny,
    /// Refuses the request unless it is true.
    Require,
}

impl RuleAction {
    /// The kind's key in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Require => "require",
        }
    }
}

/// Whether a set's decision counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnforcementMode {
    /// It does.
    #[default]
    Enforce,
    /// It is made, logged and counted, and refuses nothing.
    Shadow,
}

impl EnforcementMode {
    /// The mode's word in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// Where something was written: `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceLocation(pub Arc<str>);

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// What it does when it is true.
    pub action: RuleAction,
    /// Its name in logs and metrics.
    pub name: Box<str>,
    /// Its condition, compiled for [`Scope::Rule`](super::Scope::Rule).
    pub expression: Expression,
    /// Where it was written.
    pub location: SourceLocation,
    /// When its failure was last told: seconds since the epoch.
    last_failure_log: AtomicU64,
}

impl Rule {
    /// A rule. One without a name of its own is called by its kind and its place in the list: `allow[0]`.
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

    /// Whether a failure of this rule should be logged now: once a minute at most, whoever asks.
    pub fn should_log_failure(&self, now: UnixTime) -> bool {
        let now = now.0 as u64;
        let last = self.last_failure_log.load(Ordering::Relaxed);
        now >= last.saturating_add(60)
            && self.last_failure_log.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// What `validate` should warn of: a deny that refuses every request that lacks a claim or header that it reads.
    pub fn unguarded_read_warning(&self) -> Option<String> {
        let path = self.expression.unguarded_reads().first().filter(|_| self.action == RuleAction::Deny)?;
        Some(format!(
            "this deny also refuses every request without `{path}`, since it then fails to evaluate; to refuse only those \
             that have it, write: has({path}) && ({})",
            self.expression.source()
        ))
    }
}

/// The rules of one level.
#[derive(Debug)]
pub struct RuleSet {
    /// Whether its decision counts.
    pub mode: EnforcementMode,
    /// Where it applies.
    pub level: PolicyLevel,
    /// Where it was written.
    pub location: SourceLocation,
    /// Its rules, in the order of the config. None at all allow.
    pub rules: Vec<Rule>,
}

/// What decided a set: the index is that of the rule in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// Allowed, since there is no allow rule and nothing objected.
    NoObjection,
    /// Allowed by this allow rule.
    Allow(usize),
    /// Refused by this deny rule, which was true or failed.
    Deny(usize),
    /// Refused by this require rule, which was false or failed.
    Require(usize),
    /// Refused, since there are allow rules and none was true.
    NoAllowMatched,
}

impl DecidedBy {
    /// Whether the set lets the request through.
    pub const fn allows(self) -> bool {
        matches!(self, Self::NoObjection | Self::Allow(_))
    }

    /// The rule that decided, if it was one rule.
    pub const fn rule_index(self) -> Option<usize> {
        match self {
            Self::Allow(rule) | Self::Deny(rule) | Self::Require(rule) => Some(rule),
            Self::NoObjection | Self::NoAllowMatched => None,
        }
    }
}

/// The decision of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDecision {
    /// What decided.
    pub decided_by: DecidedBy,
    /// The rules that failed on the way, by their index.
    pub failures: Vec<(usize, EvalError)>,
}

impl RuleSet {
    /// Decides: denies first, then requires, then allows, each in the order of the config, until one decides.
    pub fn decide(&self, vars: &Vars<'_>) -> SetDecision {
        let mut failures = Vec::new();
        let decided_by = self.evaluate(&Activation::new(vars), |rule, error| failures.push((rule, error)));
        SetDecision { decided_by, failures }
    }

    pub(super) fn evaluate(
        &self,
        activation: &Activation<'_>,
        mut on_failure: impl FnMut(usize, EvalError),
    ) -> DecidedBy {
        evaluate_rules(&self.rules, |at, rule| {
            rule.expression.eval_bool_in(activation).map_err(|error| on_failure(at, error)).ok()
        })
    }

    /// Every rule's result, none left out, and the same decision.
    pub fn trace(&self, vars: &Vars<'_>) -> RuleSetTrace {
        let activation = Activation::new(vars);
        let results: Vec<Result<bool, EvalError>> =
            self.rules.iter().map(|rule| rule.expression.eval_bool_in(&activation)).collect();
        let decided_by =
            evaluate_rules(&self.rules, |at, _| results.get(at).and_then(|result| result.as_ref().ok().copied()));
        RuleSetTrace { decided_by, results }
    }

    /// The rule that decided.
    pub fn deciding_rule(&self, decided_by: DecidedBy) -> Option<&Rule> {
        self.rules.get(decided_by.rule_index()?)
    }
}

/// The semantics of SPEC §6. `test` gives a rule's result, or `None` when it fails.
fn evaluate_rules(rules: &[Rule], mut eval: impl FnMut(usize, &Rule) -> Option<bool>) -> DecidedBy {
    let rules_with = |action| rules.iter().enumerate().filter(move |(_, rule)| rule.action == action);
    for (at, rule) in rules_with(RuleAction::Deny) {
        if eval(at, rule) != Some(false) {
            return DecidedBy::Deny(at);
        }
    }
    for (at, rule) in rules_with(RuleAction::Require) {
        if eval(at, rule) != Some(true) {
            return DecidedBy::Require(at);
        }
    }
    let mut undecided = DecidedBy::NoObjection;
    for (at, rule) in rules_with(RuleAction::Allow) {
        if eval(at, rule) == Some(true) {
            return DecidedBy::Allow(at);
        }
        undecided = DecidedBy::NoAllowMatched;
    }
    undecided
}

/// What every rule of a set gives, also those that the decision did not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSetTrace {
    /// What decides.
    pub decided_by: DecidedBy,
    /// The result of each rule, in the order of the config.
    pub results: Vec<Result<bool, EvalError>>,
}
