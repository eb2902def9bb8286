//! The decision: a plain value that says whether a request may go on, and which rule said so.
//!
//! Every rule's outcome follows from what is kept here (the cause in each set, and the failures), so an allowed request
//! pays for nothing that is not rendered. [`RuleSet::trace`] evaluates every rule instead, for who wants to see all.

use std::borrow::Borrow;

use super::cel::expression::EvalError;
use super::cel::vars::{Activation, Vars};
use super::rules::{DecidedBy, EnforcementMode, Rule, RuleAction, RuleSet};
use crate::reason::{Reason, Rejection};

/// What one rule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleOutcome<'f> {
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
pub struct RuleFailure {
    /// The index of the set.
    pub set: usize,
    /// The index of the rule in the set.
    pub rule_index: usize,
    /// Why.
    pub error: EvalError,
}

/// How many sets' causes are kept without an allocation: a gateway's, a listener's, a route's, and one in shadow mode.
const INLINE_SETS: usize = 4;

/// The decision of all sets that apply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The causes of the sets, in their order, as far as they were reached.
    inline: [Option<DecidedBy>; INLINE_SETS],
    overflow: Vec<DecidedBy>,
    failures: Vec<RuleFailure>,
    /// The index of the enforced set that refused.
    rejected_by: Option<usize>,
    has_token: bool,
}

/// Proof that the rules let a request through. Only an allowing [`Authorization`] gives one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(());

/// Decides over all sets that apply to a request: every enforced one must allow. The first that refuses ends it. A set in
/// shadow mode is decided on the way and refuses nothing.
///
/// The methods of the result that take sets want the same ones, in the same order.
pub fn authorize<S: Borrow<RuleSet>>(sets: &[S], vars: &Vars<'_>) -> Authorization {
    let activation = Activation::new(vars);
    let mut authorization = Authorization {
        inline: [None; INLINE_SETS],
        overflow: Vec::new(),
        failures: Vec::new(),
        rejected_by: None,
        has_token: vars.token.is_some(),
    };
    for (set_index, set) in sets.iter().map(Borrow::borrow).enumerate() {
        let failures = &mut authorization.failures;
        let decided_by = set.evaluate(&activation, |rule, error| {
            failures.push(RuleFailure { set: set_index, rule_index: rule, error })
        });
        match authorization.inline.get_mut(set_index) {
            Some(slot) => *slot = Some(decided_by),
            None => authorization.overflow.push(decided_by),
        }
        if !decided_by.allows() && set.mode == EnforcementMode::Enforce {
            authorization.rejected_by = Some(set_index);
            break;
        }
    }
    authorization
}

impl Authorization {
    /// Whether the request may go on.
    pub fn allowed(&self) -> bool {
        self.rejected_by.is_none()
    }

    /// The proof that it may, if it may.
    pub fn permit(&self) -> Option<Permit> {
        self.allowed().then_some(Permit(()))
    }

    /// The refusal, if it is one.
    pub fn rejection(&self) -> Option<Rejection> {
        self.rejected_by.map(|_| Rejection { with_token: self.has_token, ..Rejection::new(Reason::Denied) })
    }

    /// What decided each set that was reached, by the set's index.
    pub fn set_decisions(&self) -> impl Iterator<Item = (usize, DecidedBy)> {
        self.inline.iter().flatten().chain(&self.overflow).copied().enumerate()
    }

    /// The set that decided, and its cause: the one that refused, or else the last enforced one, which is the most
    /// specific that was asked. `None` when no enforced set has rules.
    pub fn deciding_set<S: Borrow<RuleSet>>(&self, sets: &[S]) -> Option<(usize, DecidedBy)> {
        match self.rejected_by {
            Some(at) => self.set_decisions().nth(at),
            None => self
                .set_decisions()
                .filter(|(at, _)| {
                    get_set(sets, *at).is_some_and(|set| set.mode == EnforcementMode::Enforce && !set.rules.is_empty())
                })
                .last(),
        }
    }

    /// The name of the deciding rule, for logs and metrics. `none` where no single rule decided a refusal: there were
    /// allow rules, and none was true.
    pub fn deciding_rule_name<'s, S: Borrow<RuleSet>>(&self, sets: &'s [S]) -> Option<&'s str> {
        let (set_index, decided_by) = self.deciding_set(sets)?;
        match get_set(sets, set_index)?.deciding_rule(decided_by) {
            Some(rule) => Some(&rule.name),
            None => (!decided_by.allows()).then_some("none"),
        }
    }

    /// The sets in shadow mode that would have refused, with the cause.
    pub fn shadow_rejections<'s, S: Borrow<RuleSet>>(
        &self,
        sets: &'s [S],
    ) -> impl Iterator<Item = (&'s RuleSet, DecidedBy)> {
        self.set_decisions().filter_map(|(at, cause)| {
            get_set(sets, at)
                .filter(|set| set.mode == EnforcementMode::Shadow && !cause.allows())
                .map(|set| (set, cause))
        })
    }

    /// The rules that failed to evaluate.
    pub fn failures(&self) -> &[RuleFailure] {
        &self.failures
    }

    /// Every rule with what it came to, in the order of the config.
    pub fn rule_outcomes<'s, S: Borrow<RuleSet>>(
        &'s self,
        sets: &'s [S],
    ) -> impl Iterator<Item = (&'s RuleSet, &'s Rule, RuleOutcome<'s>)> {
        sets.iter().map(Borrow::borrow).enumerate().flat_map(move |(at, set): (usize, &'s RuleSet)| {
            let decided_by = self.set_decisions().nth(at).map(|(_, cause)| cause);
            set.rules.iter().enumerate().map(move |(index, rule)| {
                let failure = self.failures.iter().find(|failure| failure.set == at && failure.rule_index == index);
                (set, rule, rule_outcome(decided_by, index, rule.action, failure.map(|failure| &failure.error)))
            })
        })
    }
}

fn get_set<S: Borrow<RuleSet>>(sets: &[S], index: usize) -> Option<&RuleSet> {
    sets.get(index).map(Borrow::borrow)
}

/// A rule's outcome, from what decided its set.
fn rule_outcome<'f>(
    decided_by: Option<DecidedBy>,
    index: usize,
    action: RuleAction,
    error: Option<&'f EvalError>,
) -> RuleOutcome<'f> {
    if let Some(error) = error {
        return RuleOutcome::Failed(error);
    }
    let Some(cause) = decided_by else { return RuleOutcome::NotReached };
    let rank = |action| match action {
        RuleAction::Deny => 0,
        RuleAction::Require => 1,
        RuleAction::Allow => 2,
    };
    let deciding_rank = match cause {
        DecidedBy::Deny(at) => (0, at),
        DecidedBy::Require(at) => (1, at),
        DecidedBy::Allow(at) => (2, at),
        DecidedBy::NoObjection | DecidedBy::NoAllowMatched => (3, 0),
    };
    let rule_rank = (rank(action), index);
    match rule_rank.cmp(&deciding_rank) {
        std::cmp::Ordering::Greater => RuleOutcome::NotReached,
        // The rule that decided: a deny and an allow by being true, a require by being false.
        std::cmp::Ordering::Equal if action != RuleAction::Require => RuleOutcome::True,
        std::cmp::Ordering::Equal => RuleOutcome::False,
        std::cmp::Ordering::Less if action == RuleAction::Require => RuleOutcome::True,
        std::cmp::Ordering::Less => RuleOutcome::False,
    }
}
