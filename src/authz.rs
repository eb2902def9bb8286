//! Authorization: CEL rules over the request and the claims, and which of them decided.
//!
//! Fails closed: a `deny` that fails to evaluate denies, a `require` or an `allow` that fails does not allow, and every
//! level that has rules must allow by itself. This module knows no config, no I/O and no clock.

mod decision;
mod expr;
mod functions;
mod json;
mod lint;
mod lower;
mod names;
mod steps;
mod types;
mod vars;

pub use decision::{
    Authorization, Cause, Failure, Kind, Level, Mode, Origin, Outcome, Permit, Rule, RuleSet, Trace, Verdict, authorize,
};
pub use expr::{EvalError, Expression, Fault, MAX_SOURCE, Scope, with_big_stack};
pub use vars::{Response, Subject, Vars};

#[cfg(test)]
mod tests;
