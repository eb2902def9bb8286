//! The decision: a plain value that says whether a request may go on, and which rule said so.
//!
//! Every rule's outcome follows from what is kept here (the cause in each set, and the failures), so an allowed request
//! pays for nothing that is not rendered. [`RuleSet::trace`] evaluates every rule instead, for who wants to see all.

use std::borrow::Borrow;

use super::expr::EvalError;
use super::rules::{Cause, Kind, Mode, Rule, RuleSet};
use super::vars::{Vars, View};
use crate::reason::{Reason, Rejection};

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
