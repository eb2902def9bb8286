//! The authorization of one request: whether it may continue, and which rule decided.
//!
//! The result records the decision of each rule set and the rules that failed, so a request that is allowed allocates
//! nothing for explanations. [`RuleSet::trace`] evaluates every rule, for tools that explain a decision.

use std::borrow::Borrow;

use super::cel::error::EvalError;
use super::cel::vars::{Activation, Vars};
use super::rules::{DecidedBy, EnforcementMode, RuleSet};
use crate::reason::{Reason, Rejection};

/// A rule that failed to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFailure {
    /// The index of the rule set.
    pub set_index: usize,
    /// The index of the rule in the set.
    pub rule_index: usize,
    /// The error of the evaluation.
    pub error: EvalError,
}

/// The number of rule sets whose decisions are stored without an allocation: those of a gateway, a listener and a route,
/// and one in shadow mode.
const INLINE_SETS: usize = 4;

/// The decision of all sets that apply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The decisions of the sets that were evaluated, in the order of the sets.
    inline: [Option<DecidedBy>; INLINE_SETS],
    overflow: Vec<DecidedBy>,
    failures: Vec<RuleFailure>,
    /// The index of the enforced set that rejected the request.
    rejected_by: Option<usize>,
    has_token: bool,
}

/// Proof that the rules allow a request. Only [`Authorization::permit`] creates one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit(());

/// Evaluates all rule sets that apply to a request. Every enforced set must allow it, and the evaluation stops at the first
/// one that does not. A set in shadow mode is evaluated in its position, but rejects nothing.
///
/// Methods of the result that take sets must be called with the same sets in the same order.
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
        let decided_by =
            set.evaluate(&activation, |rule, error| failures.push(RuleFailure { set_index, rule_index: rule, error }));
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
    /// Reports whether the request may continue.
    pub fn allowed(&self) -> bool {
        self.rejected_by.is_none()
    }

    /// Returns the proof that the request may continue, if it may.
    pub fn permit(&self) -> Option<Permit> {
        self.allowed().then_some(Permit(()))
    }

    /// Returns the rejection of a request that may not continue.
    pub fn rejection(&self) -> Option<Rejection> {
        self.rejected_by.map(|_| Rejection { with_token: self.has_token, ..Rejection::new(Reason::Denied) })
    }

    /// Returns the decision of each set that was evaluated, with the index of the set.
    pub fn set_decisions(&self) -> impl Iterator<Item = (usize, DecidedBy)> {
        self.inline.iter().flatten().chain(&self.overflow).copied().enumerate()
    }

    /// Returns the set that decided, and its decision: the set that rejected the request, or otherwise the last enforced
    /// one, which is the most specific. Returns `None` if no enforced set has rules.
    pub fn deciding_set<S: Borrow<RuleSet>>(&self, sets: &[S]) -> Option<(usize, DecidedBy)> {
        match self.rejected_by {
            Some(index) => self.set_decisions().nth(index),
            None => self
                .set_decisions()
                .filter(|(index, _)| {
                    get_set(sets, *index)
                        .is_some_and(|set| set.mode == EnforcementMode::Enforce && !set.rules.is_empty())
                })
                .last(),
        }
    }

    /// Returns the name of the deciding rule, for logs and metrics. The name is `none` if the request was rejected because
    /// none of the allow rules was true.
    pub fn deciding_rule_name<'s, S: Borrow<RuleSet>>(&self, sets: &'s [S]) -> Option<&'s str> {
        let (set_index, decided_by) = self.deciding_set(sets)?;
        match get_set(sets, set_index)?.deciding_rule(decided_by) {
            Some(rule) => Some(&rule.name),
            None => (!decided_by.allows()).then_some("none"),
        }
    }

    /// Returns the sets in shadow mode that would have rejected the request, with their decisions.
    #[cfg(test)]
    pub(crate) fn shadow_rejections<'s, S: Borrow<RuleSet>>(
        &self,
        sets: &'s [S],
    ) -> impl Iterator<Item = (&'s RuleSet, DecidedBy)> {
        self.set_decisions().filter_map(|(index, decided_by)| {
            get_set(sets, index)
                .filter(|set| set.mode == EnforcementMode::Shadow && !decided_by.allows())
                .map(|set| (set, decided_by))
        })
    }

    /// Returns the rules that failed to evaluate.
    pub fn failures(&self) -> &[RuleFailure] {
        &self.failures
    }
}

fn get_set<S: Borrow<RuleSet>>(sets: &[S], index: usize) -> Option<&RuleSet> {
    sets.get(index).map(Borrow::borrow)
}
