//! The decision: a plain value that says whether a request may go on, and which rule said so.
//!
//! Every rule's outcome follows from what is kept here (the cause in each set, and the failures), so an allowed request
//! pays for nothing that is not rendered. [`RuleSet::trace`] evaluates every rule instead, for who wants to see all.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expr::{EvalError, Expression};
use super::vars::{Vars, View};
use crate::reason::{Reason, Rejection};
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

    /// What `validate` should warn of: a deny that refuses whoever lacks a claim that it reads.
    pub fn warning(&self) -> Option<String> {
        let claim = self.expression.unguarded().first().filter(|_| self.kind == Kind::Deny)?;
        let source = self.expression.source();
        Some(match claim.ends_with(']') {
            true => format!("this deny also refuses every token without `{claim}`, since it then fails to evaluate"),
            false => format!(
                "this deny also refuses every token without `{claim}`, since it then fails to evaluate; to refuse only \
                 who has it, write: has({claim}) && ({source})"
            ),
        })
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

/// What one rule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'f> {
    /// It was true.
    True,
    /// It was false.
    False,
    /// It failed to evaluate.
    Failed(&'f EvalError),
    /// The decision was made before it.
    NotReached,
}

/// A rule that failed to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The index of the set.
    pub set: usize,
    /// The index of the rule in the set.
    pub rule: usize,
    /// Why.
    pub error: EvalError,
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

    fn cause(&self, view: &View<'_>, mut failed: impl FnMut(usize, EvalError)) -> Cause {
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

/// How many sets' causes are kept without an allocation: a gateway's, a listener's, a route's, and one in shadow mode.
const INLINE: usize = 4;

/// The decision of all sets that apply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The causes of the sets, in their order, as far as they were reached.
    first: [Option<Cause>; INLINE],
    rest: Vec<Cause>,
    failures: Vec<Failure>,
    /// The index of the enforced set that refused.
    refused: Option<usize>,
    with_token: bool,
}

/// Proof that the rules let a request through. Only an allowing [`Authorization`] gives one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(());

/// Decides over all sets that apply to a request: every enforced one must allow. The first that refuses ends it. A set in
/// shadow mode is decided on the way and refuses nothing.
///
/// The methods of the result that take sets want the same ones, in the same order.
pub fn authorize<S: Borrow<RuleSet>>(sets: &[S], vars: &Vars<'_>) -> Authorization {
    let view = View::new(vars);
    let mut authorization = Authorization {
        first: [None; INLINE],
        rest: Vec::new(),
        failures: Vec::new(),
        refused: None,
        with_token: vars.subject.is_some(),
    };
    for (at, set) in sets.iter().map(Borrow::borrow).enumerate() {
        let failures = &mut authorization.failures;
        let cause = set.cause(&view, |rule, error| failures.push(Failure { set: at, rule, error }));
        match authorization.first.get_mut(at) {
            Some(slot) => *slot = Some(cause),
            None => authorization.rest.push(cause),
        }
        if !cause.allows() && set.mode == Mode::Enforce {
            authorization.refused = Some(at);
            break;
        }
    }
    authorization
}

impl Authorization {
    /// Whether the request may go on.
    pub fn allowed(&self) -> bool {
        self.refused.is_none()
    }

    /// The proof that it may, if it may.
    pub fn permit(&self) -> Option<Permit> {
        self.allowed().then_some(Permit(()))
    }

    /// The refusal, if it is one.
    pub fn rejection(&self) -> Option<Rejection> {
        self.refused.map(|_| Rejection { with_token: self.with_token, ..Rejection::new(Reason::Denied) })
    }

    /// What decided each set that was reached, by the set's index.
    pub fn causes(&self) -> impl Iterator<Item = (usize, Cause)> {
        self.first.iter().flatten().chain(&self.rest).copied().enumerate()
    }

    /// The set that decided, and its cause: the one that refused, or else the last enforced one, which is the most
    /// specific that was asked. `None` when no enforced set has rules.
    pub fn deciding<S: Borrow<RuleSet>>(&self, sets: &[S]) -> Option<(usize, Cause)> {
        match self.refused {
            Some(at) => self.causes().nth(at),
            None => self
                .causes()
                .filter(|(at, _)| {
                    set_at(sets, *at).is_some_and(|set| set.mode == Mode::Enforce && !set.rules.is_empty())
                })
                .last(),
        }
    }

    /// The name of the deciding rule, for logs and metrics. `none` where no single rule decided a refusal: there were
    /// allow rules, and none was true.
    pub fn rule_name<'s, S: Borrow<RuleSet>>(&self, sets: &'s [S]) -> Option<&'s str> {
        let (at, cause) = self.deciding(sets)?;
        match set_at(sets, at)?.rule(cause) {
            Some(rule) => Some(&rule.name),
            None => (!cause.allows()).then_some("none"),
        }
    }

    /// The sets in shadow mode that would have refused, with the cause.
    pub fn shadow_refusals<'s, S: Borrow<RuleSet>>(&self, sets: &'s [S]) -> impl Iterator<Item = (&'s RuleSet, Cause)> {
        self.causes().filter_map(|(at, cause)| {
            set_at(sets, at).filter(|set| set.mode == Mode::Shadow && !cause.allows()).map(|set| (set, cause))
        })
    }

    /// The rules that failed to evaluate.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Every rule with what it came to, in the order of the config.
    pub fn outcomes<'s, S: Borrow<RuleSet>>(
        &'s self,
        sets: &'s [S],
    ) -> impl Iterator<Item = (&'s RuleSet, &'s Rule, Outcome<'s>)> {
        sets.iter().map(Borrow::borrow).enumerate().flat_map(move |(at, set): (usize, &'s RuleSet)| {
            let cause = self.causes().nth(at).map(|(_, cause)| cause);
            set.rules.iter().enumerate().map(move |(index, rule)| {
                let failed = self.failures.iter().find(|failure| failure.set == at && failure.rule == index);
                (set, rule, outcome(cause, index, rule.kind, failed.map(|failure| &failure.error)))
            })
        })
    }
}

fn set_at<S: Borrow<RuleSet>>(sets: &[S], at: usize) -> Option<&RuleSet> {
    sets.get(at).map(Borrow::borrow)
}

/// A rule's outcome, from what decided its set.
fn outcome<'f>(cause: Option<Cause>, index: usize, kind: Kind, failed: Option<&'f EvalError>) -> Outcome<'f> {
    if let Some(error) = failed {
        return Outcome::Failed(error);
    }
    let Some(cause) = cause else { return Outcome::NotReached };
    let rank = |kind| match kind {
        Kind::Deny => 0,
        Kind::Require => 1,
        Kind::Allow => 2,
    };
    let last = match cause {
        Cause::Denied(at) => (0, at),
        Cause::Required(at) => (1, at),
        Cause::Allowed(at) => (2, at),
        Cause::NothingObjects | Cause::NoneAllows => (3, 0),
    };
    let this = (rank(kind), index);
    match this.cmp(&last) {
        std::cmp::Ordering::Greater => Outcome::NotReached,
        // The rule that decided: a deny and an allow by being true, a require by being false.
        std::cmp::Ordering::Equal if kind != Kind::Require => Outcome::True,
        std::cmp::Ordering::Equal => Outcome::False,
        std::cmp::Ordering::Less if kind == Kind::Require => Outcome::True,
        std::cmp::Ordering::Less => Outcome::False,
    }
}
