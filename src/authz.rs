//! Authorization: CEL rules over the request and the claims, and which of them decided.
//!
//! Fails closed: a `deny` that fails to evaluate denies, a `require` or an `allow` that fails does not allow, and every
//! level that has rules must allow by itself. This module knows no config, no I/O and no clock.
//!
//! The parser, the interpreter and the standard library are those of the `cel` crate; no other module names it. What
//! stands around it, because it lacks it or gets it wrong (found with the CEL project's conformance cases and our own):
//!
//! * its lists and maps equal and hold only one another, so `["a"] != jwt.groups` was always true:
//!   `check::operators` puts our equality in place wherever a list or a map may stand;
//! * it compiles the regex of `matches` at each evaluation, and has no limit of steps or size: `functions`, `budget`;
//! * its parser and interpreter descend without a limit of their own, and overflow a worker's stack on long chains: deep
//!   expressions are refused, or run on a thread with a big stack: `expr`;
//! * `has(a["b"])` is no syntax of it: `macros`;
//! * nothing is checked before it runs, not even names: `lower`;
//! * its errors print values, which may be claims: `expr` words them anew.

mod authorize;
pub mod cel;
mod reference;
mod rules;

pub use authorize::{Authorization, Permit, RuleFailure, RuleOutcome, authorize};
pub use cel::expression::{CompileError, EvalError, Expression, MAX_SOURCE_LEN, Scope, with_deep_stack};
pub use cel::facts::claim_path_text;
pub use cel::vars::{ResponseHead, Vars, VerifiedToken};
pub use reference::{Variable, functions, variables};
pub use rules::{DecidedBy, EnforcementMode, Rule, RuleAction, RuleSet, RuleSetTrace, SetDecision, SourceLocation};

#[cfg(test)]
mod tests;
