//! Rules and sets of rules: what was compiled, and how one set decides (SPEC §6).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expr::{EvalError, Expression};
use super::vars::{Vars, View};
use crate::request::UnixTime;

/// What a rule does when it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lets the request through, unless a deny or a require objects.
    Allow,
    /// Refuses the request; also when it fails to evaluate.
    Deny,
    /// Refuses the request unless it is true.
    Require,
}

impl Kind {
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
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is made, logged and counted, and refuses nothing.
    Shadow,
}

impl Mode {
    /// The mode's word in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
        }
    }
}

/// Where a set applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All requests of a gateway.
    Gateway,
    /// All requests of a listener.
    Listener,
    /// The requests of one route.
    Route,
}

impl Level {
    /// The level's word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }
}

/// Where something was written: `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin(pub Arc<str>);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// What it does when it is true.
    pub kind: Kind,
    /// Its name in logs and metrics.
    pub name: Box<str>,
    /// Its condition, compiled for [`Scope::Rule`](super::Scope::Rule).
    pub expression: Expression,
    /// Where it was written.
    pub origin: Origin,
    /// When its failure was last told: seconds since the epoch.
    told: AtomicU64,
}

impl Rule {
    /// A rule. One without a name of its own is called by its kind and its place in the list: `allow[0]`.
    pub fn new(kind: Kind, name: Option<&str>, index: usize, expression: Expression, origin: Origin) -> Self {
        let name = name.map_or_else(|| format!("{}[{index}]", kind.as_str()).into(), Into::into);
        Self { kind, name, expression, origin, told: AtomicU64::new(0) }
    }

    /// Whether a failure of this rule should be logged now: once a minute at most, whoever asks.
    pub fn tell_failure(&self, now: UnixTime) -> bool {
        let now = now.0 as u64;
        let told = self.told.load(Ordering::Relaxed);
        now >= told.saturating_add(60)
            && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// What `validate` should warn of: a deny that refuses every request that lacks a claim or header that it reads.
    pub fn warning(&self) -> Option<String> {
        let path = self.expression.unguarded().first().filter(|_| self.kind == Kind::Deny)?;
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
    pub mode: Mode,
    /// Where it applies.
    pub level: Level,
    /// Where it was written.
    pub origin: Origin,
    /// Its rules, in the order of the config. None at all allow.
    pub rules: Vec<Rule>,
}

/// What decided a set: the index is that of the rule in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Allowed, since there is no allow rule and nothing objected.
    NothingObjects,
    /// Allowed by this allow rule.
    Allowed(usize),
    /// Refused by this deny rule, which was true or failed.
    Denied(usize),
    /// Refused by this require rule, which was false or failed.
    Required(usize),
    /// Refused, since there are allow rules and none was true.
    NoneAllows,
}

impl Cause {
    /// Whether the set lets the request through.
    pub const fn allows(self) -> bool {
        matches!(self, Self::NothingObjects | Self::Allowed(_))
    }

    /// The rule that decided, if it was one rule.
    pub const fn rule(self) -> Option<usize> {
        match self {
            Self::Allowed(rule) | Self::Denied(rule) | Self::Required(rule) => Some(rule),
            Self::NothingObjects | Self::NoneAllows => None,
        }
    }
}

/// The decision of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What decided.
    pub cause: Cause,
    /// The rules that failed on the way, by their index.
    pub failures: Vec<(usize, EvalError)>,
}

impl RuleSet {
    /// Decides: denies first, then requires, then allows, each in the order of the config, until one decides.
    pub fn decide(&self, vars: &Vars<'_>) -> Verdict {
        let mut failures = Vec::new();
        let cause = self.cause(&View::new(vars), |rule, error| failures.push((rule, error)));
        Verdict { cause, failures }
    }

    pub(super) fn cause(&self, view: &View<'_>, mut failed: impl FnMut(usize, EvalError)) -> Cause {
        cause(&self.rules, |at, rule| rule.expression.test_in(view).map_err(|error| failed(at, error)).ok())
    }

    /// Every rule's result, none left out, and the same decision.
    pub fn trace(&self, vars: &Vars<'_>) -> Trace {
        let view = View::new(vars);
        let results: Vec<Result<bool, EvalError>> =
            self.rules.iter().map(|rule| rule.expression.test_in(&view)).collect();
        let cause = cause(&self.rules, |at, _| results.get(at).and_then(|result| result.as_ref().ok().copied()));
        Trace { cause, results }
    }

    /// The rule that decided.
    pub fn rule(&self, cause: Cause) -> Option<&Rule> {
        self.rules.get(cause.rule()?)
    }
}

/// The semantics of SPEC §6. `test` gives a rule's result, or `None` when it fails.
fn cause(rules: &[Rule], mut test: impl FnMut(usize, &Rule) -> Option<bool>) -> Cause {
    let of = |kind| rules.iter().enumerate().filter(move |(_, rule)| rule.kind == kind);
    for (at, rule) in of(Kind::Deny) {
        if test(at, rule) != Some(false) {
            return Cause::Denied(at);
        }
    }
    for (at, rule) in of(Kind::Require) {
        if test(at, rule) != Some(true) {
            return Cause::Required(at);
        }
    }
    let mut without = Cause::NothingObjects;
    for (at, rule) in of(Kind::Allow) {
        if test(at, rule) == Some(true) {
            return Cause::Allowed(at);
        }
        without = Cause::NoneAllows;
    }
    without
}

/// What every rule of a set gives, also those that the decision did not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// What decides.
    pub cause: Cause,
    /// The result of each rule, in the order of the config.
    pub results: Vec<Result<bool, EvalError>>,
}
