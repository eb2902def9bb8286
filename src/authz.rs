//! Authorization: CEL rules over the request and the claims, and which of them decided.
//!
//! Fails closed: a `deny` that fails to evaluate denies, a `require` or an `allow` that fails does not allow, and every
//! level that has rules must allow by itself. This module knows no config, no I/O and no clock.

mod decision;
mod expr;
mod functions;
mod json;
mod lower;
mod macros;
mod names;
mod rules;
mod steps;
mod types;
mod vars;

pub use decision::{Authorization, Failure, Outcome, Permit, authorize};
pub use expr::{EvalError, Expression, Fault, MAX_SOURCE, Scope, with_big_stack};
pub use rules::{Cause, Kind, Level, Mode, Origin, Rule, RuleSet, Trace, Verdict};
pub use vars::{Response, Subject, Vars};

#[cfg(test)]
mod tests;
